"""`chat.completions.parse` and `stream` with a type: the schema that is sent, the value read."""

from __future__ import annotations

import copy
import gc
import itertools
import json
import multiprocessing
import pickle
import re
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import date
from enum import Enum
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, TypeVar

import pytest
from pydantic import BaseModel, Field, RootModel, create_model
from typing_extensions import TypeAliasType, TypedDict

from http_stub import answer, sse
from parse_in_process import Review, parse
from tunesmith import (
    APIResponseValidationError,
    TunesmithError,
    pydantic_function_tool,
)
from tunesmith.resources.answer_schemas import response_format_of, type_name
from tunesmith.types import ParsedChatCompletion

T = TypeVar("T")


class Step(BaseModel):
    text: str
    done: bool = False
    on: date | None = None


class Box(BaseModel, Generic[T]):
    item: T
    others: list[T] = []


class Tree(BaseModel):
    """A tree."""

    step: Step = Field(description="The step here.")
    left: Tree | None = Field(None, description="One side.")
    kids: list[Tree] = []


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog"]
    friend: Cat | None = None


class Owner(BaseModel):
    pet: Cat | Dog = Field(discriminator="kind")


class Awkward(BaseModel):
    """Its properties are named as keywords of JSON Schema."""

    default: int = 3
    type: str
    properties: Step
    discriminator: str
    oneOf: list[str]  # noqa: N815


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Typed(TypedDict):
    size: int


@dataclass
class Data:
    weight: float


class Pair(NamedTuple):
    one: int
    two: str


class LongName(BaseModel):
    size: int


LongName.__name__ = "Größenangabe" * 9


Number = NewType("Number", int)
Steps = TypeAliasType("Steps", list[Step])

UNHASHED = Annotated[int, {"no": "hash"}]
TYPES: list[Any] = [
    Step, Box[Step], Box[list[int]], Tree, Cat | Dog, Owner, Awkward, Colour, Typed, Data, Number,
    Steps, list[Step], list[Box[Step]], Literal["yes", "no"], Step | None, int | str,
    Annotated[Step, Field(description="A step.")], Annotated[list[Step], Field(max_length=3)],
    UNHASHED, Annotated[Cat | Dog, Field(discriminator="kind")],
    RootModel[list[int]], tuple[int, ...], set[str], str, int, bool, date, type(None),
    LongName,
]  # fmt: skip
OPEN: list[Any] = [dict[str, int], dict, list, Pair, Any, Box[dict[str, Step]], Box[Any]]
NAME = re.compile(r"^[a-zA-Z0-9_-]{1,64}$")
NOT_PERMITTED = {"default", "oneOf", "allOf", "discriminator", "prefixItems", "not", "examples"}


def schemas_in(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield schema
    for holder in ("properties", "$defs"):
        for one in schema.get(holder, {}).values():
            yield from schemas_in(one)
    for one in (*schema.get("anyOf", ()), *[schema[key] for key in ("items",) if key in schema]):
        yield from schemas_in(one)


def assert_strict(schema: dict[str, Any]) -> None:
    """The rules of structured outputs, as the service documents and enforces them."""
    assert schema["type"] == "object"
    for one in schemas_in(schema):
        assert NOT_PERMITTED.isdisjoint(one), one
        assert one.keys() & {"type", "enum", "const", "anyOf", "$ref"}, one
        if "$ref" in one:
            assert list(one) == ["$ref"]
            assert one["$ref"].removeprefix("#/$defs/") in schema["$defs"]
        if one.get("type") == "object":
            assert one["additionalProperties"] is False
            assert one["required"] == list(one["properties"])


def sent(kind: Any) -> dict[str, Any]:
    described: dict[str, Any] = response_format_of(kind)["json_schema"]
    return described


@pytest.mark.parametrize("kind", TYPES, ids=type_name)
def test_the_schema_keeps_the_rules_of_the_service(kind):
    described = sent(kind)
    assert described["strict"] is True
    assert NAME.match(described["name"])
    assert_strict(described["schema"])


@pytest.mark.parametrize("kind", OPEN, ids=type_name)
def test_what_the_strict_rules_cannot_describe_is_sent_as_not_strict(kind):
    described = sent(kind)
    assert described["strict"] is False
    assert NAME.match(described["name"])
    assert described["schema"]["type"] == "object"


@pytest.mark.parametrize(
    "kind", [one for one in [*TYPES, *OPEN] if one is not UNHASHED], ids=type_name
)
def test_containers_of_every_type_keep_the_rules(kind):
    strict = sent(kind)["strict"]
    for outer in (list[kind], Box[kind], kind | None if kind is not type(None) else list[kind]):
        described = sent(outer)
        assert described["strict"] is strict
        assert NAME.match(described["name"])
        if strict:
            assert_strict(described["schema"])


@pytest.mark.parametrize(
    ("kind", "name"),
    [(Box[Step], "Box_Step"), (list[Step], "list_Step"), (Step | None, "Step_or_None"),
     (Literal["a b", "c"], "Literal_a_b_c"), (Annotated[Step, 1], "Step"), (Steps, "Steps")],
)  # fmt: skip
def test_names_say_the_type(kind, name):
    assert sent(kind)["name"] == name


def test_a_local_class_has_a_name_and_keeps_its_fields():
    class Local(BaseModel):
        x: int

    assert sent(Local)["name"] == "Local"
    assert sent(list[Local])["name"] == "list_Local"


def test_properties_named_as_keywords_stay():
    schema = sent(Awkward)["schema"]
    assert set(schema["required"]) == {"default", "type", "properties", "discriminator", "oneOf"}
    assert schema["properties"]["default"] == {"type": "integer", "title": "Default"}


@pytest.mark.parametrize("kind", [3, "json", Step(text="a"), [Step]])
def test_what_is_no_type_is_refused(mode, stub, kind):
    client = mode.client(stub.url)
    with pytest.raises(TunesmithError, match="is a type or a mapping"):
        mode.run(client.chat.completions.parse(model="m", messages=[], response_format=kind))
    assert stub.requests == []


def test_create_with_a_type_names_parse(mode, stub):
    client = mode.client(stub.url)
    for kind in (Step, list[Step], Step | None):
        with pytest.raises(TypeError, match=r"chat\.completions\.parse"):
            mode.run(client.chat.completions.create(model="m", messages=[], response_format=kind))
    with pytest.raises(TypeError, match="cannot be sent as JSON"):
        mode.run(client.chat.completions.create(model="m", messages=[], tools=[Step]))
    assert stub.requests == []


def chat_answer(content: str | None, **message: Any) -> dict[str, Any]:
    said = {"role": "assistant", "content": content, **message}
    reason = "tool_calls" if "tool_calls" in message else "stop"
    return {
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{"index": 0, "message": said, "finish_reason": reason, "logprobs": None}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }  # fmt: skip


def parsed(mode: Any, stub: Any, kind: Any, content: str | None, **message: Any) -> Any:
    stub.then(answer(chat_answer(content, **message), x_request_id="req-1"))
    client = mode.client(stub.url)
    return mode.run(client.chat.completions.parse(model="m", messages=[], response_format=kind))


STEP = {"text": "a", "done": True, "on": "2024-02-29"}
VALUE = Step(text="a", done=True, on=date(2024, 2, 29))


@pytest.mark.parametrize(
    ("kind", "content", "value"),
    [
        (Step, STEP, VALUE),
        (list[Step], {"value": [STEP]}, [VALUE]),
        (Literal["yes", "no"], {"value": "no"}, "no"),
        (Step | None, {"value": STEP}, VALUE),
        (Step | None, {"value": None}, None),
        (Annotated[list[Step], Field(max_length=3)], {"value": []}, []),
        (Annotated[int, {"no": "hash"}], {"value": 3}, 3),
        (Box[Step], {"item": STEP, "others": []}, Box[Step](item=VALUE)),
        (Cat | Dog, {"value": {"kind": "dog", "friend": None}}, Dog(kind="dog")),
        (Colour, {"value": "blue"}, Colour.BLUE),
        (set[str], {"value": ["a"]}, {"a"}),
        (date, {"value": "2024-02-29"}, date(2024, 2, 29)),
        (Steps, {"value": [STEP]}, [VALUE]),
        (Data, {"weight": 1.5}, Data(1.5)),
        (dict[str, int], {"value": 1}, {"value": 1}),
        # Servers that do not keep to schemas answer with the value alone.
        (list[Step], [STEP], [VALUE]),
        (Step | None, STEP, VALUE),
        (Literal["yes", "no"], "no", "no"),
    ],
    ids=str,
)
def test_answers_are_read_as_the_type(mode, stub, kind, content, value):
    completion = parsed(mode, stub, kind, json.dumps(content))
    assert completion.choices[0].message.parsed == value
    assert type(completion.choices[0].message.parsed) is type(value)
    assert stub.requests[0].json["response_format"] == response_format_of(kind)


@pytest.mark.parametrize(
    ("kind", "content", "place"),
    [
        (list[Step], '{"value": [{"text": 3}]}', "value.0.text"),
        (list[Step], '[{"text": 3}]', "0.text"),
        (Literal["yes"], '{"value": "no"}', "value"),
        (Step, "Sure! Here it is.", "Sure"),
        (list[Step], "", "''"),
    ],
)
def test_an_answer_of_another_type_names_the_place(mode, stub, kind, content, place):
    with pytest.raises(APIResponseValidationError, match=re.escape(place)):
        parsed(mode, stub, kind, content)


CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


@pytest.mark.parametrize("content", ["", " \n", None])
@pytest.mark.parametrize(
    "calls", [{"tool_calls": [CALL]}, {"function_call": {"name": "f", "arguments": "{}"}}]
)
def test_a_call_of_a_tool_without_text_has_nothing_to_parse(mode, stub, content, calls):
    message = parsed(mode, stub, Step, content, **calls).choices[0].message
    assert message.parsed is None
    assert message.content == content


def test_a_call_of_a_tool_with_text_is_parsed(mode, stub):
    message = parsed(mode, stub, Step, json.dumps(STEP), tool_calls=[CALL]).choices[0].message
    assert message.parsed == VALUE
    assert message.tool_calls[0].id == "call_1"


def test_a_refusal_is_not_parsed(mode, stub):
    assert parsed(mode, stub, Step, "", refusal="No.").choices[0].message.parsed is None


@pytest.mark.parametrize("kind", [Step, Box[Step], list[Step]])
def test_results_can_be_pickled_and_copied(mode, stub, kind):
    content = {Step: STEP, Box[Step]: {"item": STEP, "others": []}}.get(kind, [STEP])
    completion = parsed(mode, stub, kind, json.dumps(content))
    copies = [
        *[pickle.loads(pickle.dumps(completion, protocol)) for protocol in range(6)],
        copy.copy(completion), copy.deepcopy(completion), completion.model_copy(),
    ]  # fmt: skip
    for one in copies:
        assert one == completion
        assert one.choices[0].message.parsed == completion.choices[0].message.parsed
        assert one._request_id == "req-1"


def test_a_parametrised_completion_can_be_pickled():
    data = chat_answer(None, parsed=STEP)
    completion = ParsedChatCompletion[Step].model_validate(data)
    again = pickle.loads(pickle.dumps(completion))
    assert again == completion
    assert again.choices[0].message.parsed == VALUE


def test_a_parsed_completion_has_the_fields_that_came(mode, stub):
    data = parsed(mode, stub, Step, json.dumps(STEP)).to_dict()
    assert data["choices"][0]["message"].keys() == {"role", "content", "parsed"}
    assert data["choices"][0]["message"]["parsed"] == STEP


def chunks(text: str, **last: Any) -> list[dict[str, Any]]:
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    pieces = [text[start : start + 7] for start in range(0, len(text), 7)]
    deltas = [{"role": "assistant", "content": ""}, *[{"content": one} for one in pieces], last]
    reasons = itertools.chain(itertools.repeat(None, len(deltas) - 1), ["stop"])
    return [
        {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}
        for delta, reason in zip(deltas, reasons, strict=True)
    ]


def streamed(mode: Any, client: Any, kind: Any) -> tuple[list[Any], Any]:
    opened = client.chat.completions.stream(model="m", messages=[], response_format=kind)

    def blocking() -> Any:
        with opened as stream:
            return list(stream), stream.get_final_completion()

    async def awaited() -> Any:
        async with opened as stream:
            return [event async for event in stream], await stream.get_final_completion()

    result: tuple[list[Any], Any] = mode.runner.run(awaited()) if mode.runner else blocking()
    return result


def test_a_list_is_streamed_as_a_list(mode, stub):
    stub.then(sse(*chunks(json.dumps({"value": [STEP, STEP]}))))
    events, completion = streamed(mode, mode.client(stub.url), list[Step])
    deltas = [event for event in events if event.type == "content.delta"]
    assert isinstance(deltas[-1].parsed, list)
    assert deltas[0].parsed is None
    done = next(event for event in events if event.type == "content.done")
    assert done.parsed == completion.choices[0].message.parsed == [VALUE, VALUE]
    assert pickle.loads(pickle.dumps(completion)) == completion
    assert pickle.loads(pickle.dumps(events[0])) == events[0]


def test_a_streamed_call_of_a_tool_beside_blank_text(mode, stub):
    stub.then(sse(*chunks(" ", tool_calls=[{"index": 0, **CALL}])))
    events, completion = streamed(mode, mode.client(stub.url), Step)
    assert completion.choices[0].message.parsed is None
    assert completion.choices[0].message.tool_calls[0].function.name == "f"
    assert events[-1].type == "tool_calls.function.arguments.done"


def test_parsed_completions_are_written_without_warnings(mode, stub):
    """Warnings are errors here; a parsed value of a model must not give any."""
    completion = parsed(mode, stub, Step, json.dumps(STEP))
    assert completion.model_dump(mode="json")["choices"][0]["message"]["parsed"] == STEP
    for text in (completion.model_dump_json(), completion.to_json()):
        assert json.loads(text)["choices"][0]["message"]["parsed"] == STEP


def test_parsing_makes_no_class_for_each_answer(mode, stub, monkeypatch):
    made = []
    metaclass: Any = type(BaseModel)
    make = metaclass.__new__

    def counted(kind: Any, name: str, *rest: Any, **options: Any) -> Any:
        made.append(name)
        return make(kind, name, *rest, **options)

    parsed(mode, stub, list[Step], json.dumps([STEP]))
    monkeypatch.setattr(metaclass, "__new__", counted)
    for _ in range(3):
        parsed(mode, stub, list[Step], json.dumps([STEP]))
    assert made == []


def test_types_that_are_used_once_are_forgotten():
    for number in range(300):
        response_format_of(create_model(f"Used{number}", x=(int, ...)))
    gc.collect()
    kept = {kind.__name__ for kind in BaseModel.__subclasses__() if "Used" in kind.__name__}
    assert len(kept) <= 256


def test_results_come_back_from_a_pool_of_processes(stub):
    stub.handle = lambda _: answer(chat_answer('{"text": "Fine.", "stars": 4}'))
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        completion = pool.submit(parse, stub.url).result(60)
    assert completion.choices[0].message.parsed == Review(text="Fine.", stars=4)


class Weather(BaseModel):
    """The weather of a place."""

    place: str
    days: int = 1


def call_of(name: str, arguments: str) -> dict[str, Any]:
    return {"id": "c1", "type": "function", "function": {"name": name, "arguments": arguments}}


def with_tools(mode: Any, stub: Any, call: dict[str, Any], tools: Any) -> Any:
    stub.then(answer(chat_answer(None, tool_calls=[call])))
    completions = mode.client(stub.url).chat.completions
    answered = mode.run(
        completions.parse(model="m", messages=[], response_format=Step, tools=tools)
    )
    return answered.choices[0].message.tool_calls[0].function


def test_arguments_are_read_as_the_model_of_their_tool(mode, stub):
    tools = (pydantic_function_tool(one) for one in (Step, Weather))
    function = with_tools(mode, stub, call_of("Weather", '{"place": "Rome", "days": 2}'), tools)
    assert function.parsed_arguments == Weather(place="Rome", days=2)
    sent_tool = stub.requests[0].json["tools"][1]
    assert sent_tool["function"]["description"] == "The weather of a place."
    assert sent_tool["function"]["strict"] is True
    assert_strict(sent_tool["function"]["parameters"])


def test_arguments_of_other_tools(mode, stub):
    strict = {"type": "function", "function": {"name": "f", "strict": True, "parameters": {}}}
    loose = {"type": "function", "function": {"name": "g", "parameters": {}}}
    tools = [{"type": "custom", "custom": {"name": "h"}}, strict, loose]
    assert with_tools(mode, stub, call_of("f", '{"a": 1}'), tools).parsed_arguments == {"a": 1}
    assert with_tools(mode, stub, call_of("g", "{"), tools).parsed_arguments is None
    assert with_tools(mode, stub, call_of("unknown", "{}"), tools).parsed_arguments is None
    with pytest.raises(APIResponseValidationError, match=r"call of f are no JSON.*'\{'"):
        with_tools(mode, stub, call_of("f", "{"), tools)
    tool = pydantic_function_tool(Weather, name="w", description="d")
    with pytest.raises(APIResponseValidationError, match=r"not a Weather: days: "):
        with_tools(mode, stub, call_of("w", '{"place": "a", "days": "x"}'), [tool])


def test_a_parsed_message_is_sent_back_as_it_came(mode, stub):
    tools = [pydantic_function_tool(Weather)]
    call = call_of("Weather", '{"place": "Rome"}')
    stub.then(answer(chat_answer(json.dumps(STEP), tool_calls=[call])), answer(chat_answer("b")))
    completions = mode.client(stub.url).chat.completions
    first = mode.run(completions.parse(model="m", messages=[], response_format=Step, tools=tools))
    message = first.choices[0].message
    assert message.tool_calls[0].function.parsed_arguments == Weather(place="Rome")
    again = {"role": "assistant", "tool_calls": message.tool_calls}
    mode.run(completions.create(model="m", messages=[message, again]))
    sent_back, by_hand = stub.requests[-1].json["messages"]
    assert sent_back == {"role": "assistant", "content": json.dumps(STEP), "tool_calls": [call]}
    assert by_hand["tool_calls"] == [call]
