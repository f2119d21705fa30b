"""Engines for the tests of applications that fine-tune.

`simulate()` runs the engine's own HTTP API, store and state machine inside the test
process; jobs take milliseconds and memorise their training data, so neither torch nor a
model is needed (extra `testing`). `start_tiny()` runs the real engine on a tiny model
with random weights (extra `engine`). `recorded_organization()` is an organisation at a simulated
OpenAI or Azure, for tests of what reads one; it needs no extra. `tunesmith.testing.plugin` gives
the engines as pytest fixtures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunesmith._lazy import lazy_exports
from tunesmith.errors import MissingExtraError

if TYPE_CHECKING:
    from .organization.server import RecordedOrganization as RecordedOrganization
    from .organization.server import recorded_organization as recorded_organization
    from .organization.training_facts import Quirks as Quirks
    from .simulated_backend import Prompt as Prompt
    from .simulated_engine import SimulatedEngine as SimulatedEngine
    from .simulated_engine import simulate as simulate
    from .tiny_model import start_tiny as start_tiny
    from .tiny_model import write_tiny_home as write_tiny_home
    from .tiny_model import write_tiny_model as write_tiny_model

lazy_exports(globals(), lambda: MissingExtraError("`tunesmith.testing`", "testing"))
