"""Checking an archive offline: every hash, size and line count, and that each gap has a name."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith._lazy import set_public_module

from .archive import JOURNAL, MANIFEST, Archive, ArchiveError, Gap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Fault", "Verification", "describe", "verify"]

_CHUNK = 1 << 20
# Folders that other steps write into; their files are not in the manifest.
_OTHERS = ("recordings", "plan.toml", "reports", ".lock")


@dataclass(frozen=True, slots=True)
class Fault:
    """Something about a file of an archive that is not as the manifest says.

    Attributes:
        path: The file, relative to the archive's folder.
        problem: What is wrong, as a sentence.
    """

    path: str
    problem: str


@dataclass(frozen=True, slots=True)
class Verification:
    """What a check of an archive found.

    Attributes:
        files: Number of files whose hash was compared.
        bytes: Their size together.
        faults: What is wrong: a file changed, missing, or missing without being named a gap.
        gaps: What the archive lacks and says so.
    """

    files: int
    bytes: int
    faults: list[Fault] = field(default_factory=list[Fault])
    gaps: list[Gap] = field(default_factory=list[Gap])

    @property
    def is_complete(self) -> bool:
        """Whether every file is as it was fetched, and all that could be fetched is there."""
        return not self.faults and not any(
            gap.status in {"partial", "forbidden"} for gap in self.gaps
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON-ready data."""
        from dataclasses import asdict  # noqa: PLC0415 - for the command line alone

        return {**asdict(self), "is_complete": self.is_complete}


def verify(
    folder: str | os.PathLike[str], *, on_progress: Callable[[int, int], None] | None = None
) -> Verification:
    """Check an archive: nothing is sent anywhere.

    Compared are the SHA-256, size and number of lines of each file with the manifest, the size
    with the one that the service named, and the files that each job names with those in the
    archive: one that is neither there nor a named gap is a fault, and so is a file that the
    manifest does not know.

    Args:
        folder: The archive.
        on_progress: Called as `on_progress(done, total)` with numbers of files.

    Raises:
        ArchiveError: The folder is no archive, or its pull has not ended.
    """
    archive = Archive(folder)
    if (archive.folder / JOURNAL).exists():
        raise ArchiveError(
            f"The last pull into {archive.folder} has not ended: run it again, it continues."
        )
    entries: list[dict[str, Any]] = archive.manifest.get("entries", [])
    gaps = archive.gaps
    faults: list[Fault] = []
    total = 0
    for number, entry in enumerate(entries, 1):
        total += int(entry["bytes"])
        faults += _entry_faults(archive.folder, entry, gaps)
        if on_progress is not None:
            on_progress(number, len(entries))
    faults += _unknown_files(archive.folder, {str(entry["path"]) for entry in entries})
    faults += _count_faults(archive, entries)
    faults += _job_faults(archive, gaps)
    return Verification(len(entries), total, faults, gaps)


def _entry_faults(folder: Path, entry: dict[str, Any], gaps: list[Gap]) -> Iterator[Fault]:
    name = str(entry["path"])
    path = folder / name
    if Path(name).is_absolute() or ".." in Path(name).parts:
        yield Fault(name, "The path leads out of the archive.")
        return
    try:
        size, digest, lines = _measured(path)
    except FileNotFoundError:
        yield Fault(name, "The file is missing.")
        return
    if size != entry["bytes"]:
        yield Fault(name, f"It has {size:,} bytes; the manifest says {entry['bytes']:,}.")
    elif digest != entry["sha256"]:
        yield Fault(name, "Its content has changed: the SHA-256 is another.")
    if entry.get("lines") is not None and lines != entry["lines"]:
        yield Fault(name, f"It has {lines:,} lines; the manifest says {entry['lines']:,}.")
    remote = entry.get("remote_bytes")
    named = any(gap.path == name for gap in gaps)
    if remote is not None and remote != entry["bytes"] and not named:
        yield Fault(name, f"It has {entry['bytes']:,} bytes; the service's file has {remote:,}.")


def _measured(path: Path) -> tuple[int, str, int]:
    digest, size, lines, last = hashlib.sha256(), 0, 0, b"\n"
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
            lines += chunk.count(b"\n")
            last = chunk[-1:]
    return size, digest.hexdigest(), lines + (last != b"\n")


def _unknown_files(folder: Path, known: set[str]) -> Iterator[Fault]:
    for parent, folders, names in os.walk(folder):
        if Path(parent) == folder:
            folders[:] = [one for one in folders if one not in _OTHERS]
            names = [one for one in names if one not in (MANIFEST, *_OTHERS)]  # noqa: PLW2901
        folders.sort()
        for name in sorted(names):
            path = (Path(parent) / name).relative_to(folder).as_posix()
            if path not in known:
                yield Fault(path, "The manifest does not know this file.")


def _count_faults(archive: Archive, entries: list[dict[str, Any]]) -> Iterator[Fault]:
    found = Counter(Path(str(entry["path"])).name for entry in entries)
    counts: dict[str, int] = archive.manifest.get("counts", {})
    for what, name in (("jobs", "job.json"), ("files", "meta.json")):
        if counts.get(what, 0) != found[name]:
            yield Fault(
                MANIFEST, f"It counts {counts.get(what, 0):,} {what} and lists {found[name]:,}."
            )


def _job_faults(archive: Archive, gaps: list[Gap]) -> Iterator[Fault]:
    missing = {gap.remote_id for gap in gaps}
    for project in archive.projects:
        for job in archive.jobs(project):
            files = [job.training_file, job.validation_file, *job.result_files]
            for file_id in filter(None, files):
                file = archive.file(project, file_id)
                if (file is None or file.content is None) and file_id not in missing:
                    path = (job.folder / "job.json").relative_to(archive.folder).as_posix()
                    yield Fault(path, f"It names {file_id}, which is neither here nor a named gap.")


def describe(verification: Verification) -> str:
    """Return the result in sentences, for people."""
    lines = [f"{verification.files:,} files, {verification.bytes:,} bytes: compared."]
    lines += [f"{fault.path}: {fault.problem}" for fault in verification.faults]
    counts = Counter((gap.status, gap.what) for gap in verification.gaps)
    lines += [f"{status}: {count:,} of {what}" for (status, what), count in sorted(counts.items())]
    lines.append("The archive is complete." if verification.is_complete else "It is incomplete.")
    return "\n".join(lines)


set_public_module(globals(), "tunesmith.migrate")
