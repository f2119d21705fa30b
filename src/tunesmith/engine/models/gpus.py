"""The GPUs of this machine, and who has which: a lease per card.

`nvidia-smi` lists the cards, once; a server needs no torch for it. A lease is a lock on a file of
the state folder. The process that uses the card inherits the open file, so the system ends the
lease when that process ends, however it does: a crash frees the card, and after a restart of the
server a training still has its own. What computes on a card is not known here.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tunesmith.file_lock import try_lock

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = ["GPU_VARIABLE", "NO_GPU", "Gpu", "GpuLease", "GpuPool", "read_gpus"]

_log = logging.getLogger("tunesmith.engine")

GPU_VARIABLE = "TUNESMITH_GPUS"
"""Environment variable that tells a process in words which cards it was given."""

NO_GPU: dict[str, str] = {"CUDA_VISIBLE_DEVICES": ""}
"""Environment variables of a process that is to see no card."""

_FIELDS = "index,uuid,name,memory.total"
_TIMEOUT_SECONDS = 30.0
_RESERVED_SECONDS = 5.0
_MEBIBYTE = 1 << 20


@dataclass(frozen=True, slots=True)
class Gpu:
    """One card, or one part of a card that is divided.

    Attributes:
        index: What `CUDA_VISIBLE_DEVICES` calls it: a number, or the id of a part.
        name: Its product name.
        memory_bytes: Bytes of its memory, free or not; 0 where that is not known.
        uuid: Its own id, the same after every start of the machine.
    """

    index: str
    name: str
    memory_bytes: int
    uuid: str

    def __str__(self) -> str:
        size = f", {self.memory_bytes / 1e9:.0f} GB" if self.memory_bytes else ""
        return f"GPU {self.index} ({self.name}{size})"


@dataclass(slots=True)
class GpuLease:
    """The use of some cards, until it is closed here and in the processes that have inherited it.

    Attributes:
        gpus: The cards.
        descriptors: Open files that a process has to inherit (`pass_fds`) to keep the lease.
    """

    gpus: tuple[Gpu, ...]
    descriptors: tuple[int, ...]

    @property
    def variables(self) -> dict[str, str]:
        """Environment variables that show a process these cards and no others."""
        return {
            # The order of nvidia-smi; by default CUDA numbers the fastest card first.
            "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
            "CUDA_VISIBLE_DEVICES": ",".join(gpu.index for gpu in self.gpus),
            GPU_VARIABLE: ", ".join(map(str, self.gpus)),
        }

    def close(self) -> None:
        """Close the files in this process; who has inherited them keeps the lease."""
        descriptors, self.descriptors = self.descriptors, ()
        for descriptor in descriptors:
            os.close(descriptor)


@dataclass(slots=True)
class GpuPool:
    """The cards that the engine of a state folder may use, and their leases.

    Safe to use from several threads and processes.

    Args:
        folder: Where the lock files are.
        gpus: The cards; none on a machine without, where nothing is leased.
    """

    folder: Path
    gpus: Sequence[Gpu] = field(default_factory=tuple)
    _training_waits_until: float = field(default=float("-inf"), init=False)

    def acquire(self, holder: str, count: int = 1, *, for_serving: bool = False) -> GpuLease | None:
        """Lease cards that nobody has.

        Args:
            holder: Who uses them, for people: "job ftjob-1", "serving".
            count: How many.
            for_serving: Take those with the highest numbers, and none that a training waits for;
                trainings get those with the lowest.

        Returns:
            None if fewer than `count` are free.

        Raises:
            OSError: The lock files cannot be written.
        """
        if for_serving and self._is_training_waiting():
            return None
        taken: list[tuple[Gpu, int]] = []
        for gpu in reversed(self.gpus) if for_serving else self.gpus:
            if len(taken) == count:
                break
            descriptor = self._lock(gpu)
            if descriptor is not None:
                taken.append((gpu, descriptor))
        if len(taken) < count:
            for _gpu, descriptor in taken:
                os.close(descriptor)
            return None
        note = json.dumps({"holder": holder}).encode()
        for _gpu, descriptor in taken:
            os.truncate(descriptor, 0)
            os.pwrite(descriptor, note, 0)
        taken.sort(key=lambda pair: self.gpus.index(pair[0]))
        return GpuLease(tuple(gpu for gpu, _ in taken), tuple(number for _, number in taken))

    def has_free(self, count: int = 1, *, for_serving: bool = False) -> bool:
        """Return whether `acquire` would find that many cards now."""
        if for_serving and self._is_training_waiting():
            return False
        return sum(holder is None for holder in self.holders().values()) >= count

    def training_waits(self) -> None:
        """Keep cards that become free within the next seconds for trainings."""
        self._training_waits_until = time.monotonic() + _RESERVED_SECONDS

    def _is_training_waiting(self) -> bool:
        return time.monotonic() < self._training_waits_until

    def holders(self) -> dict[Gpu, str | None]:
        """Return who has each card; None for a card that is free."""
        return {gpu: self._holder(gpu) for gpu in self.gpus}

    def _holder(self, gpu: Gpu) -> str | None:
        descriptor = self._lock(gpu)
        if descriptor is not None:
            os.close(descriptor)
            return None
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            note = json.loads(self._file(gpu).read_text(encoding="utf-8"))
            return str(note["holder"])
        return "another process"

    def _lock(self, gpu: Gpu) -> int | None:
        """Return the open and locked file of a card; None if somebody else has it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._file(gpu), os.O_RDWR | os.O_CREAT, 0o600)
        if try_lock(descriptor):
            return descriptor
        os.close(descriptor)
        return None

    def _file(self, gpu: Gpu) -> Path:
        return self.folder / f"{gpu.uuid.replace('/', '_')}.lock"


def read_gpus(environment: Mapping[str, str] | None = None) -> tuple[Gpu, ...]:
    """Return the cards that this process may use, as `nvidia-smi` lists them.

    `CUDA_VISIBLE_DEVICES` limits them, as it does for every program. Empty on Windows, where leases
    are not kept, and where there is no `nvidia-smi`: a card of another make is not leased.

    Args:
        environment: Where to look for that variable; default: this process's own.
    """
    environment = os.environ if environment is None else environment
    if sys.platform == "win32":
        return ()
    gpus = _listed()
    chosen = environment.get("CUDA_VISIBLE_DEVICES")
    if chosen is None or not gpus:
        return gpus
    found = [_named(part.strip(), gpus) for part in chosen.split(",") if part.strip()]
    return tuple(gpu for gpu in found if gpu is not None)


def _listed() -> tuple[Gpu, ...]:
    command = ["nvidia-smi", f"--query-gpu={_FIELDS}", "--format=csv,noheader,nounits"]
    try:
        output = subprocess.run(
            command, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=True
        ).stdout
    except FileNotFoundError:
        return ()
    except (OSError, subprocess.SubprocessError) as error:
        _log.warning("nvidia-smi does not list the GPUs, so none is leased: %s", error)
        return ()
    return tuple(_gpu(line) for line in output.splitlines() if line.count(",") >= 3)  # noqa: PLR2004


def _gpu(line: str) -> Gpu:
    index, uuid, *name, memory = (part.strip() for part in line.split(","))
    size = int(memory) * _MEBIBYTE if memory.isdecimal() else 0
    return Gpu(index, ", ".join(name), size, uuid)


def _named(text: str, gpus: Sequence[Gpu]) -> Gpu | None:
    """Return the card that `CUDA_VISIBLE_DEVICES` names by its number or the start of its id."""
    for gpu in gpus:
        if text == gpu.index or (text.startswith("GPU-") and gpu.uuid.startswith(text)):
            return gpu
    return Gpu(text, "a part of a GPU", 0, text) if text.startswith("MIG-") else None
