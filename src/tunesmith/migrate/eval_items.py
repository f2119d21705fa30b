"""Prompts from the tools that people evaluate with: promptfoo, Langfuse, OpenAI's evals.

Each tool has its own word for the same three things: what is asked, what is expected, and how the
two are compared. The last becomes a grader where one says the same; what has none is named, never
dropped silently. Reads files, asks nobody.
"""

from __future__ import annotations

import csv
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, cast

from tunesmith.datasets.optional import optional
from tunesmith.errors import MissingExtraError

from .recordings import Prompt, RecordingError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["EvalFile", "is_promptfoo", "prompt_of_item", "promptfoo_prompts", "to_promptfoo"]

_YAML = frozenset({".yaml", ".yml"})
_VARIABLE = re.compile(r"\{\{-?\s*([\w.]+)\s*-?\}\}")
_PROMPT_VARIABLES = ("messages", "prompt", "input", "question", "query", "text")
_MOST_YAML = 64 * 1024 * 1024

# promptfoo's assertions that a grader says as well: its type, and the operation.
_ASSERTIONS: Final[dict[str, tuple[str, str]]] = {
    "equals": ("string_check", "eq"),
    "not-equals": ("string_check", "ne"),
    "contains": ("string_check", "like"),
    "icontains": ("string_check", "ilike"),
    "rouge-n": ("text_similarity", "rouge_1"),
    "bleu": ("text_similarity", "bleu"),
    "gleu": ("text_similarity", "gleu"),
    "meteor": ("text_similarity", "meteor"),
}
_DEFAULT_THRESHOLD = 0.75  # promptfoo's for rouge-n
_CSV_PREFIX = re.compile(
    r"(?P<type>[a-z][\w-]*)(?:\((?P<threshold>[\d.]+)\))?:\s*(?P<value>.*)", re.DOTALL
)


@dataclass
class EvalFile:
    """What a file of tests holds.

    Attributes:
        prompts: A prompt for each test; `item` has its variables, and what is expected.
        graders: The graders that its assertions are, by name.
        left_out: What is no prompt or no grader, and why, by its place.
    """

    prompts: list[Prompt] = field(default_factory=list[Prompt])
    graders: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    left_out: dict[str, str] = field(default_factory=dict[str, str])


def is_promptfoo(path: Path) -> bool:
    """Return whether a file holds promptfoo's tests, by its ending or its first row."""
    ending = path.suffix.lower()
    if ending in _YAML:
        return True
    try:
        with path.open("rb") as stream:
            head = stream.read(1 << 16)
    except OSError:
        return False
    if ending == ".csv":
        first = head.partition(b"\n")[0].decode("utf-8-sig", "replace")
        return any(name.strip().strip('"').startswith("__expected") for name in first.split(","))
    if ending not in {".json", ".jsonl"}:
        return False
    start = head.partition(b"\n")[0] if ending == ".jsonl" else head
    text = start.decode("utf-8", "replace")
    return '"vars"' in text or ('"tests"' in text and '"prompts"' in text)


def promptfoo_prompts(path: Path) -> EvalFile:
    """Read promptfoo's tests: a configuration, a list of tests, JSON lines or a CSV table.

    Raises:
        RecordingError: The file is none of these.
        MissingExtraError: It is YAML, and PyYAML is not installed.
    """
    found = EvalFile()
    config = _promptfoo_config(path)
    templates = config.get("prompts") or []
    default = _object(config.get("defaultTest"))
    for number, test in enumerate(config["tests"], start=1):
        place = f"{path.name}#{number}"
        if not isinstance(test, dict):
            found.left_out[place] = "a test must be an object, not a reference to another file"
            continue
        one = cast("dict[str, Any]", test)
        variables = {**_object(default.get("vars")), **_object(one.get("vars"))}
        bodies = _bodies(templates if isinstance(templates, list) else [templates], variables)
        if not bodies:
            found.left_out[place] = (
                "it has no prompt: neither does the file have prompts, nor a test a variable "
                f"named {', '.join(_PROMPT_VARIABLES)}"
            )
            continue
        asserts = [*(default.get("assert") or ()), *(one.get("assert") or ())]
        item: dict[str, Any] = {"vars": variables, "expected": {}}
        for position, assertion in enumerate(asserts):
            _add_assertion(found, item, _object(assertion), f"{place}.assert[{position}]")
        reference = next(iter(item["expected"].values()), None)
        for body in bodies:
            found.prompts.append(
                Prompt(
                    body,
                    source="eval",
                    conversation=place,
                    reference=reference if item.get("is_equal") else None,
                    item={name: value for name, value in item.items() if name != "is_equal"},
                    origin=place,
                )
            )
    return found


def prompt_of_item(row: Mapping[str, Any]) -> Prompt | None:
    """Return the prompt of an item of OpenAI's evals or of Langfuse; None for another row."""
    if isinstance(row.get("datasource_item"), dict):  # an output item of an eval's run
        return _openai_output_item(row)
    if set(row) <= {"item", "sample"} and isinstance(row.get("item"), dict):
        return _openai_item(row["item"])
    if "expectedOutput" in row or "expected_output" in row:
        return _langfuse_item(row)
    return None


def to_promptfoo(prompts: list[Prompt]) -> list[dict[str, Any]]:
    """Return prompts as promptfoo's tests, for a file of JSON lines.

    The messages are the variable `messages`; where there is a reference text, the answer has to
    equal it.
    """
    tests: list[dict[str, Any]] = []
    for prompt in prompts:
        name = "messages" if prompt.is_chat else "prompt"
        test: dict[str, Any] = {"description": prompt.origin, "vars": {name: prompt.body[name]}}
        reference = prompt.reference
        text = reference if isinstance(reference, str) else _object(reference).get("content")
        if isinstance(text, str):
            test["assert"] = [{"type": "equals", "value": text}]
        tests.append(test)
    return tests


def _openai_output_item(row: Mapping[str, Any]) -> Prompt:
    item: dict[str, Any] = row["datasource_item"]
    sample = _object(row.get("sample"))
    messages = _texts(sample.get("input"))
    if not messages:
        prompt = _openai_item(item)
        if prompt is None:
            raise ValueError("the output item has no sample.input, and its item no messages")
        return prompt
    output = _texts(sample.get("output"))
    return Prompt(
        {"messages": messages},
        source="eval",
        conversation=str(row.get("datasource_item_id") or row.get("id") or ""),
        reference=_reference_of(item),
        item={**item, "recorded_output": output[-1]["content"] if output else None},
    )


def _openai_item(item: Mapping[str, Any]) -> Prompt | None:
    messages = _texts(item.get("messages") or item.get("input"))
    if not messages:
        text = next((item[n] for n in _PROMPT_VARIABLES if isinstance(item.get(n), str)), None)
        if text is None:
            raise ValueError(
                "an eval's item needs messages, or its question in a field named "
                f"{', '.join(_PROMPT_VARIABLES[1:])}: fill in its template first"
            )
        messages = [{"role": "user", "content": text}]
    return Prompt({"messages": messages}, source="eval", reference=_reference_of(item), item=item)


def _reference_of(item: Mapping[str, Any]) -> Any:
    names = ("reference", "expected", "ideal", "answer", "correct_label", "label", "ground_truth")
    return next((item[name] for name in names if isinstance(item.get(name), str)), None)


def _langfuse_item(row: Mapping[str, Any]) -> Prompt:
    given, expected = row.get("input"), row.get("expectedOutput", row.get("expected_output"))
    if isinstance(given, str):
        messages = [{"role": "user", "content": given}]
    else:
        described = _object(given)
        messages = _texts(described.get("messages") if described else given)
        if not messages:
            text = next(
                (described[n] for n in _PROMPT_VARIABLES if isinstance(described.get(n), str)), None
            )
            if text is None:
                raise ValueError("the item's input is neither a text nor messages")
            messages = [{"role": "user", "content": text}]
    if isinstance(expected, dict) and "role" not in expected and "content" not in expected:
        expected = json.dumps(expected, ensure_ascii=False)
    return Prompt(
        {"messages": messages},
        source="eval",
        conversation=str(row.get("id") or ""),
        reference=expected,
        item=dict(row),
    )


def _texts(messages: Any) -> list[dict[str, Any]]:
    """Return messages with the roles and contents that chat completions take."""
    if not isinstance(messages, list):
        return []
    found: list[dict[str, Any]] = []
    for message in messages:
        one = _object(message)
        if not isinstance(one.get("role"), str):
            return []
        content = one.get("content")
        if isinstance(content, list):
            parts = [_object(part).get("text") for part in content]
            content = "".join(part for part in parts if isinstance(part, str))
        found.append({**one, "content": content})
    return found


def _promptfoo_config(path: Path) -> dict[str, Any]:
    ending = path.suffix.lower()
    try:
        if path.stat().st_size > _MOST_YAML and ending != ".jsonl":
            raise RecordingError(f"{path} is larger than {_MOST_YAML >> 20} MiB. Use JSON lines.")
        if ending == ".csv":
            return {"tests": _promptfoo_table(path)}
        text = path.read_text(encoding="utf-8-sig")
        if ending == ".jsonl":
            return {"tests": [json.loads(line) for line in text.splitlines() if line.strip()]}
        content = _load_yaml(path, text) if ending in _YAML else json.loads(text)
    except OSError as error:
        raise RecordingError(f"{path} cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise RecordingError(f"{path} cannot be read: {error}.") from None
    config: dict[str, Any] = {"tests": content} if isinstance(content, list) else _object(content)
    if not isinstance(config.get("tests"), list):
        raise RecordingError(
            f"{path} has no list of tests. promptfoo files that refer to others (file://…) have "
            "to name the other file here."
        )
    return config


def _load_yaml(path: Path, text: str) -> Any:
    yaml = optional("yaml")
    if yaml is None:
        raise MissingExtraError("Reading YAML", "migrate")
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = "" if mark is None else f":{mark.line + 1}"
        reason = getattr(error, "problem", None) or "no YAML"
        raise RecordingError(f"{path}{line} cannot be read: {reason}.") from None


def _promptfoo_table(path: Path) -> list[dict[str, Any]]:
    tests: list[dict[str, Any]] = []
    with path.open(encoding="utf-8-sig", newline="") as stream:
        for row in csv.DictReader(stream):
            cells = {name: value for name, value in row.items() if isinstance(value, str)}
            expected = [v for name, v in cells.items() if name.startswith("__expected") and v]
            variables = {name: v for name, v in cells.items() if not name.startswith("__")}
            tests.append({"vars": variables, "assert": [_csv_assertion(one) for one in expected]})
    return tests


def _csv_assertion(text: str) -> dict[str, Any]:
    """Return the assertion of an `__expected` cell: `type: value`, or a value to equal."""
    found = _CSV_PREFIX.fullmatch(text)
    if found is None or found["type"] not in {*_ASSERTIONS, "llm-rubric", "python", "javascript"}:
        return {"type": "equals", "value": text}
    assertion: dict[str, Any] = {"type": found["type"], "value": found["value"]}
    if found["threshold"]:
        assertion["threshold"] = float(found["threshold"])
    return assertion


def _bodies(templates: list[Any], variables: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the requests of a test: each of the file's prompts filled in, or its own variable."""
    bodies: list[dict[str, Any]] = []
    for template in templates:
        described = _object(template)
        text = (described.get("raw") or described.get("prompt")) if described else template
        if isinstance(text, str) and not text.startswith("file://"):
            bodies.append(_body_of_text(_filled(text, variables)))
    if bodies:
        return bodies
    for name in _PROMPT_VARIABLES:
        value = variables.get(name)
        if messages := _texts(value):
            return [{"messages": messages}]
        if isinstance(value, str):
            return [_body_of_text(value)]
    return []


def _body_of_text(text: str) -> dict[str, Any]:
    """Return a request for a prompt; promptfoo writes conversations as JSON in the text."""
    if text.lstrip().startswith("["):
        try:
            messages = _texts(json.loads(text))
        except ValueError:
            messages = []
        if messages:
            return {"messages": messages}
    return {"messages": [{"role": "user", "content": text}]}


def _filled(template: str, variables: Mapping[str, Any]) -> str:
    def value(found: re.Match[str]) -> str:
        one: Any = variables
        for name in found[1].split("."):
            one = _object(one).get(name)
        if one is None:
            return found[0]
        return one if isinstance(one, str) else json.dumps(one, ensure_ascii=False)

    return _VARIABLE.sub(value, template)


def _add_assertion(
    found: EvalFile, item: dict[str, Any], assertion: Mapping[str, Any], place: str
) -> None:
    """Add an assertion as a grader, and what it expects to the test's item."""
    kind, value = assertion.get("type"), assertion.get("value")
    known = _ASSERTIONS.get(str(kind))
    if known is None or not isinstance(value, str | int | float | bool):
        advice = (
            "as a score_model grader" if kind in {"llm-rubric", "model-graded-closedqa"} else ""
        )
        found.left_out[place] = f"the assertion {kind!r:.40} has no grader here; write one {advice}"
        return
    text = value if isinstance(value, str) else json.dumps(value)
    name = f"promptfoo_{kind}".replace("-", "_")
    # One grader for all tests: what each expects stands in its item.
    field_name = name
    item["expected"][field_name] = _filled(text, item["vars"])
    if kind == "equals":
        item["is_equal"] = True
    grader: dict[str, Any] = {
        "type": known[0],
        "name": name,
        "input": "{{ sample.output_text }}",
        "reference": "{{ item.expected." + field_name + " }}",
    }
    if known[0] == "string_check":
        grader["operation"] = known[1]
    else:
        grader["evaluation_metric"] = known[1]
        grader["pass_threshold"] = float(assertion.get("threshold") or _DEFAULT_THRESHOLD)
    found.graders.setdefault(name, grader)


def _object(value: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}
