"""Has data files examined and prepared by `data_worker`, a process with limits for each.

A few run at a time. What was found is kept for as long as the same is asked, since a page asks
again whenever its form changes. Knows no HTTP and no database.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections import OrderedDict
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.engine.domain.errors import RequestError
from tunesmith.engine.training.estimates import TrainingCosts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["DataExaminer", "ExaminationError"]

_AT_A_TIME = 2
_WAIT_SECONDS = 60.0
_KEPT = 64
_MOST_RESULT = 16 << 20
_MEMORY_BYTES = 4 << 30
_TORCH_MEMORY_BYTES = 64 << 30  # address space, most of which is never touched
_PASSED_ON = (
    *("PATH", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "LD_LIBRARY_PATH"),
    *("LANG", "LC_ALL", "SYSTEMROOT", "HOME"),
)
_TOO_LONG = (
    "Reading this file took longer than {seconds:g} s of processor time. Prepare it on the command "
    "line: tunesmith tools fine_tunes.prepare_data -f FILE."
)
_TOO_LARGE = (
    "This file needs more memory or disk space than a page may use. Prepare it on the command "
    "line: tunesmith tools fine_tunes.prepare_data -f FILE."
)


class ExaminationError(RequestError):
    """A file could not be examined: it takes too much, or too much else is examined."""


class DataExaminer:
    """Examines and prepares files, a few at a time. Safe to use from several threads.

    Args:
        seconds: Processor time of one file.
        file_bytes: Most bytes of each file that is written on the way.
    """

    def __init__(self, seconds: float, file_bytes: int) -> None:
        self._seconds = seconds
        self._file_bytes = max(file_bytes, _MOST_RESULT)
        self._places = threading.BoundedSemaphore(_AT_A_TIME)
        self._known: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self._lock = threading.Lock()

    def examine(self, path: Path, name: str, order: Mapping[str, Any]) -> dict[str, Any]:
        """Return what is in a file, what would be changed, and how a model will see the rows.

        Args:
            path: The content, at a path that its hash makes unique.
            name: What the user calls it; its ending says the format.
            order: "base_path" of the model whose tokens are counted, "max_tokens", "prompt" and
                "completion" (columns), "accepted" and "refused" (ids of fixes), "prompt_format";
                or "as_is" and "method", to examine JSONL as a job would.

        Raises:
            ExaminationError: It takes too long, or the process died.
        """
        key = json.dumps(["examine", str(path), name, order], sort_keys=True, default=str)
        found = self._remembered(key)
        if found is None:
            with _file_called(path, name) as (folder, link):
                found = self._run(folder, {**order, "action": "examine", "path": str(link)})
            self._remember(key, found)
        return found

    def costs(self, base_path: Path, longest: int) -> TrainingCosts | None:
        """Return what trainings of a model cost here; None if that cannot be computed.

        Args:
            base_path: Folder of the base model.
            longest: Tokens of the longest example.

        Raises:
            ExaminationError: It takes too long, or the process died.
        """
        longest = max(256, 1 << (longest - 1).bit_length())  # one answer serves similar data
        key = json.dumps(["costs", str(base_path), longest])
        found = self._remembered(key)
        if found is None:
            order = {"action": "costs", "base_path": str(base_path), "longest": longest}
            with tempfile.TemporaryDirectory(prefix="tunesmith-data-") as folder:
                found = self._run(Path(folder), {**order, "memory_bytes": _TORCH_MEMORY_BYTES})
            self._remember(key, found)
        return TrainingCosts.from_dict(found) if found else None

    @contextmanager
    def prepared(
        self, path: Path, name: str, order: Mapping[str, Any]
    ) -> Iterator[tuple[dict[str, Any], Path]]:
        """Write training data; within the block they lie in the folder that is given.

        Args:
            path: See `examine`.
            name: See `examine`.
            order: See `examine`; "hold_out" is the share of the rows for validation.

        Raises:
            ExaminationError: As `examine`.
        """
        with _file_called(path, name) as (folder, link):
            output = folder / "prepared"
            output.mkdir()
            more = {"action": "prepare", "path": str(link), "output": str(output)}
            yield self._run(folder, {**order, **more}), output

    def _remembered(self, key: str) -> dict[str, Any] | None:
        with self._lock:
            found = self._known.get(key)
            if found is not None:
                self._known.move_to_end(key)
            return found

    def _remember(self, key: str, found: dict[str, Any]) -> None:
        with self._lock:
            self._known[key] = found
            while len(self._known) > _KEPT:
                self._known.popitem(last=False)

    def _run(self, folder: Path, order: dict[str, Any]) -> dict[str, Any]:
        if not self._places.acquire(timeout=_WAIT_SECONDS):
            raise ExaminationError(
                "Other files are being examined. Try again when one of them is done."
            )
        try:
            return self._outcome(folder, order)
        finally:
            self._places.release()

    def _outcome(self, folder: Path, order: dict[str, Any]) -> dict[str, Any]:
        result = folder / "result.json"
        limits = {
            "seconds": int(self._seconds),
            "memory_bytes": _MEMORY_BYTES,
            "file_bytes": self._file_bytes,
        }
        text = json.dumps({**limits, **order, "result": str(result)}, default=str)
        process = subprocess.Popen(
            [sys.executable, "-m", "tunesmith.engine.jobs.data_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=_environment(folder),
            cwd=folder,
            start_new_session=True,
        )
        try:
            # By the clock longer than by the processor: the machine may be busy.
            _, errors = process.communicate(text.encode(), timeout=4 * self._seconds)
        except subprocess.TimeoutExpired:
            raise ExaminationError(_TOO_LONG.format(seconds=self._seconds)) from None
        finally:
            if process.poll() is None:
                process.kill()
            process.communicate()
        if process.returncode == 0 and result.stat().st_size <= _MOST_RESULT:
            return dict(json.loads(result.read_bytes()))
        raise ExaminationError(_why(process.returncode, errors, self._seconds))


def _why(status: int, errors: bytes, seconds: float) -> str:
    if status < 0:  # a signal: of the limit of processor time, or of the system
        return _TOO_LONG.format(seconds=seconds)
    lines = errors.decode("utf-8", "replace").strip().splitlines()
    last = lines[-1] if lines else f"status {status}"
    if "MemoryError" in last or "File too large" in last:
        return _TOO_LARGE
    return f"This file could not be examined: {last[:300]}"


def _environment(folder: Path) -> dict[str, str]:
    """Return the environment of the process: no secret of the server is in it."""
    passed = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return passed | {"TMPDIR": str(folder), "HF_HUB_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": "1"}


@contextmanager
def _file_called(path: Path, name: str) -> Iterator[tuple[Path, Path]]:
    """Give a folder with a link to a file under the name that its user gave it."""
    safe = re.sub(r"[\x00-\x1f/\\]", "_", name)[-80:].lstrip(".") or "file"
    while len(safe.encode()) > 200:  # noqa: PLR2004 - what file systems take
        safe = safe[1:]
    with tempfile.TemporaryDirectory(prefix="tunesmith-data-") as folder:
        own = Path(folder) / "file"
        own.mkdir()
        link = own / safe
        try:
            link.symlink_to(path)
        except OSError:  # a system without them
            with contextlib.suppress(OSError):
                link.hardlink_to(path)
        yield Path(folder), link
