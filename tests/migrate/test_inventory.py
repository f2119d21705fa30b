"""The inventory: which models there are, when they end, and what can still be fetched of each."""

from __future__ import annotations

import json
from datetime import date

import pytest

import tunesmith
from tunesmith import migrate
from tunesmith.cli import main
from tunesmith.testing import Quirks, recorded_organization

from .conftest import FAST, run_in_mode

TODAY = date(2026, 11, 28)


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_every_model_is_listed_with_its_end_and_its_files(mode, organization):
    found = run_in_mode(
        mode,
        organization,
        lambda client: migrate.inventory(client, projects=organization.keys, today=TODAY),
    )
    truth = organization.contents
    fates = {
        "deleted": "gone", "listed_only": "gone", "expired": "expired", "forbidden": "forbidden",
    }  # fmt: skip
    by_job = {one.job: one for one in found.models}
    for number in range(truth.job_count):
        name = truth.fine_tuned_name(number)
        if name is None:
            assert truth.job_id(number) not in by_job
            continue
        model = by_job.pop(truth.job_id(number))
        assert (model.name, model.base) == (name, truth.job_base(number))
        assert model.project == truth.projects[truth.job_project(number)]
        assert model.answers == truth.fine_tuned(name).is_alive
        training = truth.training_file(number)
        fate = truth.fate(training)
        assert model.training_file.id == truth.file_id(training)
        assert model.training_file.status == fates.get(fate, "ok")
        if fate not in {"deleted", "listed_only"}:
            assert model.training_file.bytes == truth.file(training)["bytes"]
        assert (model.validation_file is None) == (truth.validation_file(number) is None)
        if model.base.startswith(("gpt-4o", "gpt-4.1-mini", "gpt-4.1-2025")):
            assert (model.shutdown.on, model.days_left) == (date(2027, 1, 14), 47)
        if model.base.startswith("gpt-3.5"):
            assert model.days_left < 0
        if model.answers:
            assert model.last_use is not None
    assert not by_job
    assert sum(found.counts["jobs"].values()) == truth.job_count
    assert set(found.costs) == set(truth.projects)
    days = [one.days_left for one in found.models if one.days_left is not None]
    assert days == sorted(days)


def test_without_an_administrators_key_use_is_known_from_stored_completions(calm):
    with calm.client(retry=FAST, admin_api_key=None) as client:
        found = migrate.inventory(client, today=TODAY)
    assert found.costs is None
    assert found.projects == calm.projects[:1]
    used = {calm.contents.stored_model(0, at).name for at in range(calm.contents.stored)}
    assert {one.name for one in found.models if one.last_use} == used


def test_what_is_unknown_is_said_with_who_knows_it(calm, monkeypatch, capsys):
    monkeypatch.setenv("OPENAI_BASE_URL", calm.base_url)
    monkeypatch.setenv("OPENAI_API_KEY", calm.keys[calm.projects[0]])
    assert main(["migrate", "inventory"]) == 0
    shown = capsys.readouterr().out
    assert "what fine-tuning has cost: unknown; an admin key in OPENAI_ADMIN_KEY reads it" in shown
    assert "last use: only of models with stored completions" in shown
    monkeypatch.setenv("OPENAI_ADMIN_KEY", calm.admin_key)
    assert main(["migrate", "inventory"]) == 0
    assert "unknown;" not in capsys.readouterr().out
    with recorded_organization("azure", quirks=Quirks.none()) as organization:
        monkeypatch.setenv("AZURE_OPENAI_API_KEY", organization.keys[organization.projects[0]])
        assert main(["migrate", "inventory", "--azure", organization.azure_endpoint]) == 0
    captured = capsys.readouterr()
    assert "unknown; Azure's cost management has it" in captured.out
    assert "Not read" not in captured.err


def test_azure_has_its_own_dates():
    with recorded_organization("azure", quirks=Quirks.none()) as organization:
        client = tunesmith.AzureClient(
            azure_endpoint=organization.azure_endpoint,
            api_version="v1",
            api_key=organization.keys[organization.projects[0]],
            retry=FAST,
        )
        with client:
            found = migrate.inventory(client, today=TODAY)
    assert found.service == "azure"
    ends = {one.base[:7]: one.shutdown.on for one in found.models if one.job}
    assert set(ends.values()) == {date(2027, 10, 1), date(2027, 10, 14)}


@pytest.mark.parametrize(
    ("model", "base", "end"),
    [
        ("ft:gpt-4o-mini-2024-07-18:acme::AbC123", "gpt-4o-mini-2024-07-18", date(2027, 1, 14)),
        ("ft:gpt-4.1-2025-04-14:acme:x:1:ckpt-step-9", "gpt-4.1-2025-04-14", date(2027, 1, 14)),
        ("ft:gpt-4.1-nano-2025-04-14:acme::1", "gpt-4.1-nano-2025-04-14", date(2026, 10, 23)),
        ("ft:gpt-4o-2024-05-13:acme::1", "gpt-4o-2024-05-13", date(2026, 10, 23)),
        ("ft:gpt-3.5-turbo-0125:acme::1", "gpt-3.5-turbo-0125", date(2026, 10, 23)),
        ("ft:gpt-4-0613:acme::1", "gpt-4-0613", date(2026, 10, 23)),
        ("curie:ft-acme-2023-03-03-21-44-20", "curie", None),
        ("ft:babbage-002:acme::1", "babbage-002", None),
        ("gpt-4.1-2025-04-14.ft-0a1b2c", "gpt-4.1-2025-04-14", date(2027, 1, 14)),
        ("my-model", "my-model", None),
    ],
)
def test_announced_shutdown_dates(model, base, end):
    assert migrate.base_model(model) == base
    shutdown = migrate.shutdown_of(model)
    assert (None if shutdown is None else shutdown.on) == end
    if shutdown is not None:
        assert shutdown.source.startswith("https://")


def test_the_services_own_date_wins():
    shutdown = migrate.shutdown_of("ft:gpt-4o-2024-08-06:a::1", announced="2027-03-01")
    assert (shutdown.on, shutdown.source) == (date(2027, 3, 1), "the service")
    azure = migrate.shutdown_of("gpt-4o-mini-2024-07-18.ft-1", service="azure")
    assert azure.on == date(2027, 10, 1)
    assert azure.days_left(TODAY) == 307
    assert migrate.shutdown_of("gpt-4o", announced="soon").on == date(2027, 1, 14)


def test_the_command(organization, monkeypatch, capsys):
    monkeypatch.setenv("OPENAI_BASE_URL", organization.base_url)
    monkeypatch.setenv("OPENAI_API_KEY", organization.user_key)
    monkeypatch.setenv("OPENAI_ADMIN_KEY", organization.admin_key)
    assert main(["migrate", "inventory"]) == 0
    shown = capsys.readouterr().out
    names = [one.name for one in organization.contents._fine_tuned.values()]
    assert all(name in shown for name in names)
    assert "gone (404)" in shown
    assert "2027-01-14" in shown
    assert main(["migrate", "inventory", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert sorted(one["name"] for one in found["models"]) == sorted(names)
    assert "SENTINEL" not in json.dumps(found)
