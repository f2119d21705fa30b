"""What the page Migration shows of an archive, an inventory and a comparison, as plain data.

An archive is read by `tunesmith.migrate`; inventories and comparisons are the JSON that its
commands write. What a file has in another form than expected is left out, never trusted.
"""

from __future__ import annotations

import contextlib
import json
import time
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, cast

from tunesmith.migrate import Archive, ArchiveError, shutdown_of
from tunesmith.migrate.recordings import find_recordings

__all__ = ["archive_view", "reading", "report_names", "view_of_json"]

_MOST_BYTES = 32 << 20
_MOST_MANIFEST = 256 << 20
_MOST_JOBS = 5000
_MOST_ROWS = 500
_MOST_CASES = 20
_EXCERPT = 400


def archive_view(folder: str) -> dict[str, Any]:
    """Return what is in an archive: its jobs with the days they have left, gaps, recordings.

    Raises:
        ArchiveError: It is none, or cannot be read.
    """
    path = Path(folder).expanduser()
    manifest = path / "manifest.json"
    if manifest.exists() and manifest.stat().st_size > _MOST_MANIFEST:
        raise ArchiveError(f"The manifest of {path} is larger than a page shows.")
    archive = Archive(path)
    models: list[dict[str, Any]] = []
    jobs = 0
    for job in archive.jobs():
        jobs += 1
        if job.fine_tuned_model and len(models) < _MOST_JOBS:
            models.append(
                _model(job.fine_tuned_model, job.base_model, job.project)
                | {
                    "job": job.id,
                    "training_file": job.training_file,
                    "tokens": _number(job.job.get("trained_tokens")),
                }
            )
    models.sort(key=lambda one: (one["ends"] or "9999", one["name"]))
    gaps = [
        {"what": gap.what, "id": gap.remote_id, "status": gap.status, "message": gap.message}
        for gap in archive.gaps
    ]
    return {
        "folder": str(path),
        "projects": archive.projects,
        "jobs": jobs,
        "entries": len(_list(archive.manifest.get("entries"))),
        "bytes": sum(
            int(_number(one.get("bytes")) or 0) for one in _dicts(archive.manifest.get("entries"))
        ),
        "models": models[:_MOST_ROWS],
        "more_models": max(0, len(models) - _MOST_ROWS),
        "gaps": gaps[:_MOST_ROWS],
        "more_gaps": max(0, len(gaps) - _MOST_ROWS),
        "recordings": [_recording(one) for one in find_recordings(path / "recordings")],
    }


def _model(name: str, base: str, project: str, announced: str | None = None) -> dict[str, Any]:
    shutdown = shutdown_of(name, announced=announced)
    on = None if shutdown is None else shutdown.on
    return {
        "name": name,
        "base": base,
        "project": project,
        "ends": None if on is None else on.isoformat(),
        "days_left": None if on is None else (on - datetime.now(UTC).date()).days,
    }


def _recording(folder: Path) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError):
        facts = _dict(json.loads((folder / "recording.json").read_bytes()))
    counts = {}
    for name in ("requests", "answers"):
        path = folder / f"{name}.jsonl"
        try:
            with path.open("rb") as stream:
                counts[name] = sum(
                    chunk.count(b"\n") for chunk in iter(lambda: stream.read(1 << 20), b"")
                )
        except OSError:
            counts[name] = 0
    return {"model": _text(facts.get("model")) or folder.name, **counts}


def report_names(folder: str) -> list[tuple[str, float]]:
    """Return the JSON files of a folder, the newest first, with the times of their last change."""
    path = Path(folder).expanduser()
    try:
        found = [(one.name, one.stat().st_mtime) for one in path.glob("*.json") if one.is_file()]
    except OSError:
        return []
    return sorted(found, key=lambda one: -one[1])[:_MOST_ROWS]


def reading(folder: str, name: str) -> bytes | None:
    """Return the content of a file that `report_names` lists; None if it lists none such."""
    if name not in {one for one, _ in report_names(folder)}:
        return None
    path = Path(folder).expanduser() / name
    return path.read_bytes() if path.stat().st_size <= _MOST_BYTES else None


def view_of_json(content: bytes) -> dict[str, Any]:
    """Return an inventory or a comparison for its template: "kind" says which.

    Raises:
        ValueError: It is neither; the text is for the user.
    """
    try:
        data = _dict(json.loads(content))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"This is not JSON: {error}.") from None
    if isinstance(data.get("models"), list) and "counts" in data:
        return _inventory(data)
    if isinstance(data.get("measures"), list):
        return _comparison(data)
    raise ValueError(
        "This is neither what `tunesmith migrate inventory --json` writes, nor what `tunesmith "
        "migrate compare --json-file` does."
    )


def _inventory(data: dict[str, Any]) -> dict[str, Any]:
    models = []
    for one in _dicts(data["models"]):
        shutdown = _dict(one.get("shutdown"))
        training, validation = _dict(one.get("training_file")), _dict(one.get("validation_file"))
        models.append(
            {
                "name": _text(one.get("name")),
                "project": _text(one.get("project")),
                "base": _text(one.get("base")),
                "answers": one.get("answers") is True,
                "ends": _text(shutdown.get("on")),
                "days_left": _days(_text(shutdown.get("on"))),
                "last_use": _text(one.get("last_use")),
                "training_file": _text(training.get("id")),
                "training_status": _text(training.get("status")),
                "validation_status": _text(validation.get("status")),
                "bytes": _number(training.get("bytes")),
                "tokens": _number(one.get("trained_tokens")),
                "job": _text(one.get("job")),
            }
        )
    gaps = [
        {name: _text(one.get(name)) for name in ("what", "remote_id", "status", "message")}
        for one in _dicts(data.get("gaps"))
    ]
    return {
        "kind": "inventory",
        "service": _text(data.get("service")),
        "projects": [_text(one) for one in _list(data.get("projects"))],
        "models": models[:_MOST_ROWS],
        "more_models": max(0, len(models) - _MOST_ROWS),
        "gaps": gaps[:_MOST_ROWS],
    }


def _comparison(data: dict[str, Any]) -> dict[str, Any]:
    measures = [
        {
            "name": _text(one.get("name")),
            "meaning": _text(one.get("meaning")),
            "prompts": _number(one.get("prompts")),
            "new": _interval(one.get("new")),
            "old": _interval(one.get("ceiling") or one.get("old")),
            "difference": _interval(one.get("difference")),
            "is_ceiling": "ceiling" in one,
            "p": _number(one.get("p_holm")),
        }
        for one in _dicts(data["measures"])[:_MOST_ROWS]
    ]
    requirements = [
        {
            "text": _text(one.get("requirement")),
            "met": one.get("met") is True,
            "reason": _text(one.get("reason")),
        }
        for one in _dicts(data.get("requirements"))
    ]
    cases = [
        {
            "prompt": _shown(_dict(one.get("request"))),
            "old": _text(one.get("old"))[:_EXCERPT],
            "new": _text(one.get("new"))[:_EXCERPT],
        }
        for one in _dicts(data.get("cases"))[:_MOST_CASES]
    ]
    confusion = _dict(data.get("confusion"))
    return {
        "kind": "comparison",
        "old_model": _text(data.get("old_model")),
        "new_model": _text(data.get("new_model")),
        "prompts": _number(data.get("prompts")),
        "twice": _number(data.get("recorded_twice")),
        "warnings": [_text(one) for one in _list(data.get("warnings"))][:_MOST_ROWS],
        "measures": measures,
        "requirements": requirements,
        "cases": cases,
        "classes": [_text(one) for one in _list(confusion.get("classes"))][:20],
        "counts": [
            [_number(value) for value in _list(row)][:20] for row in _list(confusion.get("counts"))
        ][:20],
    }


def _shown(request: dict[str, Any]) -> str:
    messages = _dicts(request.get("messages"))
    text = _text(messages[-1].get("content")) if messages else _text(request.get("prompt"))
    return text[:_EXCERPT]


def _days(day: str) -> int | None:
    try:
        return (date.fromisoformat(day) - datetime.fromtimestamp(time.time(), UTC).date()).days
    except ValueError:
        return None


def _interval(value: object) -> dict[str, float] | None:
    data = _dict(value)
    found = {name: _number(data.get(name)) for name in ("value", "low", "high")}
    return None if found["value"] is None else cast("dict[str, float]", found)


def _dict(value: object) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _dicts(value: object) -> list[dict[str, Any]]:
    return [one for one in _list(value) if isinstance(one, dict)]


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _number(value: object) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
