"""Grammars of what may be forced: calls in a model's own syntax, JSON after its thoughts.

Written in llguidance's form of Lark. A mark that is a token of its own stands as that token, since
the model has learned it as one. Knows no model and no torch.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .closed_schema import laid_out, of_object
from .parameter_types import resolve, types_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tunesmith.engine.domain.answer_syntax import CallSyntax, ThinkingSyntax

__all__ = ["GrammarWriter", "UnsupportedSchemaError", "harmony_rules", "json_rule"]

_BREAKS = r"/\n{0,2}/"
_PARAMETER = {
    "parameters": ("<parameter={}>\n", "\n</parameter>\n"),
    "named_parameters": ('<parameter name="{}">', "</parameter>\n"),
    "pairs": ("<arg_key>{}</arg_key>\n<arg_value>", "</arg_value>\n"),
}
_IGNORED = frozenset(
    {"title", "description", "default", "examples", "example", "$defs", "definitions", "$schema"}
)
_TEXT_KEYWORDS = frozenset({"type", "minLength", "maxLength", "format"})
_OBJECT_KEYWORDS = frozenset({"type", "properties", "required", "additionalProperties"})
_ARRAY_KEYWORDS = frozenset({"type", "items", "minItems", "maxItems"})
_MAX_DEPTH = 12


class UnsupportedSchemaError(Exception):
    """Parameters that a call syntax other than JSON cannot be held to."""

    def __init__(self, keyword: str) -> None:
        super().__init__(keyword)
        self.keyword = keyword
        self.function = "this tool"


def json_rule(schema: dict[str, Any]) -> str:
    """Return the body of a rule for JSON that follows a schema."""
    return f"%json {json.dumps(laid_out(schema))}"


@dataclass(slots=True)
class GrammarWriter:
    """Collects the rules of one grammar.

    Args:
        added_tokens: The added tokens of the tokenizer by their ids, each with its `content`.
    """

    added_tokens: Mapping[int, Any]
    _rules: list[str] = field(default_factory=list[str])
    _marks: list[tuple[str, int]] = field(init=False)

    def __post_init__(self) -> None:
        marks = {
            token.content: number
            for number, token in self.added_tokens.items()
            if token.content.strip()
        }
        self._marks = sorted(marks.items(), key=lambda mark: len(mark[0]), reverse=True)

    def grammar(self, start: str) -> str:
        """Return the whole grammar."""
        return "\n".join([f"start: {start}", *self._rules, ""])

    def rule(self, body: str, attribute: str = "") -> str:
        """Add a rule; return its name."""
        name = f"r{len(self._rules)}"
        self._rules.append(f"{name}{attribute}: {body}")
        return name

    def literal(self, text: str) -> str:
        """Return a text, the marks in it as the tokens that they are."""
        if not text:
            return ""
        place, mark, number = min(
            ((text.find(mark), mark, number) for mark, number in self._marks if mark in text),
            key=lambda found: (found[0], -len(found[1])),
            default=(-1, "", 0),
        )
        if place < 0:
            return json.dumps(text, ensure_ascii=False)
        before, after = text[:place], text[place + len(mark) :]
        parts = [self.literal(before), f"<[{number}]>", self.literal(after)]
        return " ".join(part for part in parts if part)

    def json(self, schema: dict[str, Any]) -> str:
        """Return JSON that follows a schema."""
        return self.rule(json_rule(schema))

    def text_until(self, end: str, pattern: str = "(?s:.*)") -> str:
        """Return text up to the first place where `end` stands, and that."""
        mark = next((f"<[{number}]>" for text, number in self._marks if end.startswith(text)), None)
        if mark is not None:
            text = self._marks_text(end)
            return " ".join(
                part for part in (self.rule(f"/{pattern}/"), mark, self.literal(text)) if part
            )
        return self.rule(f"/{pattern}/", f"[suffix={json.dumps(end, ensure_ascii=False)}]")

    def _marks_text(self, end: str) -> str:
        """Return what follows the mark that a text begins with."""
        mark = next(text for text, _ in self._marks if end.startswith(text))
        return end[len(mark) :]

    # Thoughts

    def thoughts(self, syntax: ThinkingSyntax, *, begun: bool) -> str:
        """Return thoughts; what has not begun may be left out."""
        thoughts = f"{self.text_until(syntax.end)} {_BREAKS}"
        return thoughts if begun else f"({self.literal(syntax.begin)} {thoughts})?"

    def answer(self, schema: dict[str, Any], thinking: ThinkingSyntax | None) -> str:
        """Return an answer of JSON that follows a schema."""
        answer = self.json(schema)
        if thinking is None or not thinking.answer_begin:
            return answer
        begin, end = self.literal(thinking.answer_begin), self.literal(thinking.answer_end)
        return f"({begin} {_BREAKS})? {answer} ({_BREAKS} {end})?"

    # Calls

    def calls(
        self, syntax: CallSyntax, functions: Sequence[dict[str, Any]], *, several: bool
    ) -> str:
        """Return one call of some functions, or, with `several`, one or more."""
        alternatives = list[str]()
        for function in functions:
            try:
                alternatives.append(self._call(syntax, function))
            except UnsupportedSchemaError as error:
                error.function = function["name"]
                raise
        call = self.rule(" | ".join(alternatives))
        begin, end = self.literal(syntax.begin), self.literal(syntax.end)
        separator = self.literal(syntax.separator)
        if syntax.between is None:
            more = f"({separator} {call})*" if several else ""
            return f"{begin} {call} {more} {end}"
        section = self.rule(f"{begin} {call} {end}")
        between = self.literal(syntax.between)
        # Without any mark a second call could not be told from text.
        return f"{section} ({between} {section})*" if several and syntax.begin else section

    def _call(self, syntax: CallSyntax, function: dict[str, Any]) -> str:
        before = self.literal(syntax.before_name + function["name"] + syntax.after_name)
        schema = _parameters_of(function)
        if syntax.arguments == "json":
            arguments = self.json(schema)
        elif syntax.arguments == "gemma":
            arguments = self._gemma(schema, schema, syntax.quote, 0)
        elif syntax.arguments == "python":
            arguments = self._listed(
                schema, ", ", lambda key, value: f'"{key}=" {self._python(value, schema)}'
            )
        else:
            arguments = self._parameters(schema, *_PARAMETER[syntax.arguments])
        return f"{before} {arguments} {self.literal(syntax.after_arguments)}"

    def _parameters(self, schema: dict[str, Any], begin: str, end: str) -> str:
        """Return parameters between tags, in the order of the schema."""
        properties, required = _properties(schema)
        parts = list[str]()
        for key, value in properties.items():
            if any(character in key for character in '<>"\n'):
                raise UnsupportedSchemaError(f"the name {key!r}")
            written = self.literal(begin.format(key)) + " " + self._tagged_value(value, schema, end)
            parts.append(written if key in required else f"({written})?")
        return self.rule(" ".join(parts) or '""')

    def _tagged_value(self, schema: Any, root: dict[str, Any], end: str) -> str:
        types, resolved = types_of(schema, root), resolve(schema, root)
        values = resolved.get("enum", [resolved["const"]] if "const" in resolved else None)
        if isinstance(values, list):
            texts = (
                value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
                for value in values
            )
            return f"({' | '.join(map(self._quoted, texts))}) {self.literal(end)}"
        if types == {"string"}:
            return self.text_until(end, _text_pattern(resolved))
        if "string" not in types:
            return f"{self.json(_with_definitions(schema, root))} {self.literal(end)}"
        return self.text_until(end)

    def _quoted(self, text: str) -> str:
        return json.dumps(text, ensure_ascii=False) if text else '""'

    def _python(self, schema: Any, root: dict[str, Any]) -> str:
        types = types_of(schema, root)
        resolved = resolve(schema, root)
        if types == {"boolean"} and not {"enum", "const"} & resolved.keys():
            return '("True" | "False")'
        if types == {"null"}:
            return '"None"'
        return self.json(_with_definitions(schema, root))

    def _listed(
        self, schema: dict[str, Any], separator: str, write: Callable[[str, Any], str]
    ) -> str:
        """Return properties with a separator between them, of which some may be left out."""
        properties, required = _properties(schema)
        names = list(properties)
        between = self.literal(separator)
        # What may follow when something stands before, and when nothing does: from the end.
        after = first = ""
        for key in reversed(names):
            part = self.rule(write(key, properties[key]))
            with_separator = self.rule(f"{between} {part} {after}")
            alone = self.rule(f"{part} {after}")
            if key in required:
                after, first = with_separator, alone
            else:
                after = self.rule(f"{with_separator} | {after}" if after else f"{with_separator}?")
                first = self.rule(f"{alone} | {first}" if first else f"{alone}?")
        return first or '""'

    def _gemma(self, schema: Any, root: dict[str, Any], quote: str, depth: int) -> str:
        """Return a value in Gemma's form."""
        if depth > _MAX_DEPTH:
            raise UnsupportedSchemaError("too many levels")
        resolved, types = resolve(schema, root), types_of(schema, root)
        choices = next((resolved[key] for key in ("anyOf", "oneOf") if key in resolved), None)
        values = resolved.get("enum", [resolved["const"]] if "const" in resolved else None)
        if isinstance(values, list):
            parts = [self._gemma_literal(value, quote) for value in values]
        elif isinstance(choices, list):
            parts = [self._gemma(one, root, quote, depth + 1) for one in choices]
        elif types <= {"number", "boolean", "null"}:
            parts = [self.json(_with_definitions(schema, root))]
        elif len(types) > 1 and isinstance(resolved.get("type"), list):
            kinds = ({**resolved, "type": kind} for kind in sorted(types))
            parts = [self._gemma(one, root, quote, depth + 1) for one in kinds]
        elif types == {"object"}:
            parts = [self._gemma_object(resolved, root, quote, depth)]
        elif types == {"array"}:
            parts = [self._gemma_array(resolved, root, quote, depth)]
        else:
            text = self.text_until(quote, _text_pattern(resolved))
            parts = [f"{self.literal(quote)} {text}"]
        return self.rule(" | ".join(parts))

    def _gemma_object(
        self, schema: Mapping[str, Any], root: dict[str, Any], quote: str, depth: int
    ) -> str:
        _check_keywords(schema.keys() - _IGNORED, _OBJECT_KEYWORDS)

        def write(key: str, value: Any) -> str:
            return f"{json.dumps(key + ':')} {self._gemma(value, root, quote, depth + 1)}"

        return f'"{{" {self._listed(dict(schema), ",", write)} "}}"'

    def _gemma_array(
        self, schema: Mapping[str, Any], root: dict[str, Any], quote: str, depth: int
    ) -> str:
        _check_keywords(schema.keys() - _IGNORED, _ARRAY_KEYWORDS)
        item = self._gemma(schema.get("items", {"type": "string"}), root, quote, depth + 1)
        low, high = schema.get("minItems", 0), schema.get("maxItems")
        if high == 0:
            return '"[" "]"'
        most = "" if high is None else max(high - 1, 0)
        items = f'{item} ("," {item}){{{max(low - 1, 0)},{most}}}'
        return f'"[" {items if low else f"({items})?"} "]"'

    def _gemma_literal(self, value: Any, quote: str) -> str:
        if not isinstance(value, str):
            return self._quoted(json.dumps(value))
        return f"{self.literal(quote)} {self._quoted(value)} {self.literal(quote)}"


def harmony_rules(
    writer: GrammarWriter,
    schema: dict[str, Any] | None,
    functions: Sequence[dict[str, Any]],
    *,
    forced: bool,
) -> str:
    """Return an answer in channels: thoughts, then JSON that follows a schema, or a call."""
    ends = list[str]()
    if schema is not None and not forced:
        ends.append(f"{writer.literal('<|channel|>final<|message|>')} {writer.json(schema)}")
    for function in functions:
        header = (
            f"<|channel|>commentary to=functions.{function['name']} <|constrain|>json<|message|>"
        )
        arguments = writer.json(_parameters_of(function))
        ends.append(f"{writer.literal(header)} {arguments}")
    analysis = writer.literal("<|channel|>analysis<|message|>")
    thoughts = f"{analysis} {writer.text_until('<|end|>')} {writer.literal('<|start|>assistant')}"
    return f"({thoughts})? ({' | '.join(ends)})"


def _parameters_of(function: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a function's arguments; without one it takes none."""
    return of_object(function.get("parameters") or {"properties": {}})


def _properties(schema: dict[str, Any]) -> tuple[dict[str, Any], set[str]]:
    resolved = resolve(schema, schema)
    properties = resolved.get("properties")
    found = properties if isinstance(properties, dict) else {}
    required = resolved.get("required")
    return found, set(required) if isinstance(required, list) else set()


def _with_definitions(schema: Any, root: dict[str, Any]) -> dict[str, Any]:
    definitions = {name: root[name] for name in ("$defs", "definitions") if name in root}
    return {**definitions, **(schema if isinstance(schema, dict) else {})}


def _text_pattern(schema: Mapping[str, Any]) -> str:
    """Return the pattern of text that follows a schema, whose pattern is taken as it is."""
    used = schema.keys() - _IGNORED
    pattern = schema.get("pattern")
    if isinstance(pattern, str):
        _check_keywords(used, _TEXT_KEYWORDS | {"pattern"})
        inner = re.sub(r"(?<!\\)/", r"\\/", pattern)
        if inner.startswith("^") and inner.endswith("$") and not inner.endswith("\\$"):
            return f"({inner[1:-1]})"
        return f"(?s:.*)({inner.removeprefix('^').removesuffix('$')})(?s:.*)"
    _check_keywords(used, _TEXT_KEYWORDS)
    low, high = schema.get("minLength", 0), schema.get("maxLength", "")
    return f"(?s:.{{{low},{high}}})" if low or high != "" else "(?s:.*)"


def _check_keywords(used: Any, known: frozenset[str]) -> None:
    unknown = sorted(set(used) - known)
    if unknown:
        raise UnsupportedSchemaError(unknown[0])
