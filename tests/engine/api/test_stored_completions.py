"""Chat completions with `store`: kept, listed, changed and deleted, by our client and others."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import update

import tunesmith
from tunesmith.engine import Engine, Limits, start
from tunesmith.engine.security.keys import create_key
from tunesmith.engine.store.database import Database
from tunesmith.engine.store.garbage_collection import collect_garbage
from tunesmith.engine.store.schema import stored_completion_metadata, stored_completions
from tunesmith.testing import write_tiny_home

MESSAGES: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "数"}]},
    {"role": "assistant", "content": "b"},
    {"role": "user", "content": "c"},
]


@pytest.fixture
def client(engine: Engine) -> Iterator[tunesmith.Client]:
    with engine.client() as opened:
        yield opened


@pytest.fixture
def group() -> dict[str, str]:
    """Metadata of this test's completions alone; the engine is shared."""
    return {"group": uuid.uuid4().hex}


def ask(client: tunesmith.Client, **fields: Any) -> Any:
    values = {"model": "tiny", "messages": MESSAGES, "max_tokens": 3, "store": True}
    return client.chat.completions.create(**values | fields)


def test_an_answer_is_kept_as_it_was_sent(client, group):
    answer = ask(client, metadata=group, temperature=0, logprobs=True, top_logprobs=1, n=2)
    found = client.chat.completions.retrieve(answer.id).to_dict()

    sent = answer.to_dict()
    assert {name: found[name] for name in sent} == sent
    assert found["metadata"] == group
    assert found["temperature"] == 0
    assert found["request_id"] == answer._request_id


@pytest.mark.parametrize("usage", [False, True])
def test_a_stream_is_kept_like_a_whole_answer(client, group, usage):
    same = {"temperature": 0, "logprobs": True, "max_tokens": 8, "metadata": group}
    options = {"stream_options": {"include_usage": True}} if usage else {}
    whole = client.chat.completions.retrieve(ask(client, **same).id).to_dict()
    chunks = list(ask(client, stream=True, **same, **options))
    kept = client.chat.completions.retrieve(chunks[0].id).to_dict()

    for name in ("choices", "usage", "model", "object", "metadata", "temperature"):
        assert kept[name] == whole[name], name
    assert kept["created"] == chunks[0].created


def test_tool_calls_of_a_stream_are_kept(client, group):
    tool = {
        "type": "function",
        "function": {
            "name": "f",
            "parameters": {
                "type": "object",
                "properties": {"a": {"enum": ["x"]}},
                "required": ["a"],
                "additionalProperties": False,
            },
        },
    }
    fields = {"tools": [tool], "tool_choice": "required", "max_tokens": 60, "metadata": group}
    chunks = list(ask(client, stream=True, **fields))
    kept = client.chat.completions.retrieve(chunks[0].id)
    (call,) = kept.choices[0].message.tool_calls
    assert json.loads(call.function.arguments) == {"a": "x"}
    assert kept.choices[0].message.content is None
    assert kept.choices[0].finish_reason == "tool_calls"
    assert kept.to_dict()["tools"] == [tool]


def test_what_was_not_asked_for_is_not_kept(client, group):
    for fields in ({"store": False}, {"store": None}):
        answer = ask(client, metadata=group, **fields)
        with pytest.raises(tunesmith.NotFoundError, match=answer.id):
            client.chat.completions.retrieve(answer.id)
    assert not list(client.chat.completions.list(metadata=group))


def test_pages_order_and_filters(engine, client, group):
    ids = [
        ask(client, max_tokens=1, model=model, metadata={**group, "number": str(number)}).id
        for number, model in enumerate(["tiny", "ada", "tiny", "ada", "tiny"])
    ]
    stored = client.chat.completions
    assert [one.id for one in stored.list(metadata=group, limit=2)] == ids
    assert [one.id for one in stored.list(metadata=group, order="desc", limit=2)] == ids[::-1]
    assert [one.id for one in stored.list(metadata={**group, "number": "3"})] == [ids[3]]
    assert [one.id for one in stored.list(metadata=group, model="ada")] == ids[1::2]
    assert not list(stored.list(metadata={**group, "number": "9"}))
    page = stored.list(metadata=group, limit=2, after=ids[0])
    assert [one.id for one in page.data] == ids[1:3]
    assert page.has_more
    with pytest.raises(tunesmith.NotFoundError):
        stored.list(after="chatcmpl-none")

    async def all_of_them() -> list[str]:
        async with tunesmith.AsyncClient(base_url=engine.base_url, api_key="any") as other:
            found = other.chat.completions.list(metadata=group, limit=2)
            return [one.id async for one in found]

    assert asyncio.run(all_of_them()) == ids


def test_metadata_are_replaced(client, group):
    stored = client.chat.completions
    answer = ask(client, metadata={**group, 'a".b': "%'"})
    assert [one.id for one in stored.list(metadata={**group, 'a".b': "%'"})] == [answer.id]
    changed = stored.update(answer.id, metadata={**group, "rated": "good"})
    assert changed.to_dict()["metadata"] == {**group, "rated": "good"}
    assert [one.id for one in stored.list(metadata={**group, "rated": "good"})] == [answer.id]
    assert not list(stored.list(metadata={**group, 'a".b': "%'"}))
    assert stored.update(answer.id, metadata=None).to_dict()["metadata"] == {}
    assert not list(stored.list(metadata=group))


def test_messages_are_listed(client, group):
    answer = ask(client, metadata=group)
    messages = client.chat.completions.messages
    found = list(messages.list(answer.id, limit=3))
    assert [one.role for one in found] == [one["role"] for one in MESSAGES]
    assert [one.content for one in found] == ["Be brief.", "a数", "b", "c"]
    assert found[1].content_parts == MESSAGES[1]["content"]
    assert [one.id for one in messages.list(answer.id, order="desc")] == [
        one.id for one in reversed(found)
    ]
    assert [one.id for one in messages.list(answer.id, after=found[2].id)] == [found[3].id]
    with pytest.raises(tunesmith.BadRequestError):
        messages.list(answer.id, after="none")


def test_what_is_deleted_is_gone(client, group):
    stored = client.chat.completions
    answer = ask(client, metadata=group)
    deleted = stored.delete(answer.id)
    assert (deleted.id, deleted.deleted) == (answer.id, True)
    for call in (
        lambda: stored.retrieve(answer.id),
        lambda: stored.update(answer.id, metadata=None),
        lambda: stored.delete(answer.id),
        lambda: stored.messages.list(answer.id),
    ):
        with pytest.raises(tunesmith.NotFoundError, match="No such completion"):
            call()
    assert not list(stored.list(metadata=group))


@pytest.mark.parametrize(
    "fields",
    [
        {"metadata": {"a": 1}},
        {"metadata": ["a"]},
        {"metadata": {"k" * 65: "v"}},
        {"metadata": {"k": "v" * 513}},
        {"metadata": {str(number): "v" for number in range(17)}},
        {"metadata": {"k": "\ud800"}},
        {"metadata": {"\udfff": "v"}},
        {"metadata": {"k": "\0"}},
        {"messages": [{"role": "user", "content": "a", "extra": "\ud800"}]},
        {"messages": [{"role": "user", "content": "a", "extra": float("nan")}]},
        {
            "messages": [
                {"role": "user", "content": "a", "extra": json.loads("[" * 200 + "]" * 200)}
            ]
        },
    ],
    ids=lambda fields: ascii(fields)[:40],
)
def test_what_cannot_be_stored_is_refused_and_lists_stay_whole(http, group, fields):
    body = {"model": "tiny", "messages": MESSAGES, "max_tokens": 1, "store": True, **fields}
    headers = {"content-type": "application/json"}
    answer = http.post("chat/completions", content=json.dumps(body), headers=headers)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == next(iter(fields))
    if "metadata" in fields:
        kept = http.post("chat/completions", json=body | {"metadata": group}).json()
        changed = http.post(
            f"chat/completions/{kept['id']}", content=json.dumps(fields), headers=headers
        )
        assert changed.status_code == 400, changed.text
        found = http.get(f"chat/completions/{kept['id']}").json()
        assert found["metadata"] == group
    assert http.get("chat/completions", params={"limit": "100"}).status_code == 200


@pytest.mark.parametrize(
    "query",
    [
        "metadata[a]=%00",
        "metadata[%00]=a",
        "model=%00",
        "metadata[a%22.b]=c",
        "metadata[%ff]=%ed%a0%80",
        "limit=101",
        "limit=-1",
        "order=up",
        "after=%00",
    ],
)
def test_odd_queries_are_no_faults(http, query):
    answer = http.get(f"chat/completions?{query}")
    assert answer.status_code in {200, 400, 404}, answer.text
    if answer.status_code != 200:
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


@pytest.mark.slow
def test_organisations_expiry_and_a_database_that_fails(tmp_path: Path, tiny_base_model: Path):
    write_tiny_home(tmp_path, tiny_base_model)
    database = Database(f"sqlite:///{tmp_path / 'engine.db'}")
    database.migrate()
    keys = [create_key(database, name="t", organization=name)[1] for name in ("a", "b")]
    with start(tmp_path, limits=Limits(stored_completion_days=2)) as engine:
        first, second = (
            tunesmith.Client(base_url=engine.base_url, api_key=key, max_retries=0) for key in keys
        )
        with first, second:
            answer = ask(first, max_tokens=1, metadata={"k": "v"})
            kept = ask(first, max_tokens=1)
            assert not list(second.chat.completions.list())
            for call in (
                lambda: second.chat.completions.retrieve(answer.id),
                lambda: second.chat.completions.update(answer.id, metadata=None),
                lambda: second.chat.completions.delete(answer.id),
                lambda: second.chat.completions.messages.list(answer.id),
            ):
                with pytest.raises(tunesmith.NotFoundError):
                    call()
            table = stored_completions
            with database.write() as connection:
                row = connection.execute(table.select().where(table.c.id == answer.id)).one()
                assert row.expires_at - row.created_at == 2 * 86_400
                expired = update(table).where(table.c.id == answer.id)
                connection.execute(expired.values(expires_at=time.time() - 1))
            assert [one.id for one in first.chat.completions.list()] == [kept.id]
            with pytest.raises(tunesmith.NotFoundError):
                first.chat.completions.retrieve(answer.id)
            collect_garbage(engine.home, database)
            with database.read() as connection:
                ids = [one.id for one in connection.execute(table.select())]
                assert ids == [kept.id]
                assert not connection.execute(stored_completion_metadata.select()).all()
            with database.write() as connection:
                connection.exec_driver_sql("ALTER TABLE stored_completions RENAME TO gone")
            with pytest.raises(tunesmith.APIStatusError, match=r"could not be stored|out of reach"):
                ask(first, max_tokens=1)
            with pytest.raises(tunesmith.APIError, match=r"could not be stored|out of reach"):
                list(ask(first, max_tokens=1, stream=True))
            assert ask(first, max_tokens=1, store=False).choices
    database.close()


@pytest.mark.slow
def test_an_engine_may_be_set_to_store_nothing(tmp_path: Path, tiny_base_model: Path):
    write_tiny_home(tmp_path, tiny_base_model)
    with start(tmp_path, limits=Limits(stored_completion_days=0)) as engine:
        body = {"model": "tiny", "messages": MESSAGES, "store": True}
        answer = httpx.post(f"{engine.base_url}/chat/completions", json=body, timeout=60)
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == "store"
        assert "stored_completion_days" in answer.json()["error"]["message"]


def long_enough(client: tunesmith.Client, group: dict[str, str], **fields: Any) -> Any:
    """An answer that ends by itself: its schema says so."""
    schema = {"type": "object", "properties": {"a": {"enum": ["x"]}}, "required": ["a"]}
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    return ask(client, metadata=group, max_tokens=60, response_format=form, **fields)


def test_stored_completions_are_exported_as_a_training_file(engine, client, group, tmp_path):
    from tunesmith.cli import main
    from tunesmith.datasets import check_file

    tool = {
        "type": "function",
        "function": {
            "name": "f",
            "parameters": {
                "type": "object",
                "properties": {"a": {"enum": ["x"]}},
                "required": ["a"],
                "additionalProperties": False,
            },
        },
    }
    for number in range(11):
        long_enough(client, group | {"n": str(number)}, temperature=1.5)
    ask(client, metadata=group, max_tokens=60, tools=[tool], tool_choice="required")
    cut_off = ask(client, metadata=group, max_tokens=1)
    long_enough(client, {"group": "another"})

    found = client.chat.completions.export(tmp_path / "train.jsonl", metadata=group)
    rows = [json.loads(line) for line in found.path.read_text("utf-8").splitlines()]
    assert found.rows == len(rows) == 12
    assert found.left_out == {cut_off.id: "the answer was cut off by its token limit"}
    assert [one["role"] for one in rows[0]["messages"]] == [
        *(one["role"] for one in MESSAGES),
        "assistant",
    ]
    assert rows[0]["messages"][1]["content"] == "a数"
    assert json.loads(rows[0]["messages"][-1]["content"]) == {"a": "x"}
    assert rows[-1]["tools"] == [tool]
    assert rows[-1]["messages"][-1]["tool_calls"][0]["function"]["name"] == "f"
    assert not [one for one in check_file(found.path).findings if one.severity == "error"]

    one = client.chat.completions.export(tmp_path / "one.jsonl", metadata=group | {"n": "3"})
    assert (one.rows, one.left_out) == (1, {})
    none = client.chat.completions.export(tmp_path / "none.jsonl", metadata=group, model="ada")
    assert none.rows == 0

    async def export() -> int:
        async with tunesmith.AsyncClient(base_url=engine.base_url, api_key="any") as other:
            path = tmp_path / "async.jsonl"
            await other.chat.completions.export(path, metadata=group)
            assert path.read_bytes() == found.path.read_bytes()
            return (await other.chat.completions.export(path, metadata=group)).rows

    assert asyncio.run(export()) == 12
    options = ["--metadata", "group", group["group"], "-O", str(tmp_path / "cli.jsonl")]
    command = ["-k", "any", "-b", engine.base_url, "api", "chat.completions.export", *options]
    assert main(command) == 0
    assert (tmp_path / "cli.jsonl").read_bytes() == found.path.read_bytes()

    root = engine.base_url.removesuffix("/v1")
    query = {"name": "group", "value": group["group"]}
    page = httpx.get(f"{root}/stored", params=query)
    assert page.status_code == 200
    assert "cut off by its token limit" in page.text
    assert httpx.get(f"{root}/stored/export", params=query).content == found.path.read_bytes()

    job = client.fine_tuning.jobs.create(
        training_file=str(found.path),
        model="ada",
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 1}}},
    )
    assert job.wait(poll=0.2).status == "succeeded"


@pytest.mark.parametrize(
    ("message", "answer", "reason"),
    [
        ({"content": [{"type": "image_url"}]}, {"content": "a"}, "image_url"),
        ({"role": "function", "content": "a"}, {"content": "a"}, "function"),
        ({"content": None}, {"content": "a"}, "no text"),
        ({}, {"content": None}, "empty"),
        ({}, {"content": None, "refusal": "No."}, "refusal"),
        ({}, {"content": "a", "function_call": {"name": "f"}}, "before tools"),
        ({}, {"content": None, "tool_calls": [{"type": "custom"}]}, "custom"),
    ],
)
def test_what_cannot_be_learned_is_left_out_with_its_reason(message, answer, reason):
    from tunesmith.datasets.stored_completions import LeftOutError, training_rows

    completion = {"choices": [{"message": answer, "finish_reason": "stop"}]}
    with pytest.raises(LeftOutError, match=reason):
        list(training_rows(completion, [{"role": "user", "content": "b"} | message]))


@pytest.mark.slow
def test_at_the_limit_nothing_more_is_stored_and_nothing_is_lost(
    tmp_path: Path, tiny_base_model: Path
):
    write_tiny_home(tmp_path, tiny_base_model)
    with start(tmp_path, limits=Limits(stored_completions=2)) as engine, engine.client() as client:
        kept = [ask(client, max_tokens=1) for _ in range(2)]
        with pytest.raises(tunesmith.BadRequestError, match="stored_completions") as caught:
            ask(client, max_tokens=1)
        assert caught.value.code == "stored_completions_limit"
        assert ask(client, max_tokens=1, store=False).choices
        assert len(list(client.chat.completions.list())) == 2
        client.chat.completions.delete(kept[0].id)
        assert ask(client, max_tokens=1).choices
