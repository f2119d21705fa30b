"""`tunesmith migrate serve`: names are set, shown and deleted; keys are saved for their owner."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tunesmith.cli import main
from tunesmith.engine.config_file import read_upstreams
from tunesmith.engine.domain.errors import EngineError
from tunesmith.testing import SimulatedEngine, simulate

OLD = "ft:gpt-4o-mini-2024-07-18:acme::AbC123"


@pytest.fixture(scope="module")
def engine() -> Iterator[SimulatedEngine]:
    with simulate() as running:
        yield running


@pytest.fixture(autouse=True)
def environment(engine: SimulatedEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNESMITH_BASE_URL", engine.base_url)
    monkeypatch.setenv("TUNESMITH_API_KEY", "local")
    monkeypatch.setenv("OLD_KEY", "sk-sentinel-91ab")


def serve(*arguments: str) -> int:
    return main(["migrate", "serve", *arguments])


def test_a_name_goes_through_its_stages(
    engine: SimulatedEngine, capsys: pytest.CaptureFixture[str]
):
    url = ["--url", "http://127.0.0.1:9/v1", "--key-from", "OLD_KEY"]
    assert main(["migrate", "upstream", "old", *url, "--home", str(engine.home.root)]) == 0
    assert serve(OLD, "--to", "ada", "--upstream", "old", "--stage", "mirror") == 0
    assert serve(OLD, "--stage", "percentage=12.5", "--no-fallback", "--timeout", "9") == 0
    capsys.readouterr()
    assert serve(OLD, "--json") == 0
    route = json.loads(capsys.readouterr().out)

    assert (route["id"], route["target"], route["upstream"]) == (OLD, "ada", "old")
    assert (route["stage"], route["percentage"]) == ("percentage", 12.5)
    assert (route["fallback"], route["timeout_seconds"]) == (False, 9.0)
    assert serve("--list") == 0
    assert "percentage 12.5 %" in capsys.readouterr().out
    assert serve(OLD, "--decisions") == 0
    assert serve(OLD, "--stage", "local") == 0
    assert serve(OLD, "--delete") == 0
    capsys.readouterr()
    assert serve("--list") == 0
    assert "No names" in capsys.readouterr().out


@pytest.mark.parametrize("stage", ["half", "percentage", "mirror=3", "percentage=x"])
def test_a_wrong_stage_is_wrong_usage(stage: str, capsys: pytest.CaptureFixture[str]):
    assert serve(OLD, "--stage", stage) == 2
    assert "stage" in capsys.readouterr().err


def test_an_unknown_model_and_a_missing_name_are_errors(capsys: pytest.CaptureFixture[str]):
    assert serve(OLD, "--to", "ft:none:acme::x") == 1
    assert "does not exist" in capsys.readouterr().err
    assert serve() == 1
    assert "--list" in capsys.readouterr().err


def test_a_key_is_saved_for_its_owner_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    home = ["--home", str(tmp_path)]
    url = ["--url", "https://api.openai.com/v1", "--key-from", "OLD_KEY"]
    azure = ["--url", "https://a.openai.azure.com", "--kind", "azure", "--key-from", "OLD_KEY"]
    assert main(["migrate", "upstream", "openai", *url, *home]) == 0
    assert main(["migrate", "upstream", "my azure", *azure, "--api-version", "v", *home]) == 0
    file = tmp_path / "upstreams.toml"
    saved = read_upstreams(file)
    shown = capsys.readouterr()

    assert saved["openai"].api_key == saved["my azure"].api_key == "sk-sentinel-91ab"
    assert (saved["my azure"].kind, saved["my azure"].api_version) == ("azure", "v")
    assert "sentinel" not in shown.out + shown.err + repr(saved)
    if os.name == "posix":
        assert file.stat().st_mode & 0o777 == 0o600
        file.chmod(0o640)
        with pytest.raises(EngineError, match="chmod 600"):
            read_upstreams(file)
    assert main(["migrate", "upstream", "x", "--url", "u", "--key-from", "NO_KEY", *home]) == 1
    assert "NO_KEY is not set" in capsys.readouterr().err
