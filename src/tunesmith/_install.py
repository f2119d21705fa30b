"""The one sentence on how to install what is missing: as this copy of the package was installed.

A copy from a clone, a wheel or a repository is on no index under its version; its extras come from
where it came from. So the command works as it is printed, for who has a clone and for who has a
package.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

__all__ = ["install_command", "install_extra", "quoted"]

_PLAIN = re.compile(r"[\w./:\\~=+-]+")


def install_extra(extra: str) -> str:
    """Return the command that installs one extra, or several that commas part, of this package."""
    url, editable = _origin()
    if url is None:
        return install_command(f"tunesmith[{extra}]")
    if url.startswith("file:") and (folder := _folder(url)) is not None:
        option = "-e " if editable else ""
        return f"{_pip_install()} {option}{quoted(f'{folder}[{extra}]')}"
    return install_command(f"tunesmith[{extra}] @ {url}")


def install_command(requirement: str) -> str:
    """Return the command that installs a package beside this one."""
    return f"{_pip_install()} {quoted(requirement)}"


def _pip_install() -> str:
    """Return the command that installs into this environment, as short as it can be."""
    if find_spec("pip") is None:  # an environment that uv made has none
        return f"uv pip install --python {quoted(sys.executable)}"
    found = shutil.which("pip")
    if found and Path(found).parent == Path(sys.executable).parent:
        return "pip install"
    return f"{quoted(sys.executable)} -m pip install"


def _origin() -> tuple[str | None, bool]:
    """Return where this package was installed from, and whether it is used in place."""
    try:
        text = importlib.metadata.distribution("tunesmith").read_text("direct_url.json")
        origin: dict[str, Any] = json.loads(text or "{}")
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return None, False
    url: str | None = origin.get("url")
    if url is not None and "vcs_info" in origin:
        url = f"{origin['vcs_info'].get('vcs', 'git')}+{url}"
    return url, bool(origin.get("dir_info", {}).get("editable"))


def _folder(url: str) -> str | None:
    from urllib.request import url2pathname  # noqa: PLC0415 - loads the network's modules

    path = Path(url2pathname(urlsplit(url).path))
    if not path.is_dir():
        return None
    try:
        return "." if path.samefile(Path.cwd()) else str(path)
    except OSError:
        return str(path)


def quoted(text: str) -> str:
    """Return an argument as every shell takes it."""
    return text if _PLAIN.fullmatch(text) else f'"{text}"'
