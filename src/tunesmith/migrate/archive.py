"""An archive on the disk: where everything in it lies, and reading it.

Knows no service and no client; `pull` writes what is read here. All paths are relative to the
archive's folder, and all formats are open:

    manifest.json                                    what is there, what is missing and why
    projects/P/models.json, stored.jsonl, batches.jsonl
    projects/P/jobs/ID/job.json, events.jsonl, checkpoints.json
    projects/P/files/ID/meta.json and content.jsonl, content.bin, or results.raw and results.csv
    projects/P/evals/ID/eval.json, runs.json, output_items.jsonl
    recordings/MODEL/requests.jsonl, answers.jsonl
    plan.toml
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tunesmith._lazy import set_public_module
from tunesmith.errors import TunesmithError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

__all__ = [
    "JOURNAL",
    "MANIFEST",
    "SCHEMA",
    "Archive",
    "ArchiveError",
    "ArchivedFile",
    "ArchivedJob",
    "Gap",
    "Status",
    "folder_name",
    "read_lines",
]

MANIFEST = "manifest.json"
JOURNAL = "journal.jsonl"
"""What has been fetched so far, while a pull runs or after it was interrupted."""
SCHEMA = "tunesmith.archive/1"

Status = Literal["ok", "gone", "forbidden", "expired", "partial"]
"""Whether something is in the archive: whole; no longer at the service (404, 410); refused to the
key (401, 403, and 400 where an account may not download); past its `expires_at`; or incomplete."""

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")


class ArchiveError(TunesmithError):
    """A folder is no archive, or a file of it cannot be read."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Something that the archive lacks.

    Attributes:
        path: Where it would lie.
        remote_id: Its id at the service.
        what: "file content", "file", "events", "checkpoints", "evals", ….
        status: Why it is missing.
        http_status: The status that the service answered, None if there was no answer.
        message: What the service said, or what went wrong.
    """

    path: str
    remote_id: str
    what: str
    status: Status
    http_status: int | None
    message: str


@dataclass(frozen=True, slots=True)
class ArchivedFile:
    """A file of a project.

    Attributes:
        project: The project's id.
        id: "file-…".
        meta: The file object, as the service sent it; empty for one that had been deleted.
        content: Its content as it was downloaded; None if the archive does not have it.
        table: For a result file the CSV, decoded; else None.
    """

    project: str
    id: str
    meta: dict[str, Any]
    content: Path | None
    table: Path | None

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield the rows of a JSONL file; nothing if its content is missing.

        Raises:
            ArchiveError: A line is no JSON object.
        """
        if self.content is not None:
            yield from read_lines(self.content)


@dataclass(frozen=True, slots=True)
class ArchivedJob:
    """A job of a project, of either API.

    Attributes:
        project: The project's id.
        id: "ftjob-…" or "ft-…".
        job: The job object, as the service sent it.
        folder: Its folder.
    """

    project: str
    id: str
    job: dict[str, Any]
    folder: Path

    @property
    def base_model(self) -> str:
        """The model that was trained on; it may be a fine-tuned one itself."""
        return str(self.job.get("model") or "")

    @property
    def fine_tuned_model(self) -> str | None:
        """The model that came of it."""
        return self.job.get("fine_tuned_model") or None

    @property
    def training_file(self) -> str | None:
        """The id of its training file."""
        return _first_id(self.job, "training_file", "training_files")

    @property
    def validation_file(self) -> str | None:
        """The id of its validation file."""
        return _first_id(self.job, "validation_file", "validation_files")

    @property
    def result_files(self) -> list[str]:
        """The ids of its result files."""
        return [_id_of(one) for one in self.job.get("result_files") or []]

    def events(self) -> Iterator[dict[str, Any]]:
        """Yield its events, oldest first."""
        path = self.folder / "events.jsonl"
        if path.exists():
            yield from read_lines(path)

    def checkpoints(self) -> list[dict[str, Any]]:
        """Return its checkpoints, oldest first."""
        path = self.folder / "checkpoints.json"
        return list(_read_json(path)) if path.exists() else []


class Archive:
    """An archive folder, opened for reading.

    Args:
        folder: The folder with `manifest.json`.

    Raises:
        ArchiveError: It is no archive, or one of a newer version.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder: Path = Path(folder)
        if not (self.folder / MANIFEST).exists():
            unfinished = (self.folder / JOURNAL).exists()
            raise ArchiveError(
                f"The pull into {self.folder} has not ended: run it again, it continues."
                if unfinished
                else f"{self.folder} is no archive: it has no {MANIFEST}. "
                "`tunesmith migrate pull` makes one."
            )
        schema = self.manifest.get("schema")
        if schema != SCHEMA:
            raise ArchiveError(
                f"{self.folder / MANIFEST} has the schema {schema!r:.60}; this version of "
                f"tunesmith reads {SCHEMA!r}."
            )

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """The content of `manifest.json`."""
        content = _read_json(self.folder / MANIFEST)
        if not isinstance(content, dict):
            raise ArchiveError(f"{self.folder / MANIFEST} holds no JSON object.")
        return content

    @property
    def gaps(self) -> list[Gap]:
        """What the archive lacks, and why."""
        return [Gap(**one) for one in self.manifest.get("gaps", [])]

    @property
    def projects(self) -> list[str]:
        """The ids of the projects."""
        return [str(one["id"]) for one in self.manifest.get("projects", [])]

    def project_folder(self, project: str) -> Path:
        """Return the folder of a project."""
        return self.folder / "projects" / folder_name(project)

    def models(self, project: str) -> list[dict[str, Any]]:
        """Return the model objects of a project."""
        path = self.project_folder(project) / "models.json"
        return list(_read_json(path)) if path.exists() else []

    def jobs(self, project: str | None = None) -> Iterator[ArchivedJob]:
        """Yield the jobs of a project, or of all, ordered by id."""
        for one in self._projects(project):
            for folder in _folders(self.project_folder(one) / "jobs"):
                job = _read_json(folder / "job.json")
                yield ArchivedJob(one, str(job["id"]), job, folder)

    def files(self, project: str | None = None) -> Iterator[ArchivedFile]:
        """Yield the files of a project, or of all, ordered by id."""
        for one in self._projects(project):
            for folder in _folders(self.project_folder(one) / "files"):
                yield _file_in(one, folder)

    def file(self, project: str, file_id: str) -> ArchivedFile | None:
        """Return a file; None if the archive has nothing of it."""
        folder = self.project_folder(project) / "files" / folder_name(file_id)
        return _file_in(project, folder) if (folder / "meta.json").exists() else None

    def stored_completions(self, project: str) -> Iterator[dict[str, Any]]:
        """Yield the stored chat completions: `completion` and the `messages` that it answered."""
        path = self.project_folder(project) / "stored.jsonl"
        if path.exists():
            yield from read_lines(path)

    def batches(self, project: str) -> Iterator[dict[str, Any]]:
        """Yield the batch objects of a project."""
        path = self.project_folder(project) / "batches.jsonl"
        if path.exists():
            yield from read_lines(path)

    def evals(self, project: str) -> Iterator[Path]:
        """Yield the folders of a project's evals: eval.json, runs.json, output_items.jsonl."""
        yield from _folders(self.project_folder(project) / "evals")

    def recording_folder(self, model: str) -> Path:
        """Return the folder for a model's recorded answers; it need not exist."""
        return self.folder / "recordings" / folder_name(model)

    def _projects(self, project: str | None) -> list[str]:
        return self.projects if project is None else [project]

    def __repr__(self) -> str:
        return f"<Archive {str(self.folder)!r}>"


def folder_name(identity: str) -> str:
    """Return an id as the name of a folder on any system: other signs as `%XX`, UTF-8.

    A model's colons become `%3A`; `urllib.parse.unquote` gives the id back.
    """
    quoted = "".join(
        sign if sign in _PLAIN else "".join(f"%{byte:02X}" for byte in sign.encode())
        for sign in identity
    )
    # A name of dots alone means another folder.
    return quoted.replace(".", "%2E") if not quoted.strip(".") else quoted


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a JSONL file; empty lines and a byte order mark are skipped.

    Raises:
        ArchiveError: A line is no JSON object.
    """
    with path.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            text = line.strip() if number > 1 else line.removeprefix(b"\xef\xbb\xbf").strip()
            if not text:
                continue
            try:
                value = json.loads(text)
            except ValueError as error:
                raise ArchiveError(f"{path}, line {number}: {error}.") from None
            if not isinstance(value, dict):
                raise ArchiveError(f"{path}, line {number}: this is no JSON object.")
            yield value


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise ArchiveError(f"{path}: {error}.") from None
    except FileNotFoundError:
        raise ArchiveError(f"{path} is missing; `tunesmith migrate verify` tells more.") from None


def _folders(parent: Path) -> list[Path]:
    return sorted(one for one in parent.iterdir() if one.is_dir()) if parent.exists() else []


def _file_in(project: str, folder: Path) -> ArchivedFile:
    meta = _read_json(folder / "meta.json")
    names = ("content.jsonl", "content.bin", "results.raw")
    content = next((folder / name for name in names if (folder / name).exists()), None)
    table = folder / "results.csv"
    return ArchivedFile(project, str(meta["id"]), meta, content, table if table.exists() else None)


def _first_id(job: dict[str, Any], name: str, legacy: str) -> str | None:
    if job.get(name):
        return _id_of(job[name])
    return next((_id_of(one) for one in job.get(legacy) or []), None)


def _id_of(file: Any) -> str:
    """Return a file's id; the legacy API lists whole objects."""
    return str(file["id"]) if isinstance(file, dict) else str(file)


set_public_module(globals(), "tunesmith.migrate")
