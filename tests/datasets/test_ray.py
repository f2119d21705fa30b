"""The same checks on a local Ray, where Ray is installed."""

from __future__ import annotations

import json
import sys

import pytest

from tunesmith import datasets

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own


@pytest.fixture(scope="module")
def local_ray():
    ray = pytest.importorskip("ray")
    pytest.importorskip("ray.data")
    environment = {"PYTHONPATH": ":".join(sys.path)}
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": environment},
    )
    yield ray
    ray.shutdown()


def test_ray_gives_the_same_report(local_ray, tmp_path):
    del local_ray
    path = tmp_path / "rows.jsonl"
    rows = [
        {"prompt": f"{n % 50000} " * 9 + "->", "completion": f" {n % 7}\n"} for n in range(90_000)
    ]
    lines = [json.dumps(row) for row in rows]
    lines[6] = lines[77_777] = "{"
    path.write_text("\n".join(lines), encoding="utf-8")
    alone = datasets.profile(path, workers=1)
    assert datasets.profile(path, engine="ray", workers=3).to_dict() == alone.to_dict()
    assert [location.line for location in alone.first_error().examples] == [7, 77_778]


def test_without_ray_the_error_names_the_extra(monkeypatch, tmp_path, without_extras):
    del without_extras
    monkeypatch.setitem(sys.modules, "ray", None)
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "a ->", "completion": " b"}\n', encoding="utf-8")
    with pytest.raises(datasets.DatasetError, match=r"install .*\[ray\]"):
        datasets.profile(path, engine="ray")
    with pytest.raises(datasets.DatasetError, match="Unknown engine 'spark'"):
        datasets.profile(path, engine="spark")
