"""`status` and `doctor` of an engine that runs, that does not, and that never did."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tunesmith.cli import main
from tunesmith.engine import start
from tunesmith.testing import write_tiny_home, write_tiny_model


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("status")
    return write_tiny_home(folder / "home", write_tiny_model(folder / "tiny"))


def test_a_running_engine_is_found_through_its_home(home, capsys, monkeypatch):
    for name in ("TUNESMITH_BASE_URL", "OPENAI_BASE_URL", "TUNESMITH_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TUNESMITH_HOME", str(home))
    with start(home) as engine:
        assert main(["status", "--json"]) == 0
        facts = json.loads(capsys.readouterr().out)
        assert facts["url"] == engine.base_url
        assert facts["engine"] == f"running (process {engine.pid})"
        assert facts["jobs"] == facts["keys"] == {}
        assert facts["base models"][0].startswith("tiny ")

        # No address is named: requests go to the engine of the state folder.
        assert main(["api", "models.list"]) == 0
        assert "ada" in capsys.readouterr().out

        assert main(["doctor"]) == 0
        said = capsys.readouterr().out
        assert f"running (process {engine.pid}) at {engine.base_url}" in said
        assert "WRONG" not in said
        log = engine.log_path.read_text()
        root = engine.base_url.removesuffix("/v1")
        assert f"Dashboard: {root}/ - playground: {root}/playground" in log
        assert "Base models: tiny - on " in log
    assert main(["status"]) == 0
    assert "not running; start it with `tunesmith serve`" in capsys.readouterr().out


def test_the_doctor_says_what_is_wrong_and_what_to_do(tmp_path, capsys):
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "models.toml").write_text("default = ", encoding="utf-8")
    (broken / "engine.toml").write_text("port = 'x'\n", encoding="utf-8")
    assert main(["doctor", "--json", "--home", str(broken)]) == 1
    checks = {check["name"]: check for check in json.loads(capsys.readouterr().out)}
    assert checks["table of models"]["state"] == checks["settings"]["state"] == "bad"
    assert "models.toml" in checks["table of models"]["advice"]
    assert "port" in checks["settings"]["advice"]


def test_nothing_is_made_where_no_engine_ever_was(tmp_path, capsys):
    nowhere = tmp_path / "nowhere"
    assert main(["status", "--home", str(nowhere)]) == 1
    assert "There is no state folder" in " ".join(capsys.readouterr().err.split())
    assert main(["doctor", "--home", str(nowhere)]) == 0
    assert "does not exist yet" in capsys.readouterr().out
    assert not nowhere.exists()
