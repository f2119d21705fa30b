"""What follows from counts alone: batches, hyperparameters, environment."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from tunesmith.datasets.training_defaults import default_batch_size, default_epochs
from tunesmith.engine.domain.errors import TrainingError
from tunesmith.engine.training.batches import epoch_batches, micro_batches
from tunesmith.engine.training.environment import available_threads, worker_environment
from tunesmith.engine.training.hyperparameters import (
    base_learning_rate,
    default_multiplier,
    learning_rate_at,
    resolve_hyperparameters,
)


@pytest.mark.parametrize(("count", "size"), [(1, 4), (40, 4), (257, 16), (1000, 7)])
def test_an_epoch_meets_each_example_once(count, size):
    lengths = np.random.default_rng(0).integers(1, 90, count).tolist()
    batches = epoch_batches(lengths, size, seed=1, epoch=0)
    assert sorted(n for batch in batches for n in batch) == list(range(count))
    assert len(batches) == -(-count // size)
    assert sorted(map(len, batches))[1:] == [size] * (len(batches) - 1)


def test_order_follows_seed_and_epoch():
    lengths = list(range(100))
    first = epoch_batches(lengths, 4, seed=1, epoch=0)
    assert first == epoch_batches(lengths, 4, seed=1, epoch=0)
    assert first != epoch_batches(lengths, 4, seed=1, epoch=1)
    assert first != epoch_batches(lengths, 4, seed=2, epoch=0)


def test_examples_of_like_length_share_a_batch():
    lengths = np.random.default_rng(0).integers(1, 100, 2000).tolist()
    batches = epoch_batches(lengths, 16, seed=0, epoch=0)
    padded = sum(max(lengths[n] for n in batch) * len(batch) for batch in batches)
    assert sum(lengths) / padded > 0.85


def test_micro_batches_keep_the_limit():
    lengths = [5, 50, 20, 20, 7, 300]
    parts = list(micro_batches(range(6), lengths, 100))
    assert sorted(n for part in parts for n in part) == list(range(6))
    assert [lengths[n] for part in parts for n in part] == sorted(lengths)
    for part in parts:
        assert len(part) == 1 or len(part) * max(lengths[n] for n in part) <= 100


def test_the_legacy_apis_rules(make_spec):
    spec = make_spec(api="fine-tunes", n_epochs=None, batch_size=None)
    values = resolve_hyperparameters(spec, 4000)
    assert (values.n_epochs, values.batch_size) == (4, 8)
    assert values.learning_rate_multiplier == 0.1
    assert [default_batch_size(n) for n in (1, 499, 1000, 10_000, 10**6)] == [1, 1, 2, 20, 256]
    assert [default_multiplier(n) for n in (1, 8, 256)] == [0.05, 0.1, 0.2]


def test_the_jobs_apis_rules(make_spec):
    assert [default_epochs(n) for n in (1, 10, 40, 1000, 20_000, 10**6)] == [25, 10, 3, 3, 1, 1]
    spec = make_spec(n_epochs=None, batch_size=None)
    assert resolve_hyperparameters(spec, 1000).learning_rate_multiplier == 2.0
    named = make_spec(n_epochs=7, batch_size=200, learning_rate_multiplier=0.3)
    values = resolve_hyperparameters(named, 50)
    assert (values.n_epochs, values.batch_size, values.learning_rate_multiplier) == (7, 50, 0.3)


def test_both_scales_of_the_multiplier_meet(make_spec):
    for recipe in ("fast", "lora", "full"):
        first = base_learning_rate(make_spec(api="fine-tunes"), recipe) * 0.1
        assert first == pytest.approx(base_learning_rate(make_spec(api="jobs"), recipe) * 2)


def test_the_learning_rate_rises_and_falls():
    rates = [learning_rate_at(step, 100, 1e-3) for step in range(1, 101)]
    assert max(rates) == rates[5] == 1e-3
    assert rates[:6] == sorted(rates[:6])
    assert rates[5:] == sorted(rates[5:], reverse=True)
    assert 0 < rates[-1] < 2e-5
    assert learning_rate_at(1, 1, 1e-3) == 1e-3


def test_the_worker_sleeps_while_it_waits_and_keeps_its_memory():
    environment = worker_environment({"PATH": "/bin", "OMP_WAIT_POLICY": "ACTIVE"}, threads=3)
    assert environment["PATH"] == "/bin"
    assert environment["OMP_WAIT_POLICY"] == "ACTIVE"
    assert environment["OMP_NUM_THREADS"] == environment["MKL_NUM_THREADS"] == "3"
    assert environment["GOMP_SPINCOUNT"] == "0"
    assert environment["MALLOC_MMAP_MAX_"] == "0"
    assert environment["GLIBC_TUNABLES"] == "glibc.malloc.hugetlb=1"
    own = worker_environment({"GLIBC_TUNABLES": "glibc.malloc.tcache_count=0"})
    assert own["GLIBC_TUNABLES"] == "glibc.malloc.tcache_count=0"
    assert worker_environment({"OMP_NUM_THREADS": "5"})["OMP_NUM_THREADS"] == "5"
    assert available_threads({"CI": "true"}) == 1
    assert available_threads({}) >= 1


def test_errors_travel_between_processes():
    error = pickle.loads(pickle.dumps(TrainingError("no", "disk_full")))  # noqa: S301 - our own bytes
    assert (str(error), error.code) == ("no", "disk_full")
