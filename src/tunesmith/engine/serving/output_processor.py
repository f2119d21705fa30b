"""From generated tokens to deltas: what is new of a sequence, as the client is to get it.

A stream gets every piece of text as soon as it is final; otherwise each choice comes whole.
With `best_of`, the best choices of a prompt come when all its sequences have finished.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .detokenizer import IncrementalDetokenizer, token_label
from .generation import GenerationDelta, GenerationUsage, TokenLogprob, TopLogprob

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .chat_answer import ChatAnswer
    from .sampling_state import Logprobs
    from .sequence import Sequence, SequenceGroup
    from .vocabulary import Vocabulary

__all__ = ["process_output"]


def process_output(sequence: Sequence) -> Iterator[GenerationDelta]:
    """Yield what is new in the request after `sequence` has got a token or has finished.

    Call it exactly once after the sequence has finished.
    """
    group = sequence.group
    finished = sequence.finish_reason is not None
    if finished:
        group.unfinished[sequence.prompt_index] -= 1
    if group.request.best_of > group.request.n:
        if group.unfinished[sequence.prompt_index] == 0:
            yield from _best(group, sequence.prompt_index)
    elif finished or group.request.stream:
        delta = _delta(sequence, sequence.index)
        if delta is not None:
            yield delta


def _best(group: SequenceGroup, prompt_index: int) -> Iterator[GenerationDelta]:
    """Yield the `n` best sequences of a prompt, all of which have finished."""
    ranked = sorted(
        (sequence for sequence in group.sequences if sequence.prompt_index == prompt_index),
        key=lambda sequence: sequence.mean_logprob,
        reverse=True,
    )
    for rank, sequence in enumerate(ranked[: group.request.n]):
        delta = _delta(sequence, prompt_index * group.request.n + rank)
        if delta is not None:
            yield delta


def _delta(sequence: Sequence, index: int) -> GenerationDelta | None:
    group = sequence.group
    finished = sequence.finish_reason is not None
    text = ""
    tokens: list[TokenLogprob] = []
    if group.request.echo and not sequence.echoed:
        sequence.echoed = True
        text, tokens = _echo(sequence)
    if sequence.answer is not None:
        return _chat_delta(sequence, sequence.answer, index)
    piece = sequence.detokenizer.take(final=finished)
    text += piece.text
    if group.request.logprobs is not None:
        offset = len(_prompt_text(sequence))
        starts = sequence.detokenizer.starts
        tokens += [
            _token_logprob(group.vocabulary, sequence.logprobs[token], offset + starts[token])
            for token in piece.tokens
        ]
    if finished:
        group.unreported -= 1
    elif not text and not tokens:
        return None
    return GenerationDelta(
        index=index,
        text=text,
        tokens=tuple(tokens),
        finish_reason=sequence.finish_reason,
        usage=_usage(group) if group.unreported == 0 else None,
    )


def _chat_delta(sequence: Sequence, answer: ChatAnswer, index: int) -> GenerationDelta | None:
    group, reason = sequence.group, sequence.finish_reason
    piece = answer.take(final=reason is not None)
    tokens: list[TokenLogprob] = []
    if group.request.logprobs is not None:
        logprobs = (sequence.logprobs[token] for token in piece.tokens)
        tokens = [_token_logprob(group.vocabulary, entry, 0) for entry in logprobs]
    if reason is not None:
        group.unreported -= 1
        # An answer that was cut off in a call was cut off.
        reason = "tool_calls" if reason == "stop" and answer.has_calls else reason
    elif not (piece.content or piece.reasoning or piece.calls or tokens):
        return None
    return GenerationDelta(
        index=index,
        text=piece.content,
        tokens=tuple(tokens),
        reasoning=piece.reasoning,
        calls=piece.calls,
        finish_reason=reason,
        usage=_usage(group) if group.unreported == 0 else None,
    )


def _usage(group: SequenceGroup) -> GenerationUsage:
    return GenerationUsage(
        prompt_tokens=sum(map(len, group.prompts)),
        completion_tokens=sum(
            len(sequence.tokens) - sequence.ended_by_token for sequence in group.sequences
        ),
        reasoning_tokens=sum(
            sequence.answer.reasoning_tokens
            for sequence in group.sequences
            if sequence.answer is not None
        ),
    )


def _prompt_text(sequence: Sequence) -> str:
    """Return the prompt as it was given; for a prompt of token ids, their text."""
    group = sequence.group
    if group.request.chat is not None:
        return ""
    prompt = group.request.prompts[sequence.prompt_index]
    if isinstance(prompt, str):
        return prompt
    data = b"".join(group.vocabulary.token_bytes[token] for token in prompt)
    return data.decode("utf-8", "replace")


def _echo(sequence: Sequence) -> tuple[str, list[TokenLogprob]]:
    """Return the prompt's text and, where the request asks for them, its log probabilities."""
    text = _prompt_text(sequence)
    vocabulary = sequence.group.vocabulary
    if sequence.group.request.logprobs is None:
        return text, []
    detokenizer = IncrementalDetokenizer()
    for token in sequence.prompt:
        detokenizer.append(vocabulary.token_bytes[token])
    # A tokenizer may put a space or a start token before the text: offsets do not count it.
    surplus = max(0, len(detokenizer.text) - len(text))
    first = vocabulary.token_bytes[sequence.prompt[0]]
    rest = [
        _token_logprob(vocabulary, logprobs, max(0, start - surplus))
        for logprobs, start in zip(sequence.prompt_logprobs, detokenizer.starts[1:], strict=True)
    ]
    return text, [TokenLogprob(token_label(first), first, None, 0), *rest]


def _token_logprob(vocabulary: Vocabulary, logprobs: Logprobs, offset: int) -> TokenLogprob:
    token_bytes = vocabulary.token_bytes
    return TokenLogprob(
        text=token_label(token_bytes[logprobs.token]),
        data=token_bytes[logprobs.token],
        logprob=logprobs.logprob,
        offset=offset,
        top=tuple(
            TopLogprob(token_label(token_bytes[token]), token_bytes[token], logprob)
            for token, logprob in logprobs.top
        ),
    )
