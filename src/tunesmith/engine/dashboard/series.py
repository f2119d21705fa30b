"""A job's figures, step by step, as columns for the curves and rows for the table."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from tunesmith.engine.store import job_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from tunesmith.engine.store.records import EventRow

__all__ = ["curve_columns", "step_rows"]

_NOT_CURVES = ("step", "total_steps")


def step_rows(connection: Connection, job_id: str, *, behind: int = 0) -> Sequence[EventRow]:
    """Return the events with figures whose sequence is above `behind`, oldest first.

    A step that was trained twice, because a killed training went on from its last
    checkpoint, was reported once.
    """
    rows = job_rows.events_of(connection, job_id, behind=behind, kinds=("step",))
    return sorted(rows, key=lambda row: row.data["step"])


def curve_columns(rows: Sequence[EventRow]) -> dict[str, Any]:
    """Return `steps` and, for each figure that any row has, a list as long; null where absent."""
    names: dict[str, None] = {}
    for row in rows:
        names |= dict.fromkeys(name for name in row.data if name not in _NOT_CURVES)
    return {
        "steps": [row.data["step"] for row in rows],
        "figures": {name: [_number(row.data.get(name)) for row in rows] for name in names},
        "last": max((row.sequence for row in rows), default=0),
    }


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return value
