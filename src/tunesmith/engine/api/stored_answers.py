"""Chat completions that are kept: what is stored of a request with `store`, and of its answer.

A stream is put together from the chunks that pass. Only complete answers are kept.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from fastapi import Request
from sqlalchemy.exc import OperationalError

from tunesmith.engine.domain.errors import DatabaseBusyError
from tunesmith.engine.domain.json_values import find_json_fault
from tunesmith.engine.store import stored_completion_queries
from tunesmith.engine.store.records import StoredCompletionRow

from .chat_requests import MAX_DEPTH, ChatBody
from .dependencies import Services, get_services
from .generation_requests import refuse
from .http_errors import invalid

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from tunesmith.engine.security.keys import Identity

__all__ = ["AnswerStore", "ChunkJoiner", "check_metadata"]

_SECONDS_PER_DAY = 86_400
_MAX_PAIRS = 16
_MAX_KEY = 64
_MAX_VALUE = 512
_KEPT = (
    "temperature",
    "top_p",
    "presence_penalty",
    "frequency_penalty",
    "seed",
    "tools",
    "tool_choice",
    "response_format",
)


@dataclass(frozen=True, slots=True)
class AnswerStore:
    """Where the answer to one request is kept."""

    services: Services
    organization: str
    request_id: str
    settings: Mapping[str, Any]
    messages: list[dict[str, Any]]
    metadata: Mapping[str, str]

    @classmethod
    def for_request(cls, request: Request, body: ChatBody, key: Identity) -> AnswerStore:
        """Return the store for a request's answer, before anything is computed.

        Raises:
            ApiError: 400: the settings store nothing, or the request has what cannot be stored.
        """
        services = get_services(request)
        if services.config.limits.stored_completion_days <= 0:
            raise refuse(
                "store",
                "this engine is set to keep no answers ([limits] stored_completion_days = 0)",
            )
        _check_number(services, key.organization)
        settings = {name: getattr(body, name) for name in _KEPT}
        for name, value in {**settings, "messages": body.messages, "model": body.model}.items():
            fault = find_json_fault(value, MAX_DEPTH + 1)
            if fault is not None:
                raise invalid(f"{name} cannot be stored: {fault}.", param=name)
        return cls(
            services,
            key.organization,
            str(request.scope.get("request_id", "")),
            settings,
            body.messages,
            check_metadata(body.metadata),
        )

    def keep(self, completion: dict[str, Any]) -> None:
        """Store the whole answer. Blocks.

        Raises:
            DatabaseBusyError: Too many requests wait to write, or the database cannot be written.
        """
        now = time.time()
        seconds = self.services.config.limits.stored_completion_days * _SECONDS_PER_DAY
        row = StoredCompletionRow(
            id=completion["id"],
            organization=self.organization,
            created_at=now,
            expires_at=now + seconds,
            model=completion["model"],
            completion={**completion, "request_id": self.request_id, **self.settings},
            messages=self.messages,
        )
        try:
            with self.services.database.write_for_request() as connection:
                stored_completion_queries.insert_completion(connection, row, self.metadata)
        except OperationalError as error:
            raise DatabaseBusyError(
                f"The answer was computed, but could not be stored: {error.orig}. Send the "
                "request again later, or without store."
            ) from error


def _check_number(services: Services, organization: str) -> None:
    """Raise ApiError if an organisation has as many stored completions as it may have."""
    most = services.config.limits.stored_completions
    with services.database.read() as connection:
        found = stored_completion_queries.count(connection, organization)
    if found >= most:
        raise invalid(
            f"The organisation has {found} stored chat completions, as many as the engine keeps "
            "for one ([limits] stored_completions). Nothing was computed. Export and delete some "
            "(client.chat.completions.export, delete), or send the request without store.",
            param="store",
            code="stored_completions_limit",
        )


def check_metadata(value: Any) -> dict[str, str]:
    """Return metadata; none for null.

    Raises:
        ApiError: It is no object of up to 16 pairs of texts.
    """
    if value is None:
        return {}
    if not isinstance(value, dict) or len(value) > _MAX_PAIRS:
        raise invalid(
            f"metadata must be an object of up to {_MAX_PAIRS} pairs of texts.", param="metadata"
        )
    for key, text in cast("dict[str, Any]", value).items():
        if not isinstance(text, str) or len(text) > _MAX_VALUE or len(key) > _MAX_KEY:
            raise invalid(
                f"metadata: a key has at most {_MAX_KEY} characters, a value is a text of at "
                f"most {_MAX_VALUE}.",
                param="metadata",
            )
    fault = find_json_fault(value)
    if fault is None and any("\0" in text for pair in value.items() for text in pair):
        fault = "\\u0000 is no character of a text"
    if fault is not None:
        raise invalid(f"metadata cannot be stored: {fault}.", param="metadata")
    return value


class ChunkJoiner:
    """Makes a completion of the chunks of a stream.

    Args:
        head: The fields that the completion begins with.
    """

    def __init__(self, head: dict[str, Any]) -> None:
        self._head = head
        self._choices: dict[int, dict[str, Any]] = {}
        self._texts: dict[int, list[str]] = {}
        self._thoughts: dict[int, list[str]] = {}
        self._usage: dict[str, Any] | None = None

    def passing(
        self, chunks: Iterable[dict[str, Any]], usage: dict[str, Any] | None
    ) -> Iterator[dict[str, Any]]:
        """Yield the chunks of a delta, which may carry the usage."""
        self._usage = usage or self._usage
        for chunk in chunks:
            for choice in chunk["choices"]:
                self._add(choice)
            yield chunk

    def completion(self) -> dict[str, Any]:
        """Return the completion, once all chunks have passed."""
        for index, choice in self._choices.items():
            message = choice["message"]
            text = "".join(self._texts[index])
            message["content"] = text if text or "tool_calls" not in message else None
            if thoughts := "".join(self._thoughts[index]):
                message["reasoning_content"] = thoughts
        choices = [self._choices[index] for index in sorted(self._choices)]
        return {**self._head, "choices": choices, "usage": self._usage}

    def _add(self, part: dict[str, Any]) -> None:
        index, delta = part["index"], part["delta"]
        choice = self._choices.setdefault(index, _empty_choice(index))
        self._texts.setdefault(index, []).append(delta.get("content") or "")
        self._thoughts.setdefault(index, []).append(delta.get("reasoning_content") or "")
        for call in delta.get("tool_calls", ()):
            known = choice["message"].setdefault("tool_calls", [])
            if call["index"] < len(known):
                known[call["index"]]["function"]["arguments"] += call["function"]["arguments"]
            else:
                plain = {name: value for name, value in call.items() if name != "index"}
                known.append({**plain, "function": dict(call["function"])})
        if part["logprobs"] is not None:
            if choice["logprobs"] is None:
                choice["logprobs"] = {"content": [], "refusal": None}
            choice["logprobs"]["content"].extend(part["logprobs"]["content"])
        choice["finish_reason"] = part["finish_reason"] or choice["finish_reason"]


def _empty_choice(index: int) -> dict[str, Any]:
    message: dict[str, Any] = {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "annotations": [],
    }
    return {"index": index, "message": message, "logprobs": None, "finish_reason": None}
