"""Each training has a GPU to itself, and so has serving.

The machine pretends to have two cards: a program called nvidia-smi lists them. The processes are
real, and say which card they were given.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tunesmith.engine.config import ServingConfig
from tunesmith.engine.models.gpus import NO_GPU, Gpu, GpuPool, read_gpus

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

CARDS = (
    "0, GPU-aaaa-1, NVIDIA H100 80GB HBM3, 81559",
    "1, GPU-bbbb-2, NVIDIA H100 80GB HBM3, 81559",
)


@pytest.fixture
def cards(tmp_path, monkeypatch):
    """Pretend that this machine has so many cards."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def pretend(count):
        program = folder / "nvidia-smi"
        lines = "\n".join(CARDS[:count])
        program.write_text(f"#!/bin/sh\ncat <<'END'\n{lines}\nEND\n", "utf-8")
        program.chmod(0o755)

    return pretend


def variables(pid):
    entries = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return dict(entry.decode().split("=", 1) for entry in entries if b"=" in entry)


def worker_card(platform, job):
    """Return the card of a training, once it trains."""
    platform.reached(job, 1)
    return variables(platform.worker_pid(job))["CUDA_VISIBLE_DEVICES"]


def model_worker(platform):
    """Return the process that generates answers; None if there is none."""
    return next(iter(platform.model_workers()), None)


def said(platform, job):
    return " ".join(event["message"] for event in platform.events(job))


def test_the_cards_are_those_that_nvidia_smi_lists(cards):
    cards(2)
    assert read_gpus({}) == (
        Gpu("0", "NVIDIA H100 80GB HBM3", 81559 << 20, "GPU-aaaa-1"),
        Gpu("1", "NVIDIA H100 80GB HBM3", 81559 << 20, "GPU-bbbb-2"),
    )
    assert [gpu.index for gpu in read_gpus({"CUDA_VISIBLE_DEVICES": "1"})] == ["1"]
    assert [gpu.index for gpu in read_gpus({"CUDA_VISIBLE_DEVICES": "GPU-bbbb"})] == ["1"]
    assert [gpu.index for gpu in read_gpus({"CUDA_VISIBLE_DEVICES": "MIG-7"})] == ["MIG-7"]
    assert read_gpus(NO_GPU) == ()
    assert str(read_gpus({})[0]) == "GPU 0 (NVIDIA H100 80GB HBM3, 86 GB)"


def test_a_lease_ends_with_the_process_that_inherited_it(tmp_path):
    gpus = [Gpu("0", "card", 0, "GPU-a"), Gpu("1", "card", 0, "GPU-b")]
    pool, other = GpuPool(tmp_path, gpus), GpuPool(tmp_path, gpus)
    lease = pool.acquire("job 1")
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    process = subprocess.Popen(command, pass_fds=lease.descriptors)
    lease.close()
    assert other.holders() == {gpus[0]: "job 1", gpus[1]: None}
    assert other.acquire("job 2", 2) is None
    assert other.has_free()  # what was tried in vain is given back
    with contextlib.closing(other.acquire("serving", for_serving=True)) as second:
        assert second.variables["CUDA_VISIBLE_DEVICES"] == "1"
        assert pool.acquire("job 3") is None
    process.kill()
    process.wait()
    assert pool.has_free(2)
    pool.training_waits()
    assert pool.acquire("serving", for_serving=True) is None
    pool.acquire("job 3").close()


@pytest.mark.slow
def test_two_trainings_have_two_cards_and_a_third_one_waits(make_platform, rows, cards, tmp_path):
    cards(2)
    platform = make_platform(tmp_path / "home", max_concurrent_jobs=3)
    file = platform.upload(rows * 10)
    first, second, third = (platform.create(file, 40, suffix=name) for name in "abc")
    assert {worker_card(platform, first), worker_card(platform, second)} == {"0", "1"}
    assert platform.job(third)["status"] == "queued"

    # The server dies, and the trainings keep their cards; then one of them dies.
    platform.kill()
    platform.start()
    time.sleep(2)
    assert platform.job(third)["status"] == "queued"
    card = worker_card(platform, first)
    platform.call("POST", f"fine_tuning/jobs/{first['id']}/cancel")
    assert worker_card(platform, third) == card
    assert f"GPU {card} (NVIDIA H100 80GB HBM3, 86 GB)" in said(platform, third)
    # This PyTorch has no CUDA, which is not passed over in silence.
    assert "Training on the processor" in said(platform, third)
    for job in (second, third):
        platform.call("POST", f"fine_tuning/jobs/{job['id']}/cancel")


@pytest.mark.slow
def test_serving_gives_its_only_card_to_a_training(make_platform, rows, cards, tmp_path):
    cards(1)
    platform = make_platform(tmp_path / "home", serving=ServingConfig())

    def answer():
        body = {"model": "gpt-4o-mini", "prompt": "I", "max_tokens": 3}
        return platform.call("POST", "completions", json=body)

    answer()
    pid = model_worker(platform)
    assert variables(pid)["CUDA_VISIBLE_DEVICES"] == "0"
    job = platform.create(platform.upload(rows * 10), 40)
    assert worker_card(platform, job) == "0"
    # Nothing was loaded beside the training; a request is answered on the processor.
    assert model_worker(platform) in {None, pid}
    answer()
    assert variables(model_worker(platform))["CUDA_VISIBLE_DEVICES"] == ""
    platform.call("POST", f"fine_tuning/jobs/{job['id']}/cancel")
    time.sleep(6)

    def has_card():
        answer()
        worker = model_worker(platform)
        return worker is not None and variables(worker)["CUDA_VISIBLE_DEVICES"] == "0"

    platform.wait_for(has_card)


@pytest.mark.slow
def test_a_killed_training_frees_its_card(make_platform, rows, cards, tmp_path):
    cards(1)
    platform = make_platform(tmp_path / "home", max_concurrent_jobs=2)
    job = platform.create(platform.upload(rows * 10), 40)
    assert worker_card(platform, job) == "0"
    pid = platform.kill_worker(job)
    platform.wait_for(lambda: platform.rows(job, "worker_pid") not in {None, pid})
    assert worker_card(platform, job) == "0"
    platform.call("POST", f"fine_tuning/jobs/{job['id']}/cancel")
