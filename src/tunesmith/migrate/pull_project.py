"""One project pulled into an archive: what is read, in which order, to which place.

What cannot be read becomes a gap with its reason; what is whole already is not read again.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tunesmith.core.flow import Flow, gather
from tunesmith.core.request import fill_path
from tunesmith.errors import APIError
from tunesmith.types import TERMINAL_STATUSES

from .archive import Gap, folder_name
from .project_reader import PAGE, Progress, ProjectReader
from .pull_files import FilePull
from .sources import Source, service_of
from .writing import ArchiveWriter, Sink, json_bytes, line_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["ProjectPull"]


class ProjectPull(ProjectReader):
    """One project while it is pulled; the arguments are those of `ProjectReader`."""

    def __init__(
        self, source: Source, writer: ArchiveWriter, workers: int, on_progress: Progress | None
    ) -> None:
        super().__init__(source, writer, workers, on_progress)
        self._files = FilePull(source, writer, workers, on_progress)

    def pull(self) -> Flow[None]:
        """Fetch everything, one kind after the other."""
        yield from self._models()
        yield from self._files.pull_listed()
        yield from self._jobs("/fine_tuning/jobs", self._job)
        if service_of(self._remote.settings) == "openai":  # Azure never had the older API
            yield from self._jobs("/fine-tunes", self._fine_tune)
        yield from self._batches()
        yield from self._stored()
        yield from self._evals()
        yield from self._files.pull_unlisted()

    # Models and batches: objects whose list is everything there is of them.

    def _models(self) -> Flow[None]:
        path = f"{self._folder}/models.json"
        try:
            page = yield from self._remote.get("/models")
        except APIError as error:
            self._missing(path, "/models", "models", error)
            return
        before = json.loads((self._writer.folder / path).read_bytes()) if self._has(path) else []
        self._writer.put(path, json_bytes(_merged(before, page.get("data") or [])))

    def _batches(self) -> Flow[None]:
        path, found = f"{self._folder}/batches.jsonl", list[dict[str, Any]]()

        def take(batches: list[dict[str, Any]]) -> Flow[None]:
            found.extend(batches)
            for batch in batches:
                for name in ("input_file_id", "output_file_id", "error_file_id"):
                    self._files.want(batch.get(name), "batch")
            yield from ()

        if not (yield from self._list("/batches", take, "batches", "batches", limit=PAGE)):
            return
        before = [json.loads(line) for line in self._lines(path)] if self._has(path) else []
        merged = _merged(before, found)
        self._writer.put(path, b"".join(map(line_bytes, merged)))

    def _lines(self, path: str) -> list[bytes]:
        return (self._writer.folder / path).read_bytes().splitlines()

    # Jobs

    def _jobs(self, address: str, one: Callable[[dict[str, Any]], Flow[None]]) -> Flow[None]:
        """Read a list of jobs; the events of each page's jobs are fetched side by side."""

        def take(jobs: list[dict[str, Any]]) -> Flow[None]:
            yield from self._each(one(job) for job in jobs)

        place = "jobs" if address.startswith("/fine_tuning") else "fine-tunes"
        yield from self._list(address, take, place, place, limit=PAGE)

    def _job(self, job: dict[str, Any]) -> Flow[None]:
        job_id = str(job["id"])
        folder = f"{self._folder}/jobs/{folder_name(job_id)}"
        for name in ("training_file", "validation_file"):
            self._files.want(job.get(name), "job")
        for file in job.get("result_files") or []:
            self._files.want(file, "job")
        if not self._is_archived(job, folder):
            address = fill_path("/fine_tuning/jobs/{id}", id=job_id)
            events = yield from self._collect(f"{address}/events", folder, job_id, "events")
            points = yield from self._collect(
                f"{address}/checkpoints", folder, job_id, "checkpoints"
            )
            if events is not None:
                # Both lists come newest first.
                lines = b"".join(map(line_bytes, events[::-1]))
                self._writer.put(f"{folder}/events.jsonl", lines, job_id)
            if points is not None:
                self._writer.put(f"{folder}/checkpoints.json", json_bytes(points[::-1]), job_id)
            self._writer.put(f"{folder}/job.json", json_bytes(job), job_id)
        self._said("jobs")

    def _is_archived(self, job: dict[str, Any], folder: str) -> bool:
        """Return whether a job has ended and is in the archive with all that belongs to it."""
        parts = (f"{folder}/events.jsonl", f"{folder}/checkpoints.json")
        return (
            job.get("status") in TERMINAL_STATUSES
            and self._writer.holds(f"{folder}/job.json", json_bytes(job))
            and all(
                self._has(path) or self._writer.gap_status(path) in {"gone", "expired"}
                for path in parts
            )
        )

    def _collect(
        self, address: str, folder: str, job_id: str, what: str
    ) -> Flow[list[dict[str, Any]] | None]:
        """Return all objects of a short list, newest first; None if it is a gap."""
        found: list[dict[str, Any]] = []
        name = "events.jsonl" if what == "events" else "checkpoints.json"

        def take(items: list[dict[str, Any]]) -> Flow[None]:
            found.extend(items)
            yield from ()

        if (yield from self._sublist(address, take, f"{folder}/{name}", job_id, what)):
            return found
        return None

    def _fine_tune(self, listed: dict[str, Any]) -> Flow[None]:
        """Fetch a job of the legacy API: its object holds its events, its files are objects."""
        job_id = str(listed["id"])
        folder = f"{self._folder}/jobs/{folder_name(job_id)}"
        for name in ("training_files", "validation_files", "result_files"):
            for file in listed.get(name) or []:
                self._files.want(file, "job")
        ended = listed.get("status") in TERMINAL_STATUSES
        if ended and self._has(f"{folder}/job.json") and self._has(f"{folder}/events.jsonl"):
            self._said("jobs")
            return
        address = fill_path("/fine-tunes/{id}", id=job_id)
        try:
            job = yield from self._remote.get(address)
            page = yield from self._remote.get(f"{address}/events")
        except APIError as error:
            self._missing(f"{folder}/job.json", job_id, "job", error)
            return
        events = b"".join(map(line_bytes, page.get("data") or []))
        self._writer.put(f"{folder}/events.jsonl", events, job_id)
        self._writer.put(f"{folder}/checkpoints.json", json_bytes([]), job_id)
        self._writer.put(f"{folder}/job.json", json_bytes(job), job_id)
        self._said("jobs")

    # Stored chat completions

    def _stored(self) -> Flow[None]:
        """Fetch stored completions, oldest first, each with the messages that it answered.

        The file grows: an interrupted pull goes on after its last line, and so does the next one.
        """
        path = f"{self._folder}/stored.jsonl"
        self._writer.partial(path)
        if self._has(path):
            self._writer.copy(path)
        with self._writer.sink(path, resume=True) as sink:
            known = [
                json.loads(line)["completion"]["id"]
                for line in _lines_of(self._writer.partial(path))
            ]
            before = len(known)

            def take(page: list[dict[str, Any]]) -> Flow[None]:
                messages = yield from gather(
                    (self._messages(str(one["id"])) for one in page), self._workers
                )
                for completion, found in zip(page, messages, strict=True):
                    line = {"completion": completion, "messages": found}
                    sink.write(self._writer.masked_line(line))
                    self._said("stored completions")
                sink.flush()

            whole = yield from self._list(
                "/chat/completions",
                take,
                "stored",
                "stored completions",
                query={"order": "asc"},
                limit=PAGE,
                known=known,
            )
            count = sink.lines
        if whole and (count > before or not self._has(path)):
            self._writer.commit(path, sink)

    def _messages(self, completion_id: str) -> Flow[list[dict[str, Any]] | None]:
        """Return the messages of a stored completion; None, and a gap, if they are gone."""
        address = fill_path("/chat/completions/{id}/messages", id=completion_id)
        found: list[dict[str, Any]] = []

        def take(items: list[dict[str, Any]]) -> Flow[None]:
            found.extend(items)
            yield from ()

        gap = f"{self._folder}/stored.jsonl#{completion_id}"
        try:
            listing = yield from self._remote.pages(address, take, limit=PAGE)
        except APIError as error:
            self._missing(gap, completion_id, "messages of a stored completion", error)
            return None
        if listing.problem is not None:
            what = "messages of a stored completion"
            self._writer.gap(Gap(gap, completion_id, what, "partial", None, listing.problem))
        return found

    # Evals

    def _evals(self) -> Flow[None]:
        def take(evals: list[dict[str, Any]]) -> Flow[None]:
            yield from self._each(self._eval(one) for one in evals)

        yield from self._list("/evals", take, "evals", "evals", limit=PAGE)

    def _eval(self, one: dict[str, Any]) -> Flow[None]:
        eval_id = str(one["id"])
        folder = f"{self._folder}/evals/{folder_name(eval_id)}"
        address, runs = fill_path("/evals/{id}", id=eval_id), list[dict[str, Any]]()

        def take(page: list[dict[str, Any]]) -> Flow[None]:
            runs.extend(page)
            yield from ()

        place = f"{folder}/runs.json"
        if not (yield from self._sublist(f"{address}/runs", take, place, eval_id, "runs")):
            return
        for run in runs:
            source = (run.get("data_source") or {}).get("source") or {}
            self._files.want(
                source.get("id") if isinstance(source, dict) else None, "run of an eval"
            )
        items, content = f"{folder}/output_items.jsonl", json_bytes(runs)
        ended = all(run.get("status") not in {"queued", "in_progress"} for run in runs)
        if not (ended and self._has(items) and self._writer.holds(place, content)):
            with self._writer.sink(items) as sink:
                whole = yield from self._items(address, runs, sink, items, eval_id)
            if whole:
                self._writer.commit(items, sink, eval_id)
        self._writer.put(place, content, eval_id)
        self._writer.put(f"{folder}/eval.json", json_bytes(one), eval_id)
        self._said("evals")

    def _items(
        self, address: str, runs: list[dict[str, Any]], sink: Sink, place: str, eval_id: str
    ) -> Flow[bool]:
        """Write the items of all runs, one run after the other."""

        def take(page: list[dict[str, Any]]) -> Flow[None]:
            for item in page:
                sink.write(self._writer.masked_line(item))
            yield from ()

        for run in runs:
            at = f"{address}{fill_path('/runs/{id}/output_items', id=str(run['id']))}"
            if not (yield from self._sublist(at, take, place, eval_id, "output items")):
                return False
        return True


def _merged(before: list[dict[str, Any]], found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what was found, and after it what was archived and is no longer there."""
    present = {one.get("id") for one in found}
    return [*found, *(one for one in before if one.get("id") not in present)]


def _lines_of(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        yield from stream
