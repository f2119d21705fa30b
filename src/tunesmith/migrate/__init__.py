"""Bringing an organisation's fine-tuning home: what it has, an archive of it, proof, the switch.

Each step is a function here and a command of `tunesmith migrate`. The steps of the archive work
with both clients: given an `AsyncClient` they return a coroutine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunesmith._lazy import lazy_exports

if TYPE_CHECKING:
    from .archive import Archive as Archive
    from .archive import ArchivedFile as ArchivedFile
    from .archive import ArchivedJob as ArchivedJob
    from .archive import ArchiveError as ArchiveError
    from .archive import Gap as Gap
    from .shutdown_dates import Shutdown as Shutdown
    from .shutdown_dates import base_model as base_model
    from .shutdown_dates import shutdown_of as shutdown_of
    from .verify import Fault as Fault
    from .verify import Verification as Verification
    from .verify import verify as verify

lazy_exports(globals())
