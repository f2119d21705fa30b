"""The same recording through the batch API: at half the price, within a day.

The requests are uploaded as files, a batch is made of each, and what the batches answer is written
down as any other answer is. `batches.jsonl` in the recording's folder says which batches there are,
so that a run that ends early is continued: batches that were made are read and not made again.
Every step is decided here, once; the blocking and the asyncio function only carry it out.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeAlias, cast
from uuid import uuid4

from tunesmith.core.flow import PollPause
from tunesmith.errors import APIStatusError

from .recorder import Purpose, RecordingRun, RecordOutcome
from .recording_cost import BATCH_SHARE, Prices
from .recordings import (
    FINAL_STATUSES,
    Prompt,
    RecordingError,
    answer_key,
    append_to,
    json_line,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from tunesmith.client import AsyncClient, Client
    from tunesmith.types.batches import Batch

__all__ = ["record_batch", "record_batch_async"]

_MOST_LINES = 50_000
_MOST_BYTES = 190 << 20  # the service takes 200 MB
_FIRST_PAUSE, _LONGEST_PAUSE = 2.0, 60.0
_ENDED = {"completed", "failed", "expired", "cancelled"}
_SHOWN_FAULTS = 3
_JOURNAL = "batches.jsonl"
_MARK = "tunesmith_recording"

# A request to the client, or seconds to wait; the answer is sent back in.
_Step: TypeAlias = Callable[[Any], Any] | float
_Steps: TypeAlias = Generator[_Step, Any, None]


def record_batch(
    client: Client,
    model: str,
    prompts: Sequence[Prompt],
    folder: str | os.PathLike[str],
    *,
    purpose: Purpose = "evaluation",
    twice: float = 0.0,
    settings: Mapping[str, Any] | None = None,
    max_tokens: int | None = None,
    max_cost: float | None = None,
    prices: Prices | None = None,
    on_progress: Callable[[int, int], object] | None = None,
    longest_pause: float = _LONGEST_PAUSE,
) -> RecordOutcome:
    """Record a model's answers through the batch API; continue where an earlier run ended.

    It waits until the batches have ended, up to a day. It may be stopped at any time: the same
    call reads the batches that were made, and makes none of them again. Azure's batch API takes no
    fine-tuned models; record those with `record`.

    Args:
        client: For the service that has the model.
        model: Its name there.
        prompts: From `read_prompts`; those of an earlier run may be among them.
        folder: The folder of recordings; this model's is a folder in it.
        purpose: What the answers will be used for; it is written down.
        twice: The share of prompts that is asked twice.
        settings: What to change in `RECORDING_SETTINGS`; None removes a setting.
        max_tokens: Send no more requests than these tokens are expected to last for.
        max_cost: The same in money, by half of `prices`.
        prices: What the service charges for requests that it answers at once.
        on_progress: Called with the number of answers written down and of all.
        longest_pause: Most seconds between two looks at a batch.

    Raises:
        RecordingError: The service refuses a batch, with its reasons; or the folder cannot be
            used. A refused batch costs nothing.
        APIError: The service cannot be reached, or refuses the key.
    """
    with RecordingRun.begin(
        client, model, prompts, folder, purpose=purpose, twice=twice, settings=settings
    ) as run:
        run.limit(max_tokens, max_cost, _half(prices))
        run.on_progress = on_progress
        steps = _Batches(run, model, longest_pause).steps()
        answer: Any = None
        error: BaseException | None = None
        while True:
            try:
                step = steps.send(answer) if error is None else steps.throw(error)
            except StopIteration:
                return run.outcome()
            answer, error = None, None
            if not callable(step):
                time.sleep(step)
                continue
            try:
                answer = step(client)
            except APIStatusError as failure:
                error = failure


async def record_batch_async(
    client: AsyncClient,
    model: str,
    prompts: Sequence[Prompt],
    folder: str | os.PathLike[str],
    *,
    purpose: Purpose = "evaluation",
    twice: float = 0.0,
    settings: Mapping[str, Any] | None = None,
    max_tokens: int | None = None,
    max_cost: float | None = None,
    prices: Prices | None = None,
    on_progress: Callable[[int, int], object] | None = None,
    longest_pause: float = _LONGEST_PAUSE,
) -> RecordOutcome:
    """Do the same as `record_batch` on an asyncio client."""
    with RecordingRun.begin(
        client, model, prompts, folder, purpose=purpose, twice=twice, settings=settings
    ) as run:
        run.limit(max_tokens, max_cost, _half(prices))
        run.on_progress = on_progress
        steps = _Batches(run, model, longest_pause).steps()
        answer: Any = None
        error: BaseException | None = None
        while True:
            try:
                step = steps.send(answer) if error is None else steps.throw(error)
            except StopIteration:
                return run.outcome()
            answer, error = None, None
            if not callable(step):
                await asyncio.sleep(step)
                continue
            try:
                answer = await step(client)
            except APIStatusError as failure:
                error = failure


def _content(file_id: str) -> _Step:
    return lambda client: client.files.content(file_id)


def _page_after(page: Any) -> _Step:
    return lambda _client: page.get_next_page()


def _half(prices: Prices | None) -> Prices | None:
    if prices is None:
        return None
    return Prices(prices.input * BATCH_SHARE, prices.output * BATCH_SHARE)


@dataclass(slots=True)
class _Made:
    """A batch of the journal.

    Attributes:
        mark: Names it before it has an id: it is sent along as metadata.
        keys: The keys of its answers.
        id: The service's id; None where the run ended before it was written down.
        is_read: Whether its answers are in the recording.
    """

    mark: str
    endpoint: str
    keys: list[str]
    id: str | None = None
    is_read: bool = False


@dataclass(slots=True)
class _Lines:
    """The requests of one batch."""

    endpoint: str
    keys: list[str] = field(default_factory=list[str])
    content: bytearray = field(default_factory=bytearray)


class _Batches:
    """Makes the batches of a recording, waits for them, reads them."""

    def __init__(self, run: RecordingRun, model: str, longest_pause: float) -> None:
        self._run = run
        self._model = model
        self._longest_pause = longest_pause
        self._path = run.folder / _JOURNAL
        self._made = _read_journal(self._path)
        self._known = run.known()

    def steps(self) -> _Steps:
        """Yield what is to be done; all of it has been done at the end."""
        yield from self._find_lost()
        on_their_way = {
            (prompt.id, repeat)
            for made in self._made.values()
            for prompt, repeat in self._asked_in(made)
            if not made.is_read
        }
        for chats in (True, False):
            requests = self._run.requests(chats=chats, sent_before=on_their_way)
            for lines in self._split(requests, "chat/completions" if chats else "completions"):
                yield from self._make(lines)
        for made in list(self._made.values()):
            if not made.is_read:
                yield from self._read(made)

    def _asked_in(self, made: _Made) -> Iterator[tuple[Prompt, int]]:
        for key in made.keys:
            if key in self._known:
                yield self._known[key]

    def _find_lost(self) -> _Steps:
        """Find the ids of batches that were asked for by a run that did not see the answer."""
        lost = {made.mark: made for made in self._made.values() if made.id is None}
        if not lost:
            return
        page: Any = yield lambda client: client.batches.list(limit=100)
        while True:
            for batch in page.data:
                made = lost.pop((batch.metadata or {}).get(_MARK, ""), None)
                if made is not None:
                    self._note(made, id=batch.id)
            if not lost or not page.has_next_page():
                break
            page = yield _page_after(page)
        for made in lost.values():  # the service never got it
            self._note(made, is_read=True)

    def _split(self, requests: Iterator[Mapping[str, Any]], endpoint: str) -> Iterator[_Lines]:
        lines = _Lines(f"/v1/{endpoint}")
        waiting = self._run.repeats(requests)
        for body, repeat in waiting:
            own = {name: value for name, value in body.items() if name != "model"}
            key = answer_key(self._model, own, repeat)
            request = {"custom_id": key, "method": "POST", "url": lines.endpoint, "body": body}
            line = json_line(request)
            is_full = len(lines.keys) == _MOST_LINES
            if lines.keys and (is_full or len(lines.content) + len(line) > _MOST_BYTES):
                yield lines
                lines = _Lines(lines.endpoint)
            lines.keys.append(key)
            lines.content += line
        if lines.keys:
            yield lines

    def _make(self, lines: _Lines) -> _Steps:
        made = _Made(uuid4().hex, lines.endpoint, lines.keys)
        name, content = f"recording-{made.mark}.jsonl", bytes(lines.content)
        file: Any = yield lambda client: client.files.create(file=(name, content), purpose="batch")
        self._note(made, keys=lines.keys)
        try:
            batch: Any = yield lambda client: client.batches.create(
                input_file_id=file.id,
                endpoint=lines.endpoint,
                completion_window="24h",
                metadata={_MARK: made.mark},
            )
        except APIStatusError as error:
            self._note(made, is_read=True)
            raise RecordingError(
                f"The service takes no batch for {self._model}: {error} Nothing was paid for; "
                "record at once instead of in a batch."
            ) from None
        self._note(made, id=batch.id)

    def _read(self, made: _Made) -> _Steps:
        """Wait for a batch, and write its answers down."""
        pause = PollPause(_FIRST_PAUSE)
        while True:
            batch: Batch = yield lambda client: client.batches.retrieve(made.id)
            if batch.status in _ENDED:
                break
            yield pause.next(self._longest_pause)
        if batch.status == "failed":
            self._note(made, is_read=True)
            raise RecordingError(_refusal(batch, self._model))
        missing = dict.fromkeys(made.keys)
        for file_id in (batch.output_file_id, batch.error_file_id):
            if not file_id:  # some services write an empty text
                continue
            content: Any = yield _content(file_id)
            for line in content.content.splitlines():
                self._write(json.loads(line), missing)
        for key in missing:
            if key in self._known and not self._run.has_answer(*self._known[key]):
                self._run.write(*self._known[key], None, _no_line(batch))
        self._note(made, is_read=True)

    def _write(self, line: Mapping[str, Any], missing: dict[str, None]) -> None:
        key = str(line.get("custom_id"))
        if key not in missing or key not in self._known:
            return  # of no prompt of this recording, or written down already
        del missing[key]
        if self._run.has_answer(*self._known[key]):
            return  # the run before had begun to read this batch
        response, error = answer_of_line(line)
        identity = (line.get("response") or {}).get("request_id")
        self._run.write(*self._known[key], response, error, request_id=identity)

    def _note(self, made: _Made, **fields: Any) -> None:
        """Change a batch, on the disk first."""
        line = {"mark": made.mark, "endpoint": made.endpoint, **fields}
        with append_to(self._path) as journal:
            journal.write(json_line(line))
            journal.flush()
            os.fsync(journal.fileno())
        self._path.chmod(0o600)
        for name, value in fields.items():
            setattr(made, name, value)
        self._made[made.mark] = made


def answer_of_line(
    line: Mapping[str, Any],
) -> tuple[Mapping[str, Any] | None, dict[str, Any] | None]:
    """Return the response of a line of a batch's output, or the error."""
    response = line.get("response") or {}
    status, body = response.get("status_code"), response.get("body")
    if status == HTTPStatus.OK and isinstance(body, dict):
        return cast("dict[str, Any]", body), None
    found = line.get("error") or (body or {}).get("error") or {}
    return None, {
        "type": str(found.get("type") or "BatchError"),
        "status": status,
        "code": found.get("code"),
        "message": str(found.get("message") or "The batch has no answer, and no reason."),
        "is_final": status in FINAL_STATUSES,
    }


def _no_line(batch: Batch) -> dict[str, Any]:
    message = f"The batch {batch.id} ended as {batch.status} without a line for this request."
    return {
        "type": "BatchError", "status": None, "code": None, "message": message, "is_final": False,
    }  # fmt: skip


def _refusal(batch: Batch, model: str) -> str:
    faults = (batch.errors.data if batch.errors is not None else None) or []
    shown = [
        (f"line {fault.line}: " if fault.line is not None else "")
        + (fault.message or fault.code or "").rstrip(".")
        for fault in faults[:_SHOWN_FAULTS]
    ]
    more = len(faults) - len(shown)
    reasons = "; ".join(shown) + (f"; {more} more" if more > 0 else "")
    return (
        f"The service refused the batch {batch.id} for {model}: {reasons or 'it says not why'}. "
        "Nothing was paid for. Where it takes no batches for this model, record at once instead."
    )


def _read_journal(path: Path) -> dict[str, _Made]:
    found: dict[str, _Made] = {}
    if not path.exists():
        return found
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), start=1):
        if not line.endswith(b"\n"):
            break  # the run ended while it was written; `append_to` cuts it off
        try:
            fields = json.loads(line)
            made = found.setdefault(fields["mark"], _Made(fields["mark"], fields["endpoint"], []))
        except (ValueError, KeyError, TypeError) as error:
            raise RecordingError(f"{path}:{number} is damaged: {error}.") from None
        for name in fields.keys() & {"keys", "id", "is_read"}:
            setattr(made, name, fields[name])
    return found
