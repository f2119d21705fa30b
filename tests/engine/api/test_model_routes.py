"""Other names of models: exact strings that lead to a model, for requests and for jobs."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tunesmith import BadRequestError, Client, NotFoundError, PermissionDeniedError
from tunesmith.engine.security.keys import create_key
from tunesmith.engine.store.database import Database
from tunesmith.testing import simulate

OLD = "ft:gpt-4o-mini-2024-07-18:acme::AbC123"
CHECKPOINT = f"{OLD}:ckpt-step-88"
MESSAGES = [{"role": "user", "content": "I love it"}]


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with simulate() as engine, engine.client() as client:
        yield client


@pytest.fixture(scope="module")
def tuned(client: Client, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A fine-tuned model, with a training file behind it."""
    path = tmp_path_factory.mktemp("data") / "train.jsonl"
    rows = (f'{{"prompt": "{n} ->", "completion": " answer {n}\\n"}}\n' for n in range(20))
    path.write_text("".join(rows), encoding="utf-8")
    job = client.fine_tuning.jobs.create(training_file=path, model="ada")
    return str(client.fine_tuning.jobs.wait(job.id).fine_tuned_model)


@pytest.fixture
def alias(client: Client, tuned: str) -> Iterator[str]:
    client.model_routes.set(OLD, target=tuned)
    yield OLD
    client.model_routes.delete(OLD)


def test_an_old_name_answers_and_is_echoed(client: Client, alias: str):
    answer = client.completions.create(model=alias, prompt="3 ->")
    chat = client.chat.completions.create(model=alias, messages=MESSAGES)
    with client.chat.completions.create(model=alias, messages=MESSAGES, stream=True) as stream:
        streamed = {chunk.model for chunk in stream}

    assert answer.choices[0].text.strip() == "answer 3"
    assert (answer.model, chat.model, streamed) == (OLD, OLD, {OLD})


def test_case_and_colons_are_kept_and_what_is_unknown_is_not_found(client: Client, alias: str):
    for other in (alias.lower(), CHECKPOINT, alias.removesuffix("3"), "ft:none:acme::x"):
        with pytest.raises(NotFoundError) as failure:
            client.chat.completions.create(model=other, messages=MESSAGES)
        assert failure.value.code == "model_not_found"


def test_many_names_lead_to_one_model(client: Client, alias: str, tuned: str):
    client.model_routes.set(CHECKPOINT, target=tuned)
    client.model_routes.set("my deployment/ü", target=tuned)
    listed = {model.id for model in client.models.list()}
    answer = client.completions.create(model="my deployment/ü", prompt="5 ->")

    assert {alias, CHECKPOINT, "my deployment/ü", tuned} <= listed
    assert answer.choices[0].text.strip() == "answer 5"
    assert client.model_routes.retrieve("my deployment/ü").target == tuned
    client.model_routes.delete(CHECKPOINT)
    client.model_routes.delete("my deployment/ü")


def test_a_model_says_what_is_behind_its_other_name(client: Client, alias: str, tuned: str):
    shown = client.models.retrieve(alias).to_dict()

    assert (shown["id"], shown["target"], shown["stage"]) == (alias, tuned, "local")
    assert shown["base_model"] == client.models.retrieve(tuned).to_dict()["base_model"]


def test_a_job_continues_from_an_old_name(client: Client, alias: str):
    file = client.files.list(purpose="fine-tune").data[-1].id
    job = client.fine_tuning.jobs.create(training_file=file, model=alias)
    done = client.fine_tuning.jobs.wait(job.id)

    assert done.model == alias
    assert done.status == "succeeded"


def test_there_are_no_circles_and_no_models_hidden(client: Client, alias: str, tuned: str):
    for name, target in (("a", "a"), ("a", alias)):
        with pytest.raises(BadRequestError) as failure:
            client.model_routes.set(name, target=target)
        assert failure.value.param == "target"
    for model in (tuned, "simulated"):
        with pytest.raises(BadRequestError) as failure:
            client.model_routes.set(model, target="ada")
        assert failure.value.code == "name_taken"
    with pytest.raises(NotFoundError):
        client.model_routes.set("a", target="ft:none:acme::x")


def test_a_model_with_an_old_name_is_not_deleted(client: Client, alias: str, tuned: str):
    with pytest.raises(BadRequestError, match="answers under the name"):
        client.models.delete(tuned)
    with pytest.raises(BadRequestError, match="another name"):
        client.models.delete(alias)


def test_a_route_without_a_target_or_an_upstream_is_refused(client: Client):
    with pytest.raises(BadRequestError, match="needs a target"):
        client.model_routes.set("a")
    with pytest.raises(BadRequestError, match="no other service 'openai'"):
        client.model_routes.set("a", upstream="openai")


def test_names_belong_to_an_organisation_and_only_its_owners_set_them():
    with simulate() as engine:
        database = Database(f"sqlite:///{engine.home.database}")
        keys = {
            (role, org): create_key(database, name="", role=role, organization=org)[1]
            for role, org in (("owner", "local"), ("member", "local"), ("owner", "other"))
        }
        database.close()
        time.sleep(1.1)  # a server reads its keys once a second
        owner, member, other = (engine.client(api_key=key) for key in keys.values())
        owner.model_routes.set(OLD, target="ada")

        assert member.chat.completions.create(model=OLD, messages=MESSAGES).model == OLD
        assert [route.id for route in owner.model_routes.list()] == [OLD]
        assert list(other.model_routes.list()) == []
        with pytest.raises(NotFoundError):
            other.chat.completions.create(model=OLD, messages=MESSAGES)
        for call in (
            lambda: member.model_routes.set(OLD, target="ada"),
            member.model_routes.list,
            lambda: member.model_routes.delete(OLD),
        ):
            with pytest.raises(PermissionDeniedError):
                call()
        for client in (owner, member, other):
            client.close()
