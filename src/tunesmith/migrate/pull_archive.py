"""Pulling what an organisation has into an archive: the projects, the lock, the manifest.

Every step is a flow, so that the same code serves both clients. What cannot be read becomes a gap
with its reason; only what makes everything else pointless, such as a wrong key, is raised.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from tunesmith._lazy import set_public_module
from tunesmith._version import __version__
from tunesmith.file_lock import exclusive_lock

from .archive import SCHEMA, Gap, folder_name
from .project_reader import RETRIED, Progress
from .pull_project import ProjectPull
from .sources import open_sources, service_of, visible_keys
from .writing import ArchiveWriter, make_private, now

if TYPE_CHECKING:
    import os
    from collections.abc import Coroutine, Mapping, Sequence

    from tunesmith.client import AsyncClient, Client
    from tunesmith.core.flow import Flow

__all__ = ["PullReport", "pull"]


@dataclass(frozen=True, slots=True)
class PullReport:
    """What a pull did, and what the archive has now.

    Attributes:
        folder: The archive.
        counts: Numbers of projects, files, jobs, events, checkpoints, stored completions, ….
        added: Files that this pull wrote; `added_bytes` their size.
        gaps: What is missing, and why.
        warnings: What looks like a pasted credential: path, and how many of each kind.
    """

    folder: Path
    counts: dict[str, int]
    added: int
    added_bytes: int
    gaps: list[Gap] = field(default_factory=list[Gap])
    warnings: dict[str, dict[str, int]] = field(default_factory=dict[str, dict[str, int]])

    @property
    def is_complete(self) -> bool:
        """Whether all that is still there at the service is in the archive."""
        return not any(gap.status in RETRIED for gap in self.gaps)


@overload
def pull(
    client: Client,
    folder: str | os.PathLike[str],
    *,
    projects: Mapping[str, str] | Sequence[str] | None = None,
    workers: int = 8,
    on_progress: Progress | None = None,
) -> PullReport: ...
@overload
def pull(
    client: AsyncClient,
    folder: str | os.PathLike[str],
    *,
    projects: Mapping[str, str] | Sequence[str] | None = None,
    workers: int = 8,
    on_progress: Progress | None = None,
) -> Coroutine[Any, Any, PullReport]: ...
def pull(
    client: Client | AsyncClient,
    folder: str | os.PathLike[str],
    *,
    projects: Mapping[str, str] | Sequence[str] | None = None,
    workers: int = 8,
    on_progress: Progress | None = None,
) -> PullReport | Coroutine[Any, Any, PullReport]:
    """Fetch what an organisation has at a service into an archive folder.

    Fetched are files with their contents, jobs of both APIs with all events in order, checkpoints
    and result files, stored chat completions with their messages, batches, evals with runs and
    items, and the model objects. A pull that was interrupted goes on where it was; a further one
    fetches what is new. What was archived stays, even if the service has deleted it since.

    With an administrator's key (`admin_api_key`) the client's key is tried on every project of
    the organisation. A project that it does not open, and that `projects` has no key for, is a
    gap.

    The archive holds personal data and is made for its owner alone (mode 0700).

    Args:
        client: A client of the service, `AzureClient` for Azure; an asynchronous one gives a
            coroutine.
        folder: The archive's folder; made if it does not exist.
        projects: A key for each project, by the project's id; or the ids of projects that the
            client's own key opens. By default the project of the client's key.
        workers: Requests at a time. The limits that the service announces are kept in any case.
        on_progress: Called as `on_progress(what, done, total)`; `total` is 0 where it is unknown.

    Raises:
        ArchiveError: The folder holds something else.
        AuthenticationError: The service refuses a key.
        APIConnectionError: The service cannot be reached.
        NotEnoughSpaceError: The disk has too little free space.
    """
    executor: Any = client._executor  # noqa: SLF001 - as the resources of the client do
    flow = _pull(executor.settings, Path(folder), projects, workers, on_progress)
    result: PullReport | Coroutine[Any, Any, PullReport] = executor.run(flow)
    return result


def _pull(
    settings: Any,
    folder: Path,
    projects: Mapping[str, str] | Sequence[str] | None,
    workers: int,
    on_progress: Progress | None,
) -> Flow[PullReport]:
    make_private(folder)
    with exclusive_lock(folder / ".lock"):
        writer = ArchiveWriter(folder, visible_keys(settings, projects))
        try:
            sources = yield from open_sources(settings, projects, workers)
            for source in sources.opened:
                writer.close_gap(f"projects/{folder_name(source.project)}")
                yield from ProjectPull(source, writer, workers, on_progress).pull()
            for gap in sources.gaps:
                writer.gap(gap)
            head = _head(settings, writer, sources.described)
            writer.finish(head)
        finally:
            writer.stop()
    gaps = [Gap(**writer.gaps[path]) for path in sorted(writer.gaps)]
    return PullReport(
        folder, head["counts"], writer.added, writer.added_bytes, gaps, dict(writer.warnings)
    )


def _head(settings: Any, writer: ArchiveWriter, described: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the manifest's first fields."""
    names = Counter(path.rpartition("/")[2] for path in writer.entries)
    lines: Counter[str] = Counter()
    for path, entry in writer.entries.items():
        lines[path.rpartition("/")[2]] += entry["lines"] or 0
    counts = {
        "projects": len(described),
        "files": names["meta.json"],
        "contents": names["content.jsonl"] + names["content.bin"] + names["results.raw"],
        "jobs": names["job.json"],
        "events": lines["events.jsonl"],
        "stored_completions": lines["stored.jsonl"],
        "batches": lines["batches.jsonl"],
        "evals": names["eval.json"],
        "output_items": lines["output_items.jsonl"],
        "bytes": sum(entry["bytes"] for entry in writer.entries.values()),
        "gaps": len(writer.gaps),
    }
    return {
        "schema": SCHEMA,
        "program": f"tunesmith {__version__}",
        "notice": "This archive may hold personal data of the people who wrote the texts in it.",
        "source": {"service": service_of(settings), "base_url": settings.base_url},
        "time": now(),
        "projects": described,
        "counts": counts,
    }


set_public_module(globals(), "tunesmith.migrate")
