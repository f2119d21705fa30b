"""The embedded fine-tuning platform: a server that trains and serves on this machine.

`start()` runs it in a process of its own for as long as a `with` block lasts;
`serve()` runs it in this process. Both need `pip install 'tunesmith[engine]'`, and nothing of
that is loaded before one of them is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunesmith._lazy import lazy_exports
from tunesmith.errors import MissingExtraError

if TYPE_CHECKING:
    from .config import EngineConfig as EngineConfig
    from .config import Limits as Limits
    from .config import MigrateConfig as MigrateConfig
    from .config import PythonGraders as PythonGraders
    from .domain.errors import EngineError as EngineError
    from .home import Home as Home
    from .process import Engine as Engine
    from .process import start as start
    from .server import serve as serve

lazy_exports(globals(), lambda: MissingExtraError("`tunesmith.engine`", "engine"))
