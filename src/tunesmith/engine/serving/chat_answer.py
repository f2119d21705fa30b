"""One answer to a conversation as it is generated: its parts, their tokens, its end.

Joins the text of the tokens, the parser that says what is thought, said and called, and the stop
sequences. These end what the model says, never what it thinks or the arguments of a call.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .answer_parser import AnswerParser, TextSpan
from .detokenizer import IncrementalDetokenizer, partial_stop_length
from .tool_call_parser import CallDelta

__all__ = ["AnswerPiece", "ChatAnswer"]


@dataclass(frozen=True, slots=True)
class AnswerPiece:
    """What is new of an answer.

    Attributes:
        content: Text that the model says.
        reasoning: Text that it thinks.
        calls: What is new of the calls; of each call one entry.
        tokens: The numbers of the tokens of `content`.
    """

    content: str = ""
    reasoning: str = ""
    calls: tuple[CallDelta, ...] = ()
    tokens: tuple[int, ...] = ()


@dataclass(slots=True)
class ChatAnswer:
    """One answer to a conversation.

    Args:
        parser: Tells the parts of the answer apart.
        stops: The stop sequences.

    Attributes:
        stopped: True once a stop sequence was found in the content, which ends before it.
        reasoning_tokens: How many tokens of thoughts have been reported.
    """

    parser: AnswerParser
    stops: tuple[str, ...] = ()
    stopped: bool = False
    reasoning_tokens: int = 0
    _detokenizer: IncrementalDetokenizer = field(default_factory=IncrementalDetokenizer)
    _content: str = ""
    _spans: list[TextSpan] = field(default_factory=list[TextSpan])  # of tokens not yet reported
    _reasoning: list[str] = field(default_factory=list[str])
    _calls: list[CallDelta] = field(default_factory=list[CallDelta])
    _taken_characters: int = 0
    _taken_tokens: int = 0

    @property
    def has_calls(self) -> bool:
        """True once a call has begun."""
        return self.parser.calls_begun > 0

    @property
    def is_complete(self) -> bool:
        """True once nothing more may come."""
        return self.stopped or self.parser.done

    def append(self, data: bytes) -> None:
        """Add the bytes of the next token (none, for a control token that marks nothing)."""
        self._detokenizer.append(data)
        self._advance(final=False)

    def take(self, *, final: bool) -> AnswerPiece:
        """Return what has become final since the last call; with `final`, all that is left."""
        if final and not self.stopped:
            self._advance(final=True)
        end = len(self._content)
        if not final:
            end -= partial_stop_length(self._content, self.stops)
        content = self._content[self._taken_characters : end]
        tokens = self._take_tokens(end, final=final)
        piece = AnswerPiece(content, "".join(self._reasoning), _joined(self._calls), tokens)
        self._taken_characters = end
        self._reasoning.clear()
        self._calls.clear()
        return piece

    def _advance(self, *, final: bool) -> None:
        text = self._detokenizer.text
        self.parser.advance(text, final=final)
        for part in self.parser.parts:
            if self.stopped:
                break
            if isinstance(part, CallDelta):
                self._calls.append(part)
            elif part.kind == "reasoning":
                self._reasoning.append(text[part.start : part.end])
                self._add_span(part)
            else:
                self._say(text, part)
        self.parser.parts.clear()

    def _say(self, text: str, part: TextSpan) -> None:
        """Add to the content, up to the first stop sequence."""
        before = len(self._content)
        self._content += text[part.start : part.end]
        cuts = [
            found
            for stop in self.stops
            if (found := self._content.find(stop, max(0, before - len(stop) + 1))) >= 0
        ]
        if cuts:
            self.stopped = True
            self._content = self._content[: min(cuts)]
        end = part.start + len(self._content) - before
        self._add_span(TextSpan("content", part.start, end))

    def _add_span(self, part: TextSpan) -> None:
        """Add a span; join it to the one before, where nothing stands between them."""
        last = self._spans[-1] if self._spans else None
        if last is not None and last.kind == part.kind and last.end == part.start:
            self._spans[-1] = TextSpan(part.kind, last.start, part.end)
        else:
            self._spans.append(part)

    def _take_tokens(self, end: int, *, final: bool) -> tuple[int, ...]:
        """Return the tokens of the content up to a place in it, and count those of thoughts.

        The spans that they lie in are in order, as they are; a token belongs to the first one that
        it shares a character with.
        """
        starts, ends = self._detokenizer.starts, self._detokenizer.ends
        complete = len(starts) if final else self._detokenizer.complete_tokens
        shown = self._shown_place(end)
        tokens = list[int]()
        number = self._taken_tokens
        while number < complete:
            first, last = starts[number], max(ends[number], starts[number] + 1)
            while self._spans and self._spans[0].end <= first and len(self._spans) > 1:
                self._spans.pop(0)
            span = next((one for one in self._spans if first < one.end and one.start < last), None)
            if span is None:
                if not final and last > self.parser.decided:
                    break
            elif span.kind == "reasoning":
                self.reasoning_tokens += 1
            elif not final and min(last, span.end) > shown:
                break
            elif not (self.stopped and first >= shown):
                tokens.append(number)
            number += 1
        self._taken_tokens = number
        return tuple(tokens)

    def _shown_place(self, end: int) -> int:
        """Return the place in the text up to which the content is reported."""
        held = len(self._content) - end
        contents = [span for span in self._spans if span.kind == "content"]
        return contents[-1].end - held if contents else 0


def _joined(deltas: list[CallDelta]) -> tuple[CallDelta, ...]:
    """Return one entry for each call."""
    joined = dict[int, CallDelta]()
    for delta in deltas:
        known = joined.get(delta.index)
        joined[delta.index] = (
            delta
            if known is None
            else CallDelta(delta.index, known.arguments + delta.arguments, known.id, known.name)
        )
    return tuple(joined.values())
