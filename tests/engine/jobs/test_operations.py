"""What those who run the engine see: readiness, metrics, logs, limits, settings."""

from __future__ import annotations

import json
import re
from pathlib import Path

import httpx
import pytest

from tunesmith.engine import EngineError, Home, Limits, start
from tunesmith.engine.config_file import load_config
from tunesmith.engine.security.rate_limit import RateLimiter


def test_an_engine_reports_its_state_its_metrics_and_who_changed_what(tmp_path: Path):
    limits = Limits(requests_per_minute=5)
    with start(tmp_path / "home", log_format="json", limits=limits) as engine:
        root = engine.base_url.removesuffix("/v1")
        assert httpx.get(f"{root}/healthz").json() == {"status": "ok"}
        assert httpx.get(f"{root}/readyz").json() == {"status": "ready"}

        secret = b'{"prompt": "my secret", "completion": " x"}\n'
        file = httpx.post(
            f"{engine.base_url}/files",
            data={"purpose": "fine-tune"},
            files={"file": ("a.jsonl", secret)},
        ).json()
        httpx.get(f"{engine.base_url}/files/{file['id']}")
        metrics = httpx.get(f"{root}/metrics").text
        route = 'method="GET",route="/v1/files/{file_id}",status="200"'
        assert f"tunesmith_http_requests_total{{{route}}} 1" in metrics
        assert 'tunesmith_jobs{status="queued"} 0' in metrics
        assert all(
            re.fullmatch(r"#.*|\w+(\{.*\})? [0-9.e-]+", line) for line in metrics.split("\n")[:-1]
        )

        (engine.home.root / "models.toml").write_text("default = ", encoding="utf-8")
        assert httpx.get(f"{root}/readyz").status_code == 503
        (engine.home.root / "models.toml").unlink()

        answers = [httpx.get(f"{engine.base_url}/files") for _ in range(6)]
        assert answers[-1].status_code == 429
        assert answers[-1].json()["error"]["code"] == "rate_limit_exceeded"
        assert int(answers[-1].headers["retry-after"]) > 0

        logged = engine.log_path.read_text().splitlines()
        lines = [json.loads(line) for line in logged if line.startswith("{")]
        assert {line["path"] for line in lines} >= {"/v1/files", "/metrics"}
        (entry,) = map(json.loads, (engine.home.root / "audit.log").read_text().splitlines())
        assert (entry["method"], entry["path"], entry["organization"]) == (
            "POST",
            "/v1/files",
            "local",
        )
        assert "my secret" not in engine.log_path.read_text()


def test_a_bucket_fills_up_evenly():
    now = 0.0
    limiter = RateLimiter(2, clock=lambda: now)

    assert [limiter.take("a") for _ in range(3)] == [0, 0, 30]
    assert limiter.take("b") == 0
    now = 29.0
    assert limiter.take("a") == 1
    now = 30.0
    assert limiter.take("a") == 0


def test_settings_come_from_a_file_and_are_overridden(tmp_path: Path):
    home = Home(tmp_path)
    assert load_config(home).port == 8712
    (tmp_path / "engine.toml").write_text("port = 9000\n[limits]\nprompts = 3\n", encoding="utf-8")

    assert load_config(home).port == 9000
    assert load_config(home).limits == Limits(prompts=3)
    assert load_config(home, port=1).port == 1


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("port = ", "not valid TOML"),
        ("prot = 1", "prot is not a setting"),
        ('port = "many"', "port: "),
        ("limits = 1", "[limits]"),
        ("[limits]\nfiles = 1", "limits.files is not a setting"),
        ('recipe = "quick"', "recipe: "),
        ('home = "/"', "home is not a setting"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, text: str, named: str):
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")

    with pytest.raises(EngineError, match=re.escape(named)) as caught:
        load_config(Home(tmp_path), path)
    assert str(path) in str(caught.value)


def test_the_settings_that_the_guide_shows_are_settings(tmp_path: Path):
    guide = Path(__file__).parents[3] / "docs" / "guides" / "operating.md"
    text = guide.read_text(encoding="utf-8").split("```toml\n")[1].split("```")[0]
    (tmp_path / "engine.toml").write_text(text, encoding="utf-8")

    settings = load_config(Home(tmp_path))

    assert (settings.max_concurrent_jobs, settings.limits.requests_per_minute) == (2, 600)
