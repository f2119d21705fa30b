"""The rules of one row, by row format: pure functions from a row to the problems in it.

What the published schemas forbid, and what they say in words, is an error by default; what they
allow but will probably hurt is a warning. Severities stand in `datasets.rules`, where a destination
can change them; here a rule only says what it found and where.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tunesmith.datasets.recognition import recognise
from tunesmith.datasets.rows import ROW_FORMATS

from . import chat, preference, prompt_completion
from .problem import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tunesmith.datasets.rows import RowFormat

__all__ = ["Problem", "problems"]


def problems(value: dict[str, Any], row_format: RowFormat) -> Iterator[Problem]:
    """Yield every problem of a row that should have the given format.

    Args:
        value: The row.
        row_format: The format of most rows of the data set.
    """
    found = recognise(value)
    declared = found.name if found and found.name in ROW_FORMATS else None
    if not value:
        yield Problem("missing-field", "", "the row is empty: {}")
        return
    if found is not None and declared is None:
        advice = f": convert it to {_LABELS[found.target]} rows" if found.target else ""
        message = f"this is {_article(found.label)} row, with {found.keys}{advice}"
        yield Problem("foreign-format", "", message)
        return
    if (
        declared is not None
        and declared != row_format
        and {declared, row_format}
        != {
            "chat",
            "reinforcement",
        }
    ):
        yield Problem(
            "mixed-shapes",
            "",
            f"this is a {_LABELS[declared]} row among {_LABELS[row_format]} rows",
        )
        return
    if row_format == "prompt_completion":
        yield from prompt_completion.problems(value)
    elif row_format == "preference":
        yield from preference.problems(value)
    elif row_format == "reinforcement":
        yield from chat.reinforcement_problems(value)
    else:
        yield from chat.problems(value)


def _article(label: str) -> str:
    return f"{'an' if label[0] in 'AEIOUaeiou' else 'a'} {label}"


_LABELS = {
    "prompt_completion": "prompt/completion",
    "chat": "chat",
    "preference": "preference",
    "reinforcement": "reinforcement",
}
