"""The rules of one row, by shape: pure functions from a row to the problems in it.

What the published schemas forbid, and what they say in words, is an error by default; what they
allow but will probably hurt is a warning. Severities stand in `rules`, so that a profile can
change them; here a rule only says what it found and where.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tunesmith.datasets.row_formats import chat, preference, prompt_completion
from tunesmith.datasets.row_formats.problem import Problem
from tunesmith.datasets.rows import row_format_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tunesmith.datasets.rows import RowFormat

__all__ = ["Problem", "problems"]


def problems(value: dict[str, Any], shape: RowFormat) -> Iterator[Problem]:
    """Yield every problem of a row that should have the given shape.

    Args:
        value: The row.
        shape: The shape of its data set.
    """
    declared = row_format_of(value)
    if declared is None and not value:
        yield Problem("missing-field", "", "the row is empty: {}")
        return
    if (
        declared is not None
        and declared != shape
        and {declared, shape}
        != {
            "chat",
            "reinforcement",
        }
    ):
        yield Problem(
            "mixed-shapes",
            "",
            f"this is a {_WORDS[declared]} row among {_WORDS[shape]} rows",
        )
        return
    if shape == "prompt_completion":
        yield from prompt_completion.problems(value)
    elif shape == "preference":
        yield from preference.problems(value)
    elif shape == "reinforcement":
        yield from chat.reinforcement_problems(value)
    else:
        yield from chat.problems(value)


_WORDS = {
    "prompt_completion": "prompt/completion",
    "chat": "chat",
    "preference": "preference",
    "reinforcement": "reinforcement",
}
