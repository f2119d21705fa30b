"""Separates the text of an answer into what the model thinks, what it says, and tools it calls.

Text is passed on as soon as it is certain what it is. A call that is broken before its name is
known, or that calls a tool that the request does not have, is text of the answer: nothing that a
model has written is lost. Knows no tokens.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from tunesmith.engine.domain.answer_syntax import CALL_SYNTAXES, HARMONY

from .growing_text import GrowingText, Steps, UnexpectedTextError
from .tool_call_parser import ToolCallParser

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tunesmith.engine.domain.answer_syntax import AnswerSyntax

    from .tool_call_parser import CallDelta

__all__ = ["AnswerParser", "TextSpan"]

TextKind: TypeAlias = Literal["content", "reasoning"]

# What opens a section of calls in any syntax, and what closes it.
_SECTIONS: dict[str, str] = {
    "<tool_call>": "</tool_call>",
    "<tool_calls>": "</tool_calls>",
    "<function_calls>": "</function_calls>",
    "<seed:tool_call>": "</seed:tool_call>",
    "<minimax:tool_call>": "</minimax:tool_call>",
    "<TOOLCALL>": "</TOOLCALL>",
    "<|START_ACTION|>": "<|END_ACTION|>",
    "<|tool_call_start|>": "<|tool_call_end|>",
    "<|tool_calls_section_begin|>": "<|tool_calls_section_end|>",
    "<｜tool▁calls▁begin｜>": "<｜tool▁calls▁end｜>",
    "<｜DSML｜function_calls>": "</｜DSML｜function_calls>",
    "<|tool_call>": "<tool_call|>",
    "<start_function_call>": "<end_function_call>",
    "<|tool_call|>": "",
    "<|python_tag|>": "",
    "[TOOL_CALLS]": "",
}
# Those that a model may use whatever its syntax is: a fine-tuned model as its rows were written.
_COMMON_SECTIONS = ("<tool_call>",)
_OPTIONAL_ENDS = ("<|/tool_call|>",)

_CHANNEL, _MESSAGE, _START = "<|channel|>", "<|message|>", "<|start|>"
_HARMONY_ENDS = ("<|end|>", _START, _CHANNEL, "<|call|>", "<|return|>")
_RECIPIENT = re.compile(r"\bto=([^\s<]+)")
_CHANNEL_NAME = re.compile(r"<\|channel\|>\s*([a-z]+)")


class TextSpan(NamedTuple):
    """A part of the answer's text.

    Attributes:
        kind: "reasoning" for what the model thinks, "content" for what it says.
        start: Where it begins.
        end: Where it ends.
    """

    kind: TextKind
    start: int
    end: int


@dataclass(slots=True)
class AnswerParser:
    """The parts of one answer as it grows.

    Args:
        syntax: The model's syntax.
        functions: The schema of the arguments of each tool that may be called, by its name. With
            none, calls are text.
        parallel: Whether there may be several calls; otherwise the answer ends with the first.
        thinking: Whether the prompt has already opened the thoughts.

    Attributes:
        parts: What is new, in order; whoever takes it clears the list.
        decided: Up to where it is certain what the text is.
        done: True once nothing more may come: the only call is complete.
    """

    syntax: AnswerSyntax
    functions: Mapping[str, Mapping[str, Any]]
    parallel: bool = True
    thinking: bool = False
    parts: list[TextSpan | CallDelta] = field(default_factory=list["TextSpan | CallDelta"])
    decided: int = 0
    done: bool = False
    _text: GrowingText = field(default_factory=GrowingText)
    _calls: ToolCallParser = field(init=False)
    _steps: Steps[None] | None = field(init=False)
    _sections: tuple[str, ...] = ()
    _has_content: bool = False
    _follows_markup: bool = False

    def __post_init__(self) -> None:
        call = CALL_SYNTAXES.get(self.syntax.calls)
        self._calls = ToolCallParser(
            self._text,
            self.functions,
            self._add_call,
            id_length=None if call is None else call.id_length,
        )
        if self.functions:
            own = (
                ()
                if call is None
                else tuple(section for section in _SECTIONS if call.begin.startswith(section))
            )
            if self.syntax.calls == "llama":
                own = ("<|python_tag|>",)
            self._sections = tuple(dict.fromkeys((*own, *_COMMON_SECTIONS)))
        self._steps = self._run()

    @property
    def calls_begun(self) -> int:
        """How many calls have begun."""
        return self._calls.begun

    def advance(self, text: str, *, final: bool = False) -> None:
        """Go on with the text of the answer so far; with `final`, that is all of it."""
        self._text.text, self._text.final = text, final
        if self._steps is None:
            return
        try:
            next(self._steps)
        except StopIteration:
            self._steps = None

    def _run(self) -> Steps[None]:
        if self.syntax.calls == HARMONY:
            yield from self._harmony()
            return
        if not (yield from self._think()):
            self._text.position = 0
        yield from self._answer()

    def _add_call(self, delta: CallDelta) -> None:
        if self.parallel or delta.index == 0:
            self.parts.append(delta)

    # Thoughts

    def _think(self) -> Steps[bool]:
        """Read the thoughts, if there are any."""
        syntax, text = self.syntax.thinking, self._text
        if syntax is None:
            return False
        if not self.thinking:
            yield from text.skip()
            if not (yield from text.accept(syntax.begin)):
                return False
        self.decided = text.position
        self._follows_markup = True
        ends = (syntax.end, *self._sections)
        while True:
            begin = text.position
            found = yield from self._find(ends, "reasoning")
            if found is None:
                return True
            if found == syntax.end:
                break
            # Some models call a tool without having closed their thoughts.
            if (yield from self._section(found)):
                return True
            text.position = max(text.position, begin)
        self.decided = text.position
        self._follows_markup = True
        yield from text.skip()
        if syntax.answer_begin and (yield from text.accept(syntax.answer_begin)):
            self.decided = text.position
        return True

    # What it says and calls

    def _answer(self) -> Steps[None]:
        text, thinking = self._text, self.syntax.thinking
        text.position = self.decided
        if self.functions and (yield from self._bare_calls()):
            if self.done:
                return
            text.position = self.decided
        dropped: tuple[str, ...] = (
            (thinking.answer_end,) if thinking is not None and thinking.answer_end else ()
        )
        if thinking is not None and self.calls_begun:
            dropped += (thinking.end,)
        while True:
            found = yield from self._find((*self._sections, *dropped), "content")
            if found is None:
                return
            if found in dropped:
                self.decided = text.position
                self._follows_markup = True
            elif (yield from self._section(found)) and self.done:
                return

    def _find(self, markers: tuple[str, ...], kind: TextKind) -> Steps[str | None]:
        """Pass text on up to the first marker and read that; return it, or None at the end.

        Blanks are held back until it is known whether text follows them.
        """
        text = self._text
        while True:
            found, limit = text.find_first(markers)
            ends = found is None and text.final
            self._show(limit, kind, blanks=kind == "content" and (ends or not markers))
            text.position = limit
            if found is not None:
                text.position += len(found)
                return found
            if ends:
                return None
            yield

    def _show(self, limit: int, kind: TextKind, *, blanks: bool) -> None:
        """Pass on the text up to a place; with `blanks`, also those at its end."""
        text, start = self._text.text, self.decided
        if limit <= start:
            return
        end = limit if blanks else start + len(text[start:limit].rstrip())
        if self._follows_markup:
            first = limit - len(text[start:limit].lstrip())
            if first == limit:  # nothing but blanks
                if blanks:
                    self.decided = limit
                return
            if kind == "reasoning" or not self._has_content:
                start = first
            self._follows_markup = False
        if end <= start:
            return
        self.parts.append(TextSpan(kind, start, end))
        self.decided = end
        self._has_content = self._has_content or kind == "content"

    def _section(self, marker: str) -> Steps[bool]:
        """Read a section of calls; return False if it is text, which is then read again."""
        text, calls = self._text, self._calls
        behind, before = text.position, calls.begun
        end = next((_SECTIONS[one] for one in _SECTIONS if one == marker), "")
        try:
            yield from calls.read_section(end)
            yield from text.accept(*_OPTIONAL_ENDS)
        except UnexpectedTextError:
            if calls.begun == before:
                text.position = behind
                return False
        self._after_calls()
        return True

    def _bare_calls(self) -> Steps[bool]:
        """Read an answer that is a call and nothing else; return False if it is none."""
        text, calls = self._text, self._calls
        before = calls.begun
        yield from text.skip()
        first = yield from text.peek(1)
        if first not in {"{", "["}:
            text.position = self.decided
            return False
        is_python = self.syntax.calls == "python" and first == "["
        start = text.position
        try:
            yield from (calls.read_python() if is_python else calls.read_bare())
        except UnexpectedTextError:
            if calls.begun == before:
                text.position = min(self.decided, start)
                return False
        self._after_calls()
        return True

    def _after_calls(self) -> None:
        self.decided = self._text.position
        self._follows_markup = True
        if not self.parallel and self._calls.complete:
            self.done = True

    # Harmony

    def _harmony(self) -> Steps[None]:
        """Read messages, each with a header that says for whom it is."""
        text = self._text
        while not self.done:
            behind = text.position
            yield from text.skip()
            if not (yield from text.peek(1)):
                return
            header = list[str]()
            for sign in (_START, _CHANNEL, "to="):
                if (yield from text.sees(sign)):
                    break
            else:
                text.position = behind
                self._follows_markup = self._has_content = False
                yield from self._harmony_body("content")
                continue
            found = yield from text.until(_MESSAGE, emit=header.append)
            if found is None:
                # A header that was cut off is no text; words that only look like one are.
                if not text.text[behind:].lstrip().startswith((_START, _CHANNEL)):
                    self.parts.append(TextSpan("content", behind, len(text.text)))
                self.decided = len(text.text)
                return
            self.decided = text.position
            yield from self._harmony_message("".join(header))

    def _harmony_message(self, header: str) -> Steps[None]:
        recipient = _RECIPIENT.search(header)
        channel = _CHANNEL_NAME.search(header)
        if recipient is not None:
            name = recipient[1].removeprefix("functions.")
            if name in self.functions and (self.parallel or not self.calls_begun):
                self._calls.begin(name)
                found = yield from self._text.until(*_HARMONY_ENDS, emit=self._calls.add)
                if found is not None:
                    self._calls.end()
                    self._text.position -= len(found) if found in {_START, _CHANNEL} else 0
                self._after_calls()
                return
        is_thought = channel is not None and channel[1] == "analysis"
        yield from self._harmony_body("reasoning" if is_thought else "content")

    def _harmony_body(self, kind: TextKind) -> Steps[None]:
        found = yield from self._find(_HARMONY_ENDS, kind)
        if found in {_START, _CHANNEL}:
            self._text.position -= len(found)
        self.decided = self._text.position
        self._follows_markup = kind == "reasoning"
