"""The same checks over ranges of a JSONL file: in processes, or on Ray.

A range is some bytes of the file; the lines that start in it belong to it. Each range is checked
by itself and the partial results are merged in the order of the file, so the answer is that of
one process. Workers hash with one fixed seed, which is why they are processes of their own.
"""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, Self

from tunesmith._install import install_extra

from .checks.check_run import CheckRun
from .dataset_errors import DatasetError
from .optional import optional
from .readers.json_lines import JsonLines

if TYPE_CHECKING:
    from pathlib import Path

    from .checks.settings import CheckSettings

__all__ = ["WorkerPool", "byte_ranges", "check_on_ray", "check_range", "main"]

_SMALLEST_RANGE: Final = 1 << 22
_HASH_SEED: Final = {"PYTHONHASHSEED": "0"}


def byte_ranges(size: int, parts: int, smallest: int = _SMALLEST_RANGE) -> list[tuple[int, int]]:
    """Divide `size` bytes into at most `parts` ranges of about the same length.

    Args:
        size: Bytes to divide.
        parts: Most ranges.
        smallest: Shorter ranges are not worth a process.
    """
    parts = max(1, min(parts, size // smallest))
    bounds = [size * part // parts for part in range(parts + 1)]
    return list(pairwise(bounds))


def check_range(path: Path, settings: CheckSettings, start: int, end: int) -> CheckRun:
    """Check the lines that start in a range of bytes."""
    return CheckRun(settings).observe(JsonLines(path).batches(start, end))


class WorkerPool:
    """Processes that start while the settings are still being resolved, then share a JSONL file.

    Args:
        path: The file.
        workers: Most processes; where the file is too small for two there is none, and the
            caller checks the file itself.
        smallest: Shorter ranges of bytes are not worth a process.
    """

    def __init__(self, path: Path, workers: int, smallest: int = _SMALLEST_RANGE) -> None:
        self.path = path
        self.ranges: list[tuple[int, int]] = byte_ranges(path.stat().st_size, workers, smallest)
        count = len(self.ranges) if len(self.ranges) > 1 else 0
        self.processes: list[subprocess.Popen[bytes]] = [_start_worker() for _ in range(count)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for process in self.processes:
            process.kill()
            process.communicate()

    def check(self, settings: CheckSettings) -> CheckRun:
        """Check the file.

        Raises:
            DatasetError: A worker process failed.
        """
        # Windows removes no file that is open: what is left there goes with the process.
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            tasks = [(self.path, settings, start, end, folder) for start, end in self.ranges]
            with ThreadPoolExecutor(len(tasks)) as threads:
                return reduce(CheckRun.merge, threads.map(_run_task, self.processes, tasks))


def _start_worker() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", __name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | _HASH_SEED,
    )


def _run_task(
    process: subprocess.Popen[bytes], task: tuple[Path, CheckSettings, int, int, str]
) -> CheckRun:
    output, errors = process.communicate(pickle.dumps(task))
    if process.returncode != 0:
        reason = errors.decode("utf-8", "replace").strip().splitlines()[-1:]
        raise DatasetError(f"A worker process failed: {' '.join(reason)}")
    # From the process that was just started, over a pipe that no other process has.
    run: CheckRun = pickle.loads(output)  # noqa: S301
    return run


def main() -> None:
    """Run one task: read it from the standard input, write its result to the standard output."""
    with io.FileIO(os.dup(sys.stdout.fileno()), "wb") as output:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        for name in ("msgspec", "numpy"):  # while the task is still being prepared
            optional(name)
        task = pickle.load(sys.stdin.buffer)  # noqa: S301 - our own parent
        path, settings, start, end, folder = task
        result = pickle.dumps(check_range(path, settings, start, end).share_in(folder))
        view = memoryview(result)
        while view:
            view = view[output.write(view) :]


def check_on_ray(
    path: Path,
    settings: CheckSettings,
    partitions: int | None = None,
    smallest: int = _SMALLEST_RANGE,
) -> CheckRun:
    """Check a JSONL file on Ray Data, on the connected cluster or a local one.

    Args:
        path: The file, at the same path on every node.
        settings: What the checks go by.
        partitions: Ranges; None for four for each processor of the cluster.
        smallest: Shorter ranges are not made.

    Raises:
        DatasetError: Ray is not installed.
    """
    ray = optional("ray")
    if ray is None or optional("ray.data") is None:
        raise DatasetError(f"The engine 'ray' needs Ray: {install_extra('ray')}")
    if not ray.is_initialized():
        ray.init(include_dashboard=False, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    partitions = partitions or 4 * int(ray.cluster_resources().get("CPU", 1))
    ranges = byte_ranges(path.stat().st_size, partitions, smallest)
    items = [
        {"number": number, "start": start, "end": end} for number, (start, end) in enumerate(ranges)
    ]

    def check(item: dict[str, Any]) -> dict[str, Any]:
        part = check_range(path, settings, int(item["start"]), int(item["end"]))
        return {"number": item["number"], "part": pickle.dumps(part)}

    data = ray.data.from_items(items, override_num_blocks=len(items))
    mapped = data.map(check, runtime_env={"env_vars": _HASH_SEED})
    results: list[dict[str, Any]] = mapped.take_all()
    parts_by_number = {int(item["number"]): item["part"] for item in results}
    # Pickled by the function above, on a cluster that runs any code of ours anyway.
    answers: list[CheckRun] = [
        pickle.loads(parts_by_number[number])  # noqa: S301
        for number in sorted(parts_by_number)
    ]
    return reduce(CheckRun.merge, answers)


if __name__ == "__main__":
    main()
