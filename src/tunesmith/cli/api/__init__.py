"""`tunesmith api …`: one command per API operation, named as in the API."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunesmith.cli.parser import add_group

from . import completions, files, fine_tunes, fine_tuning, models

if TYPE_CHECKING:
    from tunesmith.cli.parser import Commands

__all__ = ["register"]


def register(commands: Commands) -> None:
    """Add the group `api`."""
    group = add_group(commands, "api", "Call the API: files, jobs, completions, models")
    for module in (files, fine_tunes, fine_tuning, completions, models):
        module.register(group)
