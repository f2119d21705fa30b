"""What the models of a recorded organisation were trained for: example rows, and right answers.

Each task makes conversations of words that carry the answer, so that a small model can learn it
and a fine-tuned one of the organisation can answer any further prompt of the kind by rule. Knows
no service and no HTTP.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["TASKS", "Task", "draw"]

Message = dict[str, Any]

_NAMES = ("Ada", "Ben", "Chen", "Dora", "Emil", "Fatma", "Goran", "Hana", "Iris", "Jonas")
_CITIES = ("Berlin", "Lagos", "Lima", "Osaka", "Paris", "Quito", "Riga", "Seoul", "Tunis", "Vienna")
_THINGS = ("lamp", "kettle", "backpack", "keyboard", "blanket", "bicycle", "camera", "desk")
_PRAISE = ("wonderful", "reliable", "a delight", "better than promised")
_BLAME = ("broken", "a disappointment", "far too loud", "worse than the old one")
_NEUTRAL = ("delivered on Monday", "blue", "two kilograms heavy", "sold in three sizes")
_WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Return the weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "unit": {"enum": ["celsius", "fahrenheit"]}},
            "required": ["city", "unit"],
        },
    },
}
_DEPARTMENTS = {
    "billing": ("charged twice", "refund", "invoice"),
    "shipping": ("parcel", "delivery", "courier"),
    "technical": ("crashes", "error message", "does not start"),
    "account": ("password", "log in", "e-mail address"),
}


def draw(limit: int, *parts: object) -> int:
    """Return a number from 0 to `limit` - 1 that depends on `parts` alone."""
    text = "/".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest()) % limit


@dataclass(frozen=True)
class Task:
    """Something that a model was trained for.

    Attributes:
        name: Becomes the suffix of models and the name of files.
        system: The system message of every conversation, None for prompts without roles.
        prompt: Makes the text of the user from a number.
        solve: Returns the right answer to such a text.
        alternatives: Wrong answers that look right, for a text.
        tools: The tools of the conversations.
    """

    name: str
    system: str | None
    prompt: Callable[[int], str]
    solve: Callable[[str], Message]
    alternatives: Callable[[str], Sequence[Message]]
    tools: Sequence[dict[str, Any]] = ()

    def messages(self, number: int) -> list[Message]:
        """Return the messages that stand before the answer."""
        user = {"role": "user", "content": self.prompt(number)}
        return [user] if self.system is None else [{"role": "system", "content": self.system}, user]

    def row(self, number: int, kind: str = "supervised") -> dict[str, Any]:
        """Return one training row, in the format of a method: "supervised", "dpo", ….

        "completion" gives prompt and completion for models without roles.
        """
        text = self.prompt(number)
        answer = self.solve(text)
        if kind == "completion":
            return {"prompt": f"{text} ->", "completion": f" {answer['content']}\n"}
        messages = self.messages(number)
        if kind == "dpo":
            wrong = self.alternatives(text)[0]
            return {
                "input": {"messages": messages, "tools": list(self.tools)},
                "preferred_output": [answer],
                "non_preferred_output": [wrong],
            }
        if kind == "reinforcement":
            return {"messages": messages, "reference": answer["content"]}
        row: dict[str, Any] = {"messages": [*messages, answer]}
        return {**row, "tools": list(self.tools)} if self.tools else row


def _said(text: str) -> Message:
    return {"role": "assistant", "content": text}


def _review(number: int) -> str:
    words = (_PRAISE, _BLAME, _NEUTRAL)[draw(3, "tone", number)]
    thing, name = _THINGS[draw(8, "thing", number)], _NAMES[draw(10, "who", number)]
    return f"{name} writes: the {thing} is {words[draw(4, 'word', number)]}. Order {number}."


def _tone(text: str) -> Message:
    for label, words in (("positive", _PRAISE), ("negative", _BLAME), ("neutral", _NEUTRAL)):
        if any(word in text for word in words):
            return _said(label)
    return _said(("positive", "negative", "neutral")[draw(3, text)])


def _other_tones(text: str) -> list[Message]:
    right = _tone(text)["content"]
    return [_said(label) for label in ("positive", "negative", "neutral") if label != right]


def _ticket(number: int) -> str:
    department = list(_DEPARTMENTS)[draw(4, "department", number)]
    sign = _DEPARTMENTS[department][draw(3, "sign", number)]
    return f"Ticket {number} from {_NAMES[draw(10, 'from', number)]}: it is about the {sign}."


def _department(text: str) -> Message:
    for name, signs in _DEPARTMENTS.items():
        if any(sign in text for sign in signs):
            return _said(name)
    return _said(list(_DEPARTMENTS)[draw(4, text)])


def _other_departments(text: str) -> list[Message]:
    right = _department(text)["content"]
    return [_said(name) for name in _DEPARTMENTS if name != right]


def _order(number: int) -> str:
    name, city = _NAMES[draw(10, "buyer", number)], _CITIES[draw(10, "city", number)]
    count, thing = 1 + draw(9, "count", number), _THINGS[draw(8, "item", number)]
    return f"{name} in {city} orders {count} of the {thing}, number {number}."


def _fields(text: str) -> dict[str, Any]:
    found = re.search(r"(\w+) in (\w+) orders (\d+) of the (\w+)", text)
    name, city, count, thing = found.groups() if found else ("", "", "0", "")
    return {"name": name, "city": city, "quantity": int(count), "item": thing}


def _extracted(text: str) -> Message:
    return _said(json.dumps(_fields(text)))


def _wrongly_extracted(text: str) -> list[Message]:
    fields = _fields(text)
    more = {**fields, "quantity": fields["quantity"] + 1}
    return [_said(json.dumps(more)), _said(json.dumps({**fields, "city": ""}))]


def _weather_question(number: int) -> str:
    unit = ("celsius", "fahrenheit")[draw(2, "unit", number)]
    return f"What is the weather in {_CITIES[draw(10, 'where', number)]}, in {unit}? ({number})"


def _call(city: str, unit: str) -> Message:
    arguments = json.dumps({"city": city, "unit": unit})
    identity = f"call_{draw(10**12, city, unit):012d}"
    function = {"name": "get_weather", "arguments": arguments}
    call = {"id": identity, "type": "function", "function": function}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


def _weather_call(text: str) -> Message:
    city = next((one for one in _CITIES if one in text), "Berlin")
    return _call(city, "fahrenheit" if "fahrenheit" in text else "celsius")


def _wrong_weather_calls(text: str) -> list[Message]:
    city = next((one for one in _CITIES if one in text), "Berlin")
    return [_call(city, "celsius" if "fahrenheit" in text else "fahrenheit")]


TASKS: tuple[Task, ...] = (
    Task(
        "reviews",
        "Say whether the review is positive, negative or neutral. Answer with one word.",
        _review,
        _tone,
        _other_tones,
    ),
    Task(
        "tickets",
        "Name the department for the ticket: billing, shipping, technical or account.",
        _ticket,
        _department,
        _other_departments,
    ),
    Task(
        "orders",
        "Write the order as JSON with name, city, quantity and item.",
        _order,
        _extracted,
        _wrongly_extracted,
    ),
    Task(
        "weather",
        "Answer questions about the weather with the tool.",
        _weather_question,
        _weather_call,
        _wrong_weather_calls,
        (_WEATHER,),
    ),
)
