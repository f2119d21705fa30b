"""Translates between the engine's requests and vLLM's completions API.

Prompts go to vLLM as token ids, and token ids come back with log probabilities where they are
needed, so that sequences here take them like tokens that were generated here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .sampling_state import LOWEST_LOGPROB, Logprobs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .sequence import Sequence, SequenceGroup

__all__ = ["append_chunk", "completion_body"]

MIN_TOP_P = 1e-6  # vLLM refuses 0, which means the most likely token here
TOKEN_ID_PREFIX = "token_id:"  # noqa: S105 - with return_tokens_as_token_ids


def completion_body(name: str, group: SequenceGroup) -> dict[str, Any]:
    """Return the body of the request to `/v1/completions`.

    It sets every sampling parameter, because vLLM takes defaults from the model's files.
    """
    request, sequence = group.request, group.sequences[0]
    body: dict[str, Any] = {
        "model": name,
        "prompt": group.prompts,
        "max_tokens": sequence.max_tokens,
        "n": max(request.n, request.best_of),
        "temperature": request.temperature,
        "top_p": max(request.top_p, MIN_TOP_P),
        "top_k": 0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "presence_penalty": request.presence_penalty,
        "frequency_penalty": request.frequency_penalty,
        "logit_bias": {str(token): bias for token, bias in request.logit_bias.items()} or None,
        # Those of a conversation end what is said, not what is thought: they are looked for here.
        "stop": request.stop if request.chat is None else [],
        "stop_token_ids": sorted(group.vocabulary.eos_token_ids | group.stop_token_ids),
        "seed": request.seed,
        "echo": sequence.needs_prompt_logprobs,
        "return_token_ids": True,
        "return_tokens_as_token_ids": True,
    }
    if sequence.needs_logprobs:
        body["logprobs"] = request.logprobs or 0
    if request.response_schema is not None:
        schema = {"name": "answer", "schema": request.response_schema}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    return body


def append_chunk(sequence: Sequence, choice: dict[str, Any]) -> None:
    """Append the tokens of one choice of a chunk to its sequence."""
    tokens: list[int] = choice.get("token_ids") or []
    logprobs = list(_logprobs(choice.get("logprobs"), sequence.group.request.logprobs or 0))
    if sequence.needs_prompt_logprobs:  # the first chunk, with echo: the prompt's tokens precede
        end = len(sequence.prompt)
        sequence.prompt_logprobs = [entry for entry in logprobs[1:end] if entry is not None]
        logprobs = logprobs[end:]
    if sequence.max_tokens == 0:  # only its prompt was to be scored
        sequence.finish_reason = "length"
        return
    for index, token in enumerate(tokens):
        if sequence.finish_reason is None:
            sequence.append_token(token, logprobs[index] if logprobs else None)
    reason = choice.get("finish_reason")
    if reason is not None and sequence.finish_reason is None:
        sequence.finish_reason = "length" if reason == "length" else "stop"


def _logprobs(logprobs: dict[str, Any] | None, most: int) -> Iterator[Logprobs | None]:
    """Yield the log probabilities of each token of a chunk; None for a prompt's first token.

    Args:
        logprobs: The chunk's `logprobs`.
        most: Most top log probabilities at each position.
    """
    if logprobs is None:
        return
    entries: Iterable[tuple[str, float | None, dict[str, float] | None]] = zip(
        logprobs["tokens"], logprobs["token_logprobs"], logprobs["top_logprobs"], strict=True
    )
    for token, logprob, top in entries:
        if logprob is None:
            yield None
            continue
        ranked = sorted((top or {}).items(), key=lambda item: item[1], reverse=True)[:most]
        yield Logprobs(
            _token_id(token),
            max(logprob, LOWEST_LOGPROB),
            tuple((_token_id(name), max(value, LOWEST_LOGPROB)) for name, value in ranked),
        )


def _token_id(name: str) -> int:
    return int(name.removeprefix(TOKEN_ID_PREFIX))
