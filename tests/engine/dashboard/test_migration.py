"""The page Migration: an archive that was really pulled, inventories and comparisons as JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tunesmith import migrate
from tunesmith.engine import start
from tunesmith.engine.config import MigrateConfig
from tunesmith.testing import Quirks, recorded_organization

from .conftest import Browser

COMPARISON = {
    "version": 1,
    "old_model": "ft:gpt-4o-mini:acme::<img src=x>",
    "new_model": "reviews",
    "prompts": 40,
    "recorded_twice": 8,
    "warnings": ["Few prompts."],
    "requirements": [{"requirement": "agreement>=0.95", "met": False, "reason": "it is 0.9"}],
    "measures": [
        {
            "name": "agreement",
            "meaning": "equal answers",
            "prompts": 40,
            "new": {"value": 0.9, "low": 0.8, "high": 0.96},
            "ceiling": {"value": 0.97, "low": 0.9, "high": 1.0},
            "difference": None,
            "p_holm": 0.03,
        }
    ],
    "confusion": {"classes": ["a", "b"], "counts": [[18, 2], [2, 18]]},
    "cases": [{"request": {"prompt": "<script>x"}, "old": "a", "new": "b"}],
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("migration")
    archive, reports = root / "archive", root / "reports"
    reports.mkdir()
    quirks = Quirks(deleted=0.2, expired=0.1, short=0.0)
    with (
        recorded_organization(files=40, jobs=8, quirks=quirks) as organization,
        organization.client() as client,
    ):
        migrate.pull(client, archive)
        found = migrate.inventory(client)
    (reports / "inventory.json").write_text(json.dumps(found.to_dict()), encoding="utf-8")
    (reports / "comparison.json").write_text(json.dumps(COMPARISON), encoding="utf-8")
    (reports / "broken.json").write_text("{", encoding="utf-8")
    recording = archive / "recordings" / "old"
    recording.mkdir(parents=True)
    (recording / "recording.json").write_text('{"format": 1, "model": "ft:old"}')
    (recording / "requests.jsonl").write_text("{}\n{}\n")
    (recording / "answers.jsonl").write_text("{}\n")
    return archive, reports


@pytest.fixture(scope="module")
def reader(folders: tuple[Path, Path], tmp_path_factory: Any) -> Iterator[Browser]:
    settings = MigrateConfig(archive=str(folders[0]), reports=str(folders[1]))
    with start(tmp_path_factory.mktemp("home"), migrate=settings) as engine:
        browser = Browser(engine.base_url.removesuffix("/v1"))
        yield browser
        browser.http.close()


def test_the_archive_its_models_gaps_and_recordings(reader, folders):
    page = reader.get("/migration").text
    archive = migrate.Archive(folders[0])
    named = [job.fine_tuned_model for job in archive.jobs() if job.fine_tuned_model]
    assert named
    assert all(name in page for name in named)
    assert f"{len(archive.gaps)} things missing" in page
    assert "ft:old" in page
    assert re.search(r'data-label="Prompts">2<.*data-label="Answers">1<', page)


def test_an_inventory_and_a_comparison(reader):
    page = reader.get("/migration/report?name=inventory.json").text
    assert "those that end first in front" in page
    assert re.search(r"\d+ days|ended \d{4}", page)
    page = reader.get("/migration/report?name=comparison.json").text
    assert "not met" in page
    assert "0.8 to 0.96" in page
    assert "Worst cases first" in page
    assert "<img src=x>" not in page
    assert "<script>x" not in page


@pytest.mark.parametrize("name", ["../archive/manifest.json", "none.json", "", "/etc/passwd"])
def test_only_files_of_the_folder_are_shown(reader, name):
    assert reader.get("/migration/report", params={"name": name}).status_code == 404


@pytest.mark.parametrize(
    "content", [b"{", b"[]", b"[" * 50_000, b'{"models": 1}', b'{"measures": [1, null, {}]}', b""]
)
def test_a_file_from_the_browser_is_shown_or_refused_with_a_reason(reader, content):
    answer = reader.http.post(
        "/migration/report",
        data={"form_token": reader.token()},
        files={"file": ("<b>x.json", content)},
    )
    assert answer.status_code in {200, 400}
    assert "<b>x" not in answer.text
    whole = reader.http.post(
        "/migration/report",
        data={"form_token": reader.token()},
        files={"file": ("c.json", json.dumps(COMPARISON).encode())},
    )
    assert "Worst cases first" in whole.text
    assert reader.http.post("/migration/report", files={"file": b"{}"}).status_code == 403


def test_it_is_for_owners_and_says_how_to_begin(owner, member):
    assert "No archive yet" in owner.get("/migration").text
    assert member.get("/migration").status_code == 403
    assert 'href="/migration"' not in member.get("/").text
