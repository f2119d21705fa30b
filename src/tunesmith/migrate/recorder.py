"""The old models' answers, recorded while they live.

One plan says what to ask, writes down what comes, and stops where a limit is reached; the blocking
and the asyncio function differ by the loop alone. Requests go through the client's `map`, which
asks more at a time while the service keeps up and half as many when it is too busy. Nothing is
asked twice: what the recording has is taken from it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from tunesmith.errors import APIStatusError, TunesmithError

from .archive import folder_name
from .recording_cost import asked_prompts, encoding_of, expected_tokens, is_recorded
from .recordings import (
    FINAL_STATUSES,
    RecordedAnswer,
    RecordingError,
    RecordingWriter,
    answer_key,
)

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Container, Iterator, Mapping, Sequence

    from tunesmith.client import AsyncClient, Client
    from tunesmith.resources.bulk import MapResult

    from .recording_cost import Prices
    from .recordings import Prompt

__all__ = [
    "RECORDING_SETTINGS",
    "TERMS",
    "RecordOutcome",
    "RecordingRun",
    "record",
    "record_async",
]

RECORDING_SETTINGS: Final[Mapping[str, Any]] = {
    "temperature": 0,
    "top_p": 1,
    "n": 1,
    "seed": 0,
    "logprobs": True,
    "top_logprobs": 5,
    "store": False,
}
"""How answers are sampled: as repeatably as the service can. It promises no more than an effort."""

_COMPLETION_LOGPROBS = 5
_CHAT_ALONE = ("top_logprobs", "store", "max_completion_tokens")

TERMS: Final = """\
What the answers may be used for is a question of the service's terms; this is caution, not advice.
Comparing answers needs no leave. Training on them may: OpenAI's Services Agreement in force since
2026-01-01, section 3.3(e), as it is publicly quoted, bars using output to develop models that
compete with OpenAI's products; excepted are classifiers and the like that are not distributed, and
tuning inside OpenAI. Rows that people wrote are not output. Read the text in force:
https://openai.com/policies/services-agreement/ (Azure and other services have their own)."""

Purpose = Literal["evaluation", "training"]


@dataclass(slots=True)
class RecordOutcome:
    """How a recording went.

    Attributes:
        folder: Where it is.
        requests: Requests that were answered, or refused.
        reused: Answers that were there before.
        failed: Requests without an answer; they are asked again by the next run, unless the
            service refused their content.
        prompt_tokens: As the service counted them.
        completion_tokens: As the service counted them.
        cost: At the given prices, None without.
        stopped: Why it ended before the last prompt; None if it did not.
        errors: How often each error was met.
    """

    folder: Path
    requests: int = 0
    reused: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float | None = None
    stopped: str | None = None
    errors: dict[str, int] = field(default_factory=dict[str, int])

    @property
    def is_complete(self) -> bool:
        """Whether every prompt has an answer or a final refusal."""
        return self.stopped is None and self.failed == 0


def record(
    client: Client,
    model: str,
    prompts: Sequence[Prompt],
    folder: str | os.PathLike[str],
    *,
    purpose: Purpose = "evaluation",
    twice: float = 0.0,
    settings: Mapping[str, Any] | None = None,
    concurrency: int = 16,
    max_tokens: int | None = None,
    max_cost: float | None = None,
    prices: Prices | None = None,
    on_progress: Callable[[int, int], object] | None = None,
) -> RecordOutcome:
    """Ask a model all prompts and write its answers down; continue where an earlier run ended.

    Args:
        client: For the service that has the model.
        model: Its name there.
        prompts: From `read_prompts`; those of an earlier run may be among them.
        folder: The folder of recordings; this model's is a folder in it.
        purpose: What the answers will be used for; it is written down. See `TERMS`.
        twice: The share of prompts that is asked twice: the model's agreement with itself is the
            ceiling of every comparison.
        settings: What to change in `RECORDING_SETTINGS`; None removes a setting.
        concurrency: Requests at one time at most.
        max_tokens: Stop before more tokens than these are used, by the service's counts.
        max_cost: Stop before more money than this is spent, by `prices`.
        prices: What the service charges.
        on_progress: Called with the number of requests done and of all.

    Raises:
        RecordingError: The folder cannot be used, or a limit of money has no prices.
        APIStatusError: The service refuses the key or does not know the model. What was
            answered until then is kept.
    """
    with RecordingRun.begin(
        client, model, prompts, folder, purpose=purpose, twice=twice, settings=settings
    ) as run:
        run.limit(max_tokens, max_cost, prices)
        run.on_progress = on_progress
        for resource, requests in _resources(client, run):
            for result in resource.map(requests, concurrency=concurrency, ordered=False):
                run.accept(result)
        return run.outcome()


async def record_async(
    client: AsyncClient,
    model: str,
    prompts: Sequence[Prompt],
    folder: str | os.PathLike[str],
    *,
    purpose: Purpose = "evaluation",
    twice: float = 0.0,
    settings: Mapping[str, Any] | None = None,
    concurrency: int = 16,
    max_tokens: int | None = None,
    max_cost: float | None = None,
    prices: Prices | None = None,
    on_progress: Callable[[int, int], object] | None = None,
) -> RecordOutcome:
    """Do the same as `record` on an asyncio client."""
    with RecordingRun.begin(
        client, model, prompts, folder, purpose=purpose, twice=twice, settings=settings
    ) as run:
        run.limit(max_tokens, max_cost, prices)
        run.on_progress = on_progress
        for resource, requests in _resources(client, run):
            async for result in resource.map(requests, concurrency=concurrency, ordered=False):
                run.accept(result)
        return run.outcome()


def _resources(client: Any, run: RecordingRun) -> list[tuple[Any, Iterator[Mapping[str, Any]]]]:
    """Return the two resources that answer prompts, each with its requests."""
    return [
        (client.chat.completions, run.requests(chats=True)),
        (client.completions, run.requests(chats=False)),
    ]


class RecordingRun:
    """What is to be asked, what was answered, and when to stop; use it with `with`."""

    def __init__(
        self,
        writer: RecordingWriter,
        model: str,
        asked: list[tuple[Prompt, int]],
        settings: Mapping[str, Any],
    ) -> None:
        self._writer = writer
        self._model = model
        self._asked = asked
        self._settings = settings
        self._encoding = encoding_of(model)
        self._waiting: dict[int, tuple[Prompt, int]] = {}
        self._reserved: dict[int, tuple[int, int]] = {}
        self._max_tokens: int | None = None
        self._max_cost: float | None = None
        self._prices: Prices | None = None
        self._fatal: Exception | None = None
        self._outcome = RecordOutcome(writer.folder)
        self.on_progress: Callable[[int, int], object] | None = None
        for prompt, _ in asked:
            writer.add_prompt(prompt)
        self._outcome.reused = sum(is_recorded(writer.recording, *one) for one in asked)

    @classmethod
    def begin(
        cls,
        client: Client | AsyncClient,
        model: str,
        prompts: Sequence[Prompt],
        folder: str | os.PathLike[str],
        *,
        purpose: Purpose,
        twice: float,
        settings: Mapping[str, Any] | None,
    ) -> RecordingRun:
        """Open the recording's folder; the arguments are those of `record`.

        Raises:
            RecordingError: The folder cannot be used.
        """
        merged = {**RECORDING_SETTINGS, **(settings or {})}
        chosen = {name: value for name, value in merged.items() if value is not None}
        facts = {
            "base_url": client.base_url,
            "purpose": purpose,
            "terms": TERMS,
            "settings": chosen,
            "twice": twice,
        }
        writer = RecordingWriter(Path(folder) / folder_name(model), model, facts)
        before = writer.recording.facts
        if before.get("settings") != chosen or before.get("purpose") != purpose:
            writer.close()
            raise RecordingError(
                f"{writer.folder} was begun with the purpose {before.get('purpose')!r} and the "
                f"settings {before.get('settings')}. Continue it with the same, or name another "
                "folder."
            )
        return cls(writer, model, asked_prompts(prompts, twice), chosen)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()

    def limit(self, max_tokens: int | None, max_cost: float | None, prices: Prices | None) -> None:
        """Set the limits; see `record`.

        Raises:
            RecordingError: A limit of money has no prices.
        """
        if max_cost is not None and prices is None:
            raise RecordingError("A limit of money needs the prices of the service.")
        self._max_tokens, self._max_cost, self._prices = max_tokens, max_cost, prices

    @property
    def folder(self) -> Path:
        """The recording's folder."""
        return self._writer.folder

    def known(self) -> dict[str, tuple[Prompt, int]]:
        """Return every prompt of the recording and its repeat, by the key of its answer."""
        return {
            answer_key(self._model, request_body(prompt, self._settings), repeat): (prompt, repeat)
            for prompt in self._writer.recording.prompts.values()
            for repeat in range(2)
        }

    def has_answer(self, prompt: Prompt, repeat: int) -> bool:
        """Return whether the recording has an answer or a final refusal."""
        return is_recorded(self._writer.recording, prompt, repeat)

    def requests(
        self, *, chats: bool, sent_before: Container[tuple[str, int]] = ()
    ) -> Iterator[Mapping[str, Any]]:
        """Yield the requests that are still to be sent, until a limit is reached.

        Args:
            chats: Those of chats, or those of completions.
            sent_before: Prompts and repeats whose answers are on their way.
        """
        self._waiting.clear()
        self._reserved.clear()
        sent = 0
        for prompt, repeat in self._asked:
            if prompt.is_chat != chats or is_recorded(self._writer.recording, prompt, repeat):
                continue
            if (prompt.id, repeat) in sent_before:
                continue
            if self._fatal is not None or self._outcome.stopped is not None:
                return
            expected = expected_tokens(prompt, self._encoding)
            if self._exceeds(expected):
                return
            self._waiting[sent] = (prompt, repeat)
            self._reserved[sent] = expected
            sent += 1
            yield {"model": self._model, **request_body(prompt, self._settings)}

    def repeats(
        self, requests: Iterator[Mapping[str, Any]]
    ) -> Iterator[tuple[Mapping[str, Any], int]]:
        """Yield requests with the number of their repeat; what they will use stays reserved."""
        for number, request in enumerate(requests):
            yield request, self._waiting[number][1]

    def accept(self, result: MapResult[Any]) -> None:
        """Write down how a request ended."""
        prompt, repeat = self._waiting.pop(result.index)
        self._reserved.pop(result.index)
        if result.response is not None:
            self.write(
                prompt,
                repeat,
                result.response.to_dict(),
                seconds=None if result.elapsed is None else round(result.elapsed, 4),
                request_id=result.response._request_id,  # noqa: SLF001 - openai's name for it
            )
            return
        error = _error_facts(result.error)
        if (setting := _refused_setting(result.error, self._settings)) is not None:
            error["is_final"] = False
            self._fatal = self._fatal or RecordingError(
                f"The service refuses the setting {setting}: {result.error} Leave it out: "
                f"settings={{{setting!r}: None}}."
            )
        if _ends_all(result.error):
            self._fatal = self._fatal or result.error
        self.write(prompt, repeat, None, error)

    def write(
        self,
        prompt: Prompt,
        repeat: int,
        response: Mapping[str, Any] | None,
        error: Mapping[str, Any] | None = None,
        *,
        seconds: float | None = None,
        request_id: str | None = None,
    ) -> None:
        """Write down an answer, or why there is none: `status`, `type`, `message`, `is_final`."""
        self._outcome.requests += 1
        if response is not None:
            self._count(response.get("usage") or {})
        elif error is not None:
            self._outcome.failed += not error["is_final"]
            name = f"{error['status'] or error['type']}: {error['message']}"[:200]
            self._outcome.errors[name] = self._outcome.errors.get(name, 0) + 1
        key = answer_key(self._model, request_body(prompt, self._settings), repeat)
        now = int(time.time())
        self._writer.add_answer(
            RecordedAnswer(key, prompt.id, repeat, response, error, seconds, request_id, now)
        )
        if self.on_progress is not None:
            self.on_progress(self._outcome.requests + self._outcome.reused, len(self._asked))

    def outcome(self) -> RecordOutcome:
        """Return how it went.

        Raises:
            Exception: The error after which nothing more was asked.
        """
        if self._fatal is not None:
            raise self._fatal
        if self._prices is not None:
            self._outcome.cost = self._prices.cost(
                self._outcome.prompt_tokens, self._outcome.completion_tokens
            )
        return self._outcome

    def _count(self, usage: Mapping[str, Any]) -> None:
        self._outcome.prompt_tokens += int(usage.get("prompt_tokens") or 0)
        self._outcome.completion_tokens += int(usage.get("completion_tokens") or 0)

    def _exceeds(self, expected: tuple[int, int]) -> bool:
        """Return whether one more request could pass a limit; those in flight count as expected."""
        running = [*self._reserved.values(), expected]
        prompt_tokens = self._outcome.prompt_tokens + sum(one[0] for one in running)
        completion_tokens = self._outcome.completion_tokens + sum(one[1] for one in running)
        if self._max_tokens is not None and prompt_tokens + completion_tokens > self._max_tokens:
            self._outcome.stopped = f"the limit of {self._max_tokens:,} tokens"
        cost = self._prices.cost(prompt_tokens, completion_tokens) if self._prices else 0.0
        if self._max_cost is not None and cost > self._max_cost:
            self._outcome.stopped = f"the limit of {self._max_cost:,.2f} in money"
        return self._outcome.stopped is not None


def request_body(prompt: Prompt, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the request for a prompt without its model: its own body and the settings."""
    body = {**settings, **prompt.body}
    if prompt.is_chat:
        return body
    body = {name: value for name, value in body.items() if name not in _CHAT_ALONE}
    if body.get("logprobs") is True:
        body["logprobs"] = settings.get("top_logprobs") or _COMPLETION_LOGPROBS
    elif body.get("logprobs") is False:
        del body["logprobs"]
    return body


def _error_facts(error: Exception | None) -> dict[str, Any]:
    """Return what a failure says."""
    status = error.status_code if isinstance(error, APIStatusError) else None
    return {
        "type": type(error).__name__,
        "status": status,
        "code": getattr(error, "code", None),
        "message": str(error),
        "is_final": status in FINAL_STATUSES,
    }


def _refused_setting(error: Exception | None, settings: Mapping[str, Any]) -> str | None:
    """Return the setting of the recording that a service does not take, None for another error."""
    if not isinstance(error, APIStatusError) or error.status_code != HTTPStatus.BAD_REQUEST:
        return None
    param = getattr(error, "param", None)
    return param if isinstance(param, str) and param in settings else None


def _ends_all(error: Exception | None) -> bool:
    """Return whether every other request would fail in the same way."""
    if not isinstance(error, APIStatusError):
        return not isinstance(error, TunesmithError)
    if error.status_code in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND}:
        return True
    return getattr(error, "code", None) == "insufficient_quota"
