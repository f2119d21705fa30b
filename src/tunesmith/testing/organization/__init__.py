"""An organisation at a simulated OpenAI or Azure, on a real socket, made from a seed.

For tests of programs that read, archive or move what an organisation has at a hosted service. It
needs the standard library alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunesmith._lazy import lazy_exports

if TYPE_CHECKING:
    from .server import RecordedOrganization as RecordedOrganization
    from .server import recorded_organization as recorded_organization
    from .training_facts import Quirks as Quirks

lazy_exports(globals())
