"""`tunesmith migrate`: bring an organisation's fine-tuning home, step by step.

One module for each group of steps; `options` holds what they share. A command returns 4 where a
requirement is not met and 5 where an archive is incomplete.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunesmith.cli.parser import add_group

from . import archive, compare, plan, record, serve

if TYPE_CHECKING:
    from tunesmith.cli.parser import Commands

__all__ = ["register"]


def register(commands: Commands) -> None:
    """Add `migrate`."""
    group = add_group(commands, "migrate", "Bring fine-tuning home from a hosted service")
    for module in (archive, record, plan, compare, serve):
        module.register(group)
