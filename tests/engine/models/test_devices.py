"""The device and the dtype are chosen by what the hardware supports."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize("available", [True, False])
def test_a_gpu_is_taken_where_there_is_one(monkeypatch, available):
    import torch

    from tunesmith.engine.models import devices

    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    assert devices.pick_device() == torch.device("cuda" if available else "cpu")


def test_dtype_on_a_gpu(monkeypatch):
    import torch

    from tunesmith.engine.models import devices

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    assert devices.best_dtype(torch.device("cuda")) == torch.bfloat16
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    assert devices.best_dtype(torch.device("cuda")) == torch.float32
    assert devices.best_dtype(torch.device("cuda"), gpu_fallback=torch.float16) == torch.float16


@pytest.mark.parametrize(
    ("cpu_info", "dtype"),
    [
        ("flags\t\t: fpu avx512f avx512_bf16 amx_tile", "bfloat16"),
        ("Features\t: fp asimd bf16 i8mm", "bfloat16"),
        ("flags\t\t: fpu sse2 avx2", "float32"),
        ("Features\t: fp asimd svebf16x", "float32"),
    ],
)
def test_dtype_on_a_cpu(monkeypatch, tmp_path, cpu_info, dtype):
    import torch

    from tunesmith.engine.models import devices

    file = tmp_path / "cpuinfo"
    file.write_text(cpu_info)
    monkeypatch.setattr(devices, "_CPU_INFO", file)
    assert devices.best_dtype(torch.device("cpu")) == getattr(torch, dtype)


def test_a_cpu_without_information(monkeypatch, tmp_path):
    import torch

    from tunesmith.engine.models import devices

    monkeypatch.setattr(devices, "_CPU_INFO", tmp_path / "none")
    assert devices.best_dtype(torch.device("cpu")) == torch.float32


def test_a_mac_trains_and_serves_on_its_gpu_where_that_works(monkeypatch):
    import torch

    from tunesmith.engine.models import devices

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    devices._mps_works.cache_clear()
    # Here the trial pass really fails, as there is no such GPU, so the processor is used.
    assert devices.pick_device().type == "cpu"
    assert devices.best_dtype(torch.device("mps")) == torch.float32
    monkeypatch.setattr(devices, "_mps_works", lambda _dtype=None: True)
    assert devices.pick_device().type == "mps"
    assert devices.best_dtype(torch.device("mps")) == torch.bfloat16
