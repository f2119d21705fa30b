"""Permissions on models: what another organisation may do with one, and no longer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

import tunesmith
from tunesmith.engine import Engine, start
from tunesmith.engine.security.keys import create_key
from tunesmith.engine.store.database import Database
from tunesmith.testing import write_tiny_home

from .conftest import ROWS

Connect = Callable[[str, str], tunesmith.Client]


@pytest.fixture(scope="module")
def keyed_engine(tmp_path_factory: pytest.TempPathFactory, tiny_base_model: Path):
    home = tmp_path_factory.mktemp("permissions")
    write_tiny_home(home, tiny_base_model)
    database = Database(f"sqlite:///{home / 'engine.db'}")
    database.migrate()
    people = [("local", "owner"), ("local", "member"), ("b", "owner"), ("b", "member")]
    secrets = {
        (organization, role): create_key(
            database, name="test", organization=organization, role=role
        )[1]
        for organization, role in people
    }
    database.close()
    with start(home) as running:
        yield running, secrets


@pytest.fixture(scope="module")
def connect(keyed_engine) -> Iterator[Connect]:
    engine, secrets = keyed_engine
    opened: list[tunesmith.Client] = []

    def client_of(organization: str, role: str = "owner") -> tunesmith.Client:
        secret = secrets[organization, role]
        client = tunesmith.Client(base_url=engine.base_url, api_key=secret, max_retries=0)
        opened.append(client)
        return client

    yield client_of
    for client in opened:
        client.close()


@pytest.fixture(scope="module")
def model(connect: Connect) -> str:
    return trained(connect("local"))


def trained(client: tunesmith.Client) -> str:
    file = client.files.create(file=ROWS.encode(), purpose="fine-tune")
    job = client.fine_tuning.jobs.create(
        training_file=file.id, model="ada", hyperparameters={"n_epochs": 1}
    ).wait()
    assert job.fine_tuned_model is not None
    return job.fine_tuned_model


@pytest.fixture
def permissions(connect: Connect, model: str):
    """Those that the model's owner gives; none at the beginning."""
    found = connect("local").fine_tuning.checkpoints.permissions
    for one in list(found.list(model)):  # deleting the last of a page would end the pages
        found.delete(one.id, fine_tuned_model_checkpoint=model)
    return found


def ask(client: tunesmith.Client, model: str) -> str:
    return client.completions.create(model=model, prompt="I love ->", max_tokens=1).model


def names(client: tunesmith.Client) -> list[str]:
    return [found.id for found in client.models.list()]


def test_a_permission_lets_another_organisation_use_the_model(connect, permissions, model):
    other = connect("b", "member")
    with pytest.raises(tunesmith.NotFoundError):
        ask(other, model)
    assert model not in names(other)

    (given,) = permissions.create(model, project_ids=["org-b"])

    assert (given.object, given.project_id) == ("checkpoint.permission", "org-b")
    assert ask(other, model) == model
    chat = other.chat.completions.create(
        model=model, messages=[{"role": "user", "content": "a"}], max_tokens=1
    )
    assert chat.model == model
    assert names(other).count(model) == 1
    found = other.models.retrieve(model)
    assert (found.owned_by, found.to_dict()["job"]) == ("org-local", None)

    deleted = permissions.delete(given.id, fine_tuned_model_checkpoint=model)

    assert (deleted.id, deleted.deleted) == (given.id, True)
    with pytest.raises(tunesmith.NotFoundError):
        ask(other, model)
    assert model not in names(other)
    assert ask(connect("local"), model) == model


def test_a_permission_gives_no_more_than_use(connect, permissions, model):
    permissions.create(model, project_ids=["org-b"])
    other = connect("b")
    file = other.files.create(file=ROWS.encode(), purpose="fine-tune")

    with pytest.raises(tunesmith.NotFoundError, match="not continue its training"):
        other.fine_tuning.jobs.create(training_file=file.id, model=model)
    with pytest.raises(tunesmith.NotFoundError):
        other.models.delete(model)
    theirs = other.fine_tuning.checkpoints.permissions
    with pytest.raises(tunesmith.NotFoundError):
        theirs.list(model)
    with pytest.raises(tunesmith.NotFoundError):
        theirs.create(model, project_ids=["org-c"])
    (kept,) = permissions.list(model)
    with pytest.raises(tunesmith.NotFoundError):
        theirs.delete(kept.id, fine_tuned_model_checkpoint=model)
    assert ask(other, model) == model


def test_permissions_need_an_owner(connect, permissions, model):
    (given,) = permissions.create(model, project_ids=["org-b"])
    member = connect("local", "member").fine_tuning.checkpoints.permissions
    with pytest.raises(tunesmith.PermissionDeniedError):
        member.create(model, project_ids=["org-c"])
    with pytest.raises(tunesmith.PermissionDeniedError):
        member.list(model)
    with pytest.raises(tunesmith.PermissionDeniedError):
        member.delete(given.id, fine_tuned_model_checkpoint=model)


def test_given_twice_it_is_one_permission(permissions, model):
    (first,) = permissions.create(model, project_ids=["org-b", "org-b"])
    again = list(permissions.create(model, project_ids=["org-c", "org-b"]))
    assert [one.project_id for one in again] == ["org-c", "org-b"]
    assert again[1].id == first.id
    assert len(list(permissions.list(model))) == 2


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_pages_order_and_filter(keyed_engine, permissions, model):
    wanted = [f"org-team-{number}" for number in range(25)]
    for one in wanted:
        permissions.create(model, project_ids=[one])

    assert [one.project_id for one in permissions.list(model)] == wanted[::-1]
    ascending = permissions.list(model, order="ascending", limit=7)
    assert len(ascending.data) == 7
    assert ascending.has_more
    assert [one.project_id for one in ascending] == wanted
    assert [one.project_id for one in permissions.list(model, project_id=wanted[3])] == [wanted[3]]
    assert not list(permissions.list(model, project_id="team-3"))
    assert len(permissions.retrieve(model).data) == 10

    async def all_of_them() -> list[str]:
        engine, secrets = keyed_engine
        key = secrets["local", "owner"]
        async with tunesmith.AsyncClient(base_url=engine.base_url, api_key=key) as client:
            found = client.fine_tuning.checkpoints.permissions.list(model, limit=10)
            return [one.project_id async for one in found]

    assert asyncio.run(all_of_them()) == wanted[::-1]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"project_ids": ["proj_1"]}, "project_ids[0]"),
        ({"project_ids": ["org-b", "b"]}, "project_ids[1]"),
        ({"project_ids": ["org-"]}, "project_ids[0]"),
        ({"project_ids": ["org-\ud800"]}, "project_ids[0]"),
        ({"project_ids": ["org-b\n"]}, "project_ids[0]"),
        ({"project_ids": ["org-" + "b" * 41]}, "project_ids[0]"),
        ({"project_ids": []}, "project_ids"),
        ({"project_ids": "org-b"}, "project_ids"),
        ({"project_ids": [["org-b"]]}, "project_ids[0]"),
        ({}, "project_ids"),
    ],
    ids=str,
)
def test_what_names_no_organisation_is_refused_and_nothing_is_given(
    keyed_engine: tuple[Engine, dict[tuple[str, str], str]], permissions, model, body, param
):
    engine, secrets = keyed_engine
    answer = httpx.post(
        f"{engine.base_url}/fine_tuning/checkpoints/{model}/permissions",
        content=json.dumps(body),
        headers={
            "authorization": f"Bearer {secrets['local', 'owner']}",
            "content-type": "application/json",
        },
    )
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == param
    assert not list(permissions.list(model))


def test_models_and_permissions_that_do_not_exist(permissions, model):
    for name in ("ada", "ft:none", "a/b", "%2F"):
        with pytest.raises(tunesmith.NotFoundError, match="no fine-tuned model"):
            permissions.create(name, project_ids=["org-b"])
        with pytest.raises(tunesmith.NotFoundError, match="no fine-tuned model"):
            permissions.list(name)
    with pytest.raises(tunesmith.NotFoundError, match="cp_none"):
        permissions.delete("cp_none", fine_tuned_model_checkpoint=model)
    with pytest.raises(tunesmith.BadRequestError, match="list after"):
        permissions.list(model, after="cp_none")
    with pytest.raises(tunesmith.BadRequestError):
        permissions.list(model, limit=1001)


@pytest.mark.slow
def test_a_deleted_model_takes_its_permissions_along(keyed_engine, connect, permissions):
    model = trained(connect("local"))
    permissions.create(model, project_ids=["org-b"])
    connect("local").models.delete(model)
    with pytest.raises(tunesmith.NotFoundError):
        ask(connect("b"), model)
    database = Database(f"sqlite:///{keyed_engine[0].home.database}")
    with database.read() as connection:
        found = connection.exec_driver_sql("SELECT count(*) FROM checkpoint_permissions").scalar()
    database.close()
    assert found == 0
