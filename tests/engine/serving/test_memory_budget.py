"""What a model worker takes of a machine's memory, and what it gives back."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass

import pytest
import torch

from tunesmith.engine.models.memory_table import available_host_memory, host_memory_bytes
from tunesmith.engine.serving import memory_budget
from tunesmith.engine.training.environment import worker_environment

GIVE_BACK = """
import gc, sys, torch
from pathlib import Path
from tunesmith.engine.models.memory_table import give_host_memory_back

def resident():
    text = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("VmRSS"))

before = resident()
weights = [torch.ones(1 << 18) for _ in range(200)]  # a megabyte each
peak = resident()
keep = torch.ones(1)  # above them in the heap
del weights
gc.collect()
kept = resident()
give_host_memory_back()
print(peak - before, kept - before, resident() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_freed_memory_goes_back_to_the_system_despite_the_tuned_malloc():
    result = subprocess.run(
        [sys.executable, "-c", GIVE_BACK],
        env=worker_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    peak, kept, left = map(int, result.stdout.split())
    assert kept > 0.9 * peak  # what the settings of malloc are for
    assert left < 0.2 * peak


def test_a_processor_shares_its_memory():
    device = torch.device("cpu")
    free = available_host_memory()
    assert memory_budget.LEAST_CACHE <= memory_budget.cache_budget(device) < 0.3 * free
    assert memory_budget.weights_budget(device) == host_memory_bytes() // 2


@dataclass(frozen=True)
class Card:
    """What torch says of a card of 80 GB with 16 GB of weights on it."""

    total: int = 80 << 30
    free: int = 60 << 30
    reserved: int = 18 << 30
    allocated: int = 16 << 30


def test_on_a_gpu_the_cards_memory_counts(monkeypatch):
    # No GPU runs these tests: what torch says of one is put in its place.
    card, device = Card(), torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (card.free, card.total))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _device: card.reserved)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _device: card.allocated)
    assert memory_budget.weights_budget(device) == pytest.approx(64 << 30, rel=1e-6)
    assert memory_budget.cache_budget(device) == pytest.approx(0.8 * (62 << 30), rel=1e-6)
    assert memory_budget.max_sequences(device) > memory_budget.max_sequences(torch.device("cpu"))
