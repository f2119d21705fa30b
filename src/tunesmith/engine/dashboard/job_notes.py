"""Tags and a note of a job, kept in its metadata: what a program sets there is shown here, too.

`metadata={"tags": "short, first try", "note": "…"}` of the fine-tuning jobs API is the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunesmith.engine.api.http_errors import invalid
from tunesmith.engine.api.job_operations import find_job
from tunesmith.engine.store import job_queries

if TYPE_CHECKING:
    from tunesmith.engine.api.dependencies import Services
    from tunesmith.engine.security.keys import Identity
    from tunesmith.engine.store.records import JobRow

__all__ = ["NOTE", "TAGS", "notes_of", "tags_of", "write_notes"]

TAGS = "tags"
NOTE = "note"
_MAX_LENGTH = 512  # of a value of metadata, on the wire
_MAX_PAIRS = 16


def notes_of(job: JobRow) -> dict[str, str]:
    """Return tags and note of a job, as they were written; absent ones are left out."""
    metadata = job.metadata or {}
    return {name: metadata[name] for name in (TAGS, NOTE) if metadata.get(name)}


def tags_of(job: JobRow) -> list[str]:
    """Return the tags of a job."""
    return [tag.strip() for tag in (job.metadata or {}).get(TAGS, "").split(",") if tag.strip()]


def write_notes(services: Services, key: Identity, identity: str, tags: str, note: str) -> None:
    """Set tags and note of a job; empty ones are removed.

    Raises:
        ApiError: There is no such job, or they are too long.
    """
    tags = ", ".join(dict.fromkeys(tag.strip() for tag in tags.split(",") if tag.strip()))
    values = {TAGS: tags, NOTE: note.strip()}
    for name, value in values.items():
        if len(value) > _MAX_LENGTH:
            raise invalid(f"At most {_MAX_LENGTH} characters fit.", param=name)
    with services.database.read() as connection:
        job = find_job(connection, key, identity)
    with services.database.write_for_request() as connection:
        locked = job_queries.lock(connection, job.id) or job
        kept = {
            name: value for name, value in (locked.metadata or {}).items() if name not in values
        }
        metadata = kept | {name: value for name, value in values.items() if value}
        if len(metadata) > _MAX_PAIRS:
            raise invalid(f"A job has at most {_MAX_PAIRS} pairs of metadata.", param=TAGS)
        if metadata != (locked.metadata or {}):
            job_queries.change(connection, job.id, metadata=metadata or None)
