"""The fields of a form that was sent, each with all of its values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import Request  # noqa: TC002 - FastAPI reads the annotation

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["form_lists", "single_values"]

_MAX_FIELDS = 300


async def form_lists(request: Request) -> dict[str, list[str]]:
    """Return the fields of a form, without its token; files are refused."""
    form = await request.form(max_files=0, max_fields=_MAX_FIELDS)
    found: dict[str, list[str]] = {}
    for name, value in form.multi_items():
        if name != "form_token":
            found.setdefault(name, []).append(str(value))
    return found


def single_values(form: Mapping[str, list[str]]) -> dict[str, str]:
    """Return the last value of each field."""
    return {name: values[-1] for name, values in form.items()}
