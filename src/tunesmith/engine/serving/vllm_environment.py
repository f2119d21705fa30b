"""The environment of the engine's vLLM: a virtual environment with a pinned version.

vLLM pins PyTorch and a hundred other packages, so it cannot live beside the engine. pip installs it
from the package index that the environment names; what it has downloaded stays in a cache of its
own, so an installation that was interrupted continues. Nothing here runs vLLM as a server.
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from typing import TYPE_CHECKING

from tunesmith.atomic import write_atomically
from tunesmith.disk_space import require_space
from tunesmith.engine.domain.errors import EngineError
from tunesmith.engine.models.gpus import read_gpus
from tunesmith.file_lock import exclusive_lock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    # Called with a description, the amount done and the total amount.
    Report = Callable[[str, int, int], None]

__all__ = ["VLLM_VERSION", "install_vllm", "installed_program", "installed_version"]

VLLM_VERSION = "0.33.0"
"""The version whose command line, endpoints and answers this engine knows."""

OLDEST_PYTHON, FIRST_UNSUPPORTED_PYTHON = (3, 11), (3, 15)
NEEDED_BYTES = 14 << 30  # downloads of 5 GB, and what they unpack to
RAW_PROGRESS_PIP = (24, 1)
RESUMING_PIP = (25, 1)

_PROGRESS = re.compile(r"Progress (\d+) of (\d+)")
_DOWNLOADING = re.compile(r"\s*Downloading (\S+)")
_OFFLINE = (
    "NewConnectionError",
    "name resolution",
    "Connection refused",
    "Network is unreachable",
    "ProxyError",
    "ConnectTimeoutError",
    "Read timed out",
    "SSLError",
    "(from versions: none)",
)
_LAST_LINES = 6


def installed_program(state: Path) -> tuple[str, ...] | None:
    """Return what runs the vLLM of this folder; None if it is not completely installed.

    Args:
        state: The folder `vllm` of the state folder.
    """
    program = state / "env" / "bin" / "vllm"
    return (str(program),) if installed_version(state) and program.exists() else None


def installed_version(state: Path) -> str | None:
    """Return the version of the vLLM of this folder; None if it is not completely installed."""
    try:
        return str(json.loads(_marker(state).read_text(encoding="utf-8"))["version"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def install_vllm(
    state: Path,
    report: Report,
    *,
    python: Path | None = None,
    needs_gpu: bool = True,
) -> bool:
    """Install vLLM, or finish what an interrupted installation has begun.

    Args:
        state: The folder `vllm` of the state folder.
        report: Called with what is done, and how far it is.
        python: The Python of the environment; default: the one that runs this.
        needs_gpu: Whether to refuse where no GPU is found.

    Returns:
        False if it is installed already.

    Raises:
        EngineError: It cannot be installed; the message says why and what to do.
        NotEnoughSpaceError: The disk has too little free space.
    """
    if installed_version(state) == VLLM_VERSION and installed_program(state):
        return False
    executable = str(python or sys.executable)
    _check_machine(needs_gpu=needs_gpu)
    _check_python(executable)
    state.mkdir(parents=True, exist_ok=True)
    with exclusive_lock(state / "install.lock"):
        require_space(state, NEEDED_BYTES, f"install vLLM {VLLM_VERSION}")
        _marker(state).unlink(missing_ok=True)
        env_python = _environment(state, executable)
        _install(state, env_python, report)
        report("checking that vLLM starts", 0, 1)
        version = _checked_version(state)
        report("checking that vLLM starts", 1, 1)
        with write_atomically(_marker(state)) as file:
            file.write(json.dumps({"version": version}).encode() + b"\n")
    return True


def _marker(state: Path) -> Path:
    return state / "env" / "tunesmith.json"


def _check_machine(*, needs_gpu: bool) -> None:
    if sys.platform != "linux" or platform.machine() not in {"x86_64", "aarch64"}:
        raise EngineError(
            f"vLLM is made for Linux on x86-64 and ARM, not for {sys.platform} on "
            f"{platform.machine()}. The engine's own process answers here: leave `backend` under "
            "[serving] out."
        )
    if needs_gpu and not read_gpus():
        raise EngineError(
            "nvidia-smi lists no GPU that this process may use, and vLLM needs one. On a processor "
            'the engine\'s own process answers (`backend = "embedded"`, the default). To prepare '
            "an image for a machine with a GPU, add --without-gpu."
        )


def _check_python(executable: str) -> None:
    code = "import sys; print(*sys.version_info[:2])"
    try:
        text = _run([executable, "-I", "-c", code])
        version = tuple(map(int, text.split()))
    except (OSError, ValueError, subprocess.CalledProcessError):
        raise EngineError(f"{executable} is no Python that can be run.") from None
    if not OLDEST_PYTHON <= version < FIRST_UNSUPPORTED_PYTHON:
        oldest, newest = (
            ".".join(map(str, limit))
            for limit in (OLDEST_PYTHON, (3, FIRST_UNSUPPORTED_PYTHON[1] - 1))
        )
        raise EngineError(
            f"vLLM {VLLM_VERSION} runs on Python {oldest} to {newest}; {executable} is "
            f"{'.'.join(map(str, version))}. Name another one with --python."
        )


def _environment(state: Path, executable: str) -> Path:
    """Return the Python of the environment, which is made if it is not there or does not run."""
    folder = state / "env"
    python = folder / "bin" / "python"
    try:
        _run([str(python), "-I", "-m", "pip", "--version"])
    except (OSError, subprocess.CalledProcessError):
        pass
    else:
        return python
    try:
        _run([executable, "-I", "-m", "venv", "--clear", str(folder)])
    except subprocess.CalledProcessError as error:
        raise EngineError(
            f"No virtual environment can be made in {folder}: {_last_lines(error.output)}\n"
            "On Debian and Ubuntu, install the package python3-venv."
        ) from None
    return python


def _install(state: Path, python: Path, report: Report) -> None:
    pip = [str(python), "-I", "-m", "pip", "--disable-pip-version-check", "--no-input"]
    pip += ["--cache-dir", str(state / "downloads")]
    report("preparing pip", 0, 1)
    if _pip_version(pip) < RESUMING_PIP:
        # Newer versions resume downloads. Without one, the installation works as well.
        subprocess.run(
            [*pip, "install", "--quiet", "--upgrade", "pip"], capture_output=True, check=False
        )
    report("preparing pip", 1, 1)
    version = _pip_version(pip)
    options = ["--progress-bar", "raw"] if version >= RAW_PROGRESS_PIP else []
    options += ["--resume-retries", "20"] if version >= RESUMING_PIP else []
    with subprocess.Popen(
        [*pip, "install", "--only-binary", ":all:", *options, f"vllm=={VLLM_VERSION}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    ) as process:
        lines = list(_followed(process, report))
    if process.returncode != 0:
        raise EngineError(_failure("\n".join(lines)))


def _followed(process: subprocess.Popen[str], report: Report) -> Iterator[str]:
    """Yield pip's lines, and report what they say of its progress."""
    if process.stdout is None:
        return
    what = ""
    for line in process.stdout:
        if found := _PROGRESS.match(line):
            report(what, int(found[1]), int(found[2]))
            continue
        if found := _DOWNLOADING.match(line):
            what = f"downloading {found[1].rpartition('/')[2]}"
        elif line.startswith("Installing collected packages"):
            report("unpacking", 0, 1)
        elif line.startswith("Successfully installed"):
            report("unpacking", 1, 1)
        yield line.rstrip()


def _failure(output: str) -> str:
    if any(sign in output for sign in _OFFLINE):
        return (
            f"vLLM {VLLM_VERSION} cannot be downloaded: the package index does not answer, or does "
            "not have it for this machine.\n"
            f"{_last_lines(output)}\nCheck network and proxy, or name a mirror with PIP_INDEX_URL; "
            "then run the command again. What was downloaded is kept."
        )
    return (
        f"pip could not install vLLM {VLLM_VERSION}:\n{_last_lines(output)}\n"
        "Run the command again when the cause is removed; what was downloaded is kept."
    )


def _checked_version(state: Path) -> str:
    try:
        output = _run([str(state / "env" / "bin" / "vllm"), "--version"])
    except (OSError, subprocess.CalledProcessError) as error:
        output = getattr(error, "output", None) or str(error)
        raise EngineError(
            f"vLLM has been installed, but does not start:\n{_last_lines(output)}"
        ) from None
    return output.split()[-1] if output.split() else VLLM_VERSION


def _pip_version(pip: list[str]) -> tuple[int, ...]:
    numbers = re.findall(r"\d+", _run([*pip, "--version"]).split()[1])
    return tuple(map(int, numbers[:2]))


def _run(command: list[str]) -> str:
    return subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True
    ).stdout


def _last_lines(output: str | None) -> str:
    lines = [line for line in (output or "").splitlines() if line.strip()]
    return "\n".join(lines[-_LAST_LINES:])
