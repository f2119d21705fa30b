"""How alike two answers to one prompt are, and how good one of them is, in numbers.

An agreement compares two answers: the new model's with the old one's, or the old one's two answers
to the same prompt. A quality is of one answer alone. Both are None where they do not apply, such as
the agreement of calls where no tools were declared. Knows no statistics.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from tunesmith.datasets.optional import optional
from tunesmith.errors import MissingExtraError
from tunesmith.graders.text_metrics import MAX_CHARACTERS, similarity

from .answers import NO_JSON, Answer, message_answer

if TYPE_CHECKING:
    from tunesmith.graders.definitions import TextMetric

    from .recordings import Prompt

__all__ = ["AGREEMENTS", "QUALITIES", "class_of", "field_agreement", "infer_classes"]

Agreement: TypeAlias = Callable[["Prompt", Answer, Answer], "float | None"]
Quality: TypeAlias = Callable[["Prompt", Answer], "float | None"]

_MOST_CLASSES = 100
_LONGEST_CLASS = 64
# On average a class needs this many answers; names and numbers that never repeat are no classes.
_LEAST_PER_CLASS = 3
OTHER = "(other)"


def agreement(prompt: Prompt, one: Answer, other: Answer) -> float | None:
    """Return whether two answers do the same: the same calls, the same JSON, or the same text."""
    if one.error or other.error:
        return 0.0
    if one.calls or other.calls:
        return float(_same_calls(one, other))
    if wants_json(prompt) and one.json is not NO_JSON and other.json is not NO_JSON:
        return float(_same_json(one.json, other.json))
    return float(one.normalized == other.normalized and bool(one.refusal) == bool(other.refusal))


def exact_match(_: Prompt, one: Answer, other: Answer) -> float | None:
    """Return whether two answers are the same to the letter, calls included."""
    if one.error or other.error:
        return 0.0
    return float(one.text == other.text and one.calls == other.calls)


def tool_choice(prompt: Prompt, one: Answer, other: Answer) -> float | None:
    """Return whether the same functions are called; also if none is, though there are tools."""
    if not _has_tools(prompt) and not one.calls and not other.calls:
        return None
    if one.error or other.error:
        return 0.0
    names = [Counter(name for name, _ in answer.calls) for answer in (one, other)]
    return float(names[0] == names[1])


def tool_calls(prompt: Prompt, one: Answer, other: Answer) -> float | None:
    """Return whether the same functions are called with the same arguments."""
    if tool_choice(prompt, one, other) is None:
        return None
    return 0.0 if one.error or other.error else float(_same_calls(one, other))


def json_fields(prompt: Prompt, one: Answer, other: Answer) -> float | None:
    """Return the share of the JSON's fields that have the same value in both answers."""
    if not wants_json(prompt) or one.calls or other.calls:
        return None
    if one.error or other.error or one.json is NO_JSON or other.json is NO_JSON:
        return 0.0
    return field_agreement(one.json, other.json)


def first_token(_: Prompt, one: Answer, other: Answer) -> float | None:
    """Return how much of the probability of the first token both share, as far as it is known."""
    if not one.tokens or not other.tokens:
        return None
    shares = [_first_shares(answer) for answer in (one, other)]
    return min(
        1.0, math.fsum(min(share, shares[1].get(text, 0.0)) for text, share in shares[0].items())
    )


def text_agreement(metric: TextMetric) -> Agreement:
    """Return the agreement that is the similarity of two texts."""

    def agree(_: Prompt, one: Answer, other: Answer) -> float | None:
        if not one.error and not other.error and not (one.text or other.text):
            return None
        if one.error or other.error:
            return 0.0
        if one.text == other.text:
            return 1.0
        return similarity(metric, one.text[:MAX_CHARACTERS], other.text[:MAX_CHARACTERS])

    return agree


def class_agreement(classes: Sequence[str]) -> Agreement:
    """Return the agreement whether two answers name the same of the classes."""

    def agree(_: Prompt, one: Answer, other: Answer) -> float | None:
        if one.error or other.error:
            return 0.0
        found = class_of(one, classes)
        return float(found != OTHER and found == class_of(other, classes))

    return agree


AGREEMENTS: Mapping[str, Agreement] = {
    "agreement": agreement,
    "exact_match": exact_match,
    "tool_choice": tool_choice,
    "tool_calls": tool_calls,
    "json_fields": json_fields,
    "first_token": first_token,
}
"""The agreements that every comparison has; classes and similarity join them."""


def answered(_: Prompt, answer: Answer) -> float | None:
    """Return whether there is a whole answer: no error, no refusal, not cut off, not empty."""
    is_whole = answer.finish_reason not in {"length", "content_filter"}
    says_something = bool(answer.text.strip() or answer.calls)
    return float(answer.error is None and not answer.refusal and is_whole and says_something)


def json_valid(prompt: Prompt, answer: Answer) -> float | None:
    """Return whether the answer is JSON where JSON was asked for."""
    if not wants_json(prompt) or answer.calls:
        return None
    return float(answer.error is None and answer.json is not NO_JSON)


def schema_valid(prompt: Prompt, answer: Answer) -> float | None:
    """Return whether the answer follows the JSON schema that was asked for."""
    schema = _schema(prompt)
    if schema is None or answer.calls:
        return None
    if answer.error is not None or answer.json is NO_JSON:
        return 0.0
    return _follows(answer.json, schema)


def arguments_valid(prompt: Prompt, answer: Answer) -> float | None:
    """Return whether the arguments of all calls follow the schemas of the tools' parameters."""
    if not answer.calls:
        return None
    schemas = _parameters(prompt)
    for name, arguments in answer.calls:
        value = json.loads(arguments) if _is_json(arguments) else NO_JSON
        if name not in schemas or value is NO_JSON:
            return 0.0
        if not (follows := _follows(value, schemas[name])):
            return follows
    return 1.0


def reference_match(prompt: Prompt, answer: Answer) -> float | None:
    """Return whether the answer does the same as the row's own answer."""
    reference = message_answer(prompt.reference)
    return None if reference is None else agreement(prompt, answer, reference)


QUALITIES: Mapping[str, Quality] = {
    "answered": answered,
    "reference_match": reference_match,
    "json_valid": json_valid,
    "schema_valid": schema_valid,
    "arguments_valid": arguments_valid,
}
"""What each answer passes or fails alone."""


def characters(_: Prompt, answer: Answer) -> float | None:
    """Return the length of the text."""
    return None if answer.error else float(len(answer.text))


def completion_tokens(_: Prompt, answer: Answer) -> float | None:
    """Return the tokens of the answer, as its own service counts them."""
    return None if answer.completion_tokens is None else float(answer.completion_tokens)


def seconds(_: Prompt, answer: Answer) -> float | None:
    """Return how long the whole answer took."""
    return answer.seconds


def token_logprob(_: Prompt, answer: Answer) -> float | None:
    """Return the mean log probability of the answer's tokens: how sure the model is."""
    if not answer.tokens:
        return None
    return math.fsum(token.logprob for token in answer.tokens) / len(answer.tokens)


NUMBERS: Mapping[str, Quality] = {
    "characters": characters,
    "completion_tokens": completion_tokens,
    "seconds": seconds,
    "token_logprob": token_logprob,
}
"""What each answer measures alone, neither good nor bad."""


def shared_logprobs(one: Answer, other: Answer) -> tuple[float, float] | None:
    """Return the log probability per byte that each gives to the beginning that both have.

    Tokenizers differ, so the beginning ends where both answers have a token's end.
    """
    ends = [_ends(answer) for answer in (one, other)]
    texts = [b"".join(token.text for token in answer.tokens) for answer in (one, other)]
    common = _common_length(texts[0], texts[1])
    shared = [end for end in ends[0] if end in ends[1] and 0 < end <= common]
    if not shared:
        return None
    return ends[0][shared[-1]] / shared[-1], ends[1][shared[-1]] / shared[-1]


def infer_classes(answers: Sequence[Answer]) -> list[str] | None:
    """Return the classes that answers name, most frequent first; None if they are no classes."""
    texts = [answer.normalized for answer in answers if answer.error is None and not answer.calls]
    counts = Counter(texts)
    if not texts or len(texts) < len(answers) / 2 or len(counts) > _MOST_CLASSES:
        return None
    if len(counts) * _LEAST_PER_CLASS > len(texts) or max(map(len, counts)) > _LONGEST_CLASS:
        return None
    return [text for text, _ in counts.most_common()]


def class_of(answer: Answer, classes: Sequence[str]) -> str:
    """Return the class that an answer names, regardless of case; `OTHER` for none of them."""
    text = answer.normalized.casefold()
    if answer.error is None:
        for name in classes:
            if name.casefold() == text:
                return name
    return OTHER


def field_agreement(one: Any, other: Any) -> float:
    """Return the share of two JSON values' fields that are equal, of all that either has."""
    leaves = [dict(_leaves(value, "")) for value in (one, other)]
    paths = leaves[0].keys() | leaves[1].keys()
    missing = object()
    equal = sum(
        _same_json(leaves[0].get(path, missing), leaves[1].get(path, missing)) for path in paths
    )
    return equal / len(paths)


def wants_json(prompt: Prompt) -> bool:
    """Return whether a prompt asks for JSON by its response_format."""
    kind = prompt.body.get("response_format")
    return isinstance(kind, dict) and cast("dict[str, Any]", kind).get("type") in {
        "json_schema",
        "json_object",
    }


def _leaves(value: Any, path: str) -> list[tuple[str, Any]]:
    """Return the values without parts in a JSON value, by their paths; without recursion."""
    found: list[tuple[str, Any]] = []
    waiting: list[tuple[str, Any]] = [(path, value)]
    while waiting:
        place, one = waiting.pop()
        if isinstance(one, dict) and one:
            pairs = cast("dict[str, Any]", one).items()
            waiting += [(f"{place}.{json.dumps(name)}", part) for name, part in pairs]
        elif isinstance(one, list) and one:
            waiting += [(f"{place}[{number}]", part) for number, part in enumerate(one)]
        else:
            found.append((place, one))
    return found


def _same_json(one: Any, other: Any) -> bool:
    """Return whether JSON values are equal; true is not 1, as Python has it, but 1.0 is."""
    leaves = [dict(_leaves(value, "")) for value in (one, other)]
    return leaves[0].keys() == leaves[1].keys() and all(
        isinstance(value, bool) == isinstance(leaves[1][path], bool) and value == leaves[1][path]
        for path, value in leaves[0].items()
    )


def _same_calls(one: Answer, other: Answer) -> bool:
    """Return whether the same functions get the same arguments; parallel calls have no order."""
    return Counter(one.calls) == Counter(other.calls)


def _has_tools(prompt: Prompt) -> bool:
    return bool(prompt.body.get("tools") or prompt.body.get("functions"))


def _schema(prompt: Prompt) -> Any:
    if not wants_json(prompt):
        return None
    described = prompt.body["response_format"].get("json_schema")
    return cast("dict[str, Any]", described).get("schema") if isinstance(described, dict) else None


def _parameters(prompt: Prompt) -> dict[str, Any]:
    tools = prompt.body.get("tools") or [
        {"function": function} for function in prompt.body.get("functions") or ()
    ]
    functions = [tool.get("function") for tool in tools if isinstance(tool, dict)]
    return {
        str(one.get("name")): one.get("parameters") or {}
        for one in functions
        if isinstance(one, dict)
    }


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _follows(value: Any, schema: Any) -> float | None:
    """Return whether a value follows a schema, None for a schema that cannot be evaluated."""
    validator = _validator(json.dumps(schema, sort_keys=True))
    try:
        return float(validator.is_valid(value))
    except Exception:  # noqa: BLE001 - a reference to nowhere, a pattern of another dialect
        return None


@lru_cache(maxsize=256)
def _validator(schema: str) -> Any:
    """Return the validator of a schema; it never fetches what a schema refers to.

    Raises:
        MissingExtraError: jsonschema is not installed.
    """
    jsonschema, referencing = optional("jsonschema"), optional("referencing")
    if jsonschema is None or referencing is None:
        raise MissingExtraError("Checking answers against JSON schemas", "migrate")
    return jsonschema.Draft202012Validator(json.loads(schema), registry=referencing.Registry())


def _first_shares(answer: Answer) -> dict[str, float]:
    """Return the known probabilities of the first token; tokens may begin with a blank or not."""
    token = answer.tokens[0]
    shares: dict[str, float] = {}
    own = {token.text.decode("utf-8", "replace"): token.logprob}
    for text, logprob in {**own, **token.top}.items():
        name = text.strip()
        shares[name] = shares.get(name, 0.0) + math.exp(min(0.0, logprob))
    return shares


def _ends(answer: Answer) -> dict[int, float]:
    """Return the log probability of the text up to each token's end, by its bytes."""
    ends: dict[int, float] = {}
    length, total = 0, 0.0
    for token in answer.tokens:
        length += len(token.text)
        total += token.logprob
        ends[length] = total
    return ends


def _common_length(one: bytes, other: bytes) -> int:
    shortest = min(len(one), len(other))
    for place in range(shortest):
        if one[place] != other[place]:
            return place
    return shortest
