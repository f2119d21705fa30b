"""Structured output: answers that follow a JSON schema or call a tool, by a grammar.

llguidance keeps the grammar's state and says which tokens are allowed next; the sampler
masks the others. Reported log probabilities stay those of the model itself.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from tunesmith.engine.domain.tool_messages import CALL_END, CALL_START

from .generation_errors import GenerationError
from .tool_call_parser import uses_call_tags

if TYPE_CHECKING:
    from torch import Tensor

    from .generation import GenerationRequest
    from .model_loader import LoadedBase

__all__ = ["Grammar", "compile_grammar"]

# The work that a grammar may cost before the answer, and at each token: without limits a pattern
# such as ^(x{1000}){1000}$ takes seconds.
_COMPILE_FUEL = 1_000_000
_STEP_FUEL = 100_000

# With free whitespace a small model may write blanks until max_tokens.
JSON_LAYOUT: dict[str, Any] = {
    "whitespace_flexible": False,
    "item_separator": ", ",
    "key_separator": ": ",
}

# Keywords whose values are data, not schemas.
_VALUES = frozenset({"const", "default", "enum", "example", "examples", "x-guidance"})
# Keywords whose values map names to schemas.
_MAPPINGS = frozenset(
    {"$defs", "definitions", "dependentSchemas", "patternProperties", "properties"}
)
# Keywords one of which says what type a value has.
_TYPED = frozenset({"$ref", "allOf", "anyOf", "const", "enum", "oneOf", "type"})
# Keywords that say what other properties there may be.
_OPEN = frozenset({"additionalProperties", "patternProperties", "unevaluatedProperties"})


@dataclass(slots=True)
class Grammar:
    """A compiled grammar and how far one sequence has come in it."""

    matcher: Any
    device: torch.device

    @property
    def is_complete(self) -> bool:
        """True once nothing but the end may follow."""
        return bool(self.matcher.is_stopped())

    def allowed_tokens(self) -> Tensor:
        """Return a boolean mask (V,) of the tokens that may come next."""
        mask = torch.frombuffer(bytearray(self.matcher.compute_logit_bias()), dtype=torch.uint8)
        return mask.to(self.device, torch.bool)

    def accept_token(self, token: int) -> None:
        """Advance by the token that was sampled."""
        self.matcher.consume_token(token)
        if self.matcher.is_error():
            raise GenerationError(
                f"The grammar of the answer cannot be followed any further: "
                f"{self.matcher.get_error()}",
                code="grammar_too_large",
            )

    def copy(self) -> Grammar:
        """Return an independent copy for another sequence."""
        return Grammar(self.matcher.deep_copy(), self.device)


def compile_grammar(base: LoadedBase, request: GenerationRequest) -> Grammar | None:
    """Return the grammar that a request's answers must follow, at its start; None for none.

    Raises:
        GenerationError: The schema uses something that cannot be expressed.
    """
    from llguidance import LLMatcher, LLParserLimits  # noqa: PLC0415 - only few requests need it

    param = "tools" if request.response_schema is None else "response_format"
    rules = _rules(base, request)
    if rules is None:
        return None
    grammar = LLMatcher.grammar_from_lark(rules)
    limits = LLParserLimits(initial_lexer_fuel=_COMPILE_FUEL, step_lexer_fuel=_STEP_FUEL)
    matcher = LLMatcher(_grammar_tokenizer(base), grammar, log_level=0, limits=limits)
    if not matcher.is_error():
        matcher.compute_logit_bias()  # some patterns prove too large only here
    if matcher.is_error():
        raise GenerationError(
            f"The JSON schema in {param} cannot be followed: {matcher.get_error()}",
            param=param,
            code="invalid_schema",
        )
    return Grammar(matcher, base.device)


def _rules(base: LoadedBase, request: GenerationRequest) -> str | None:
    """Return the rules of a request's answers: JSON that follows a schema, a call, or either."""
    schema, chat = request.response_schema, request.chat
    if chat is not None and chat.forced_calls:
        return "start: call\n" + _call_rules(base, chat.forced_calls)
    if schema is None:
        return None
    if chat is None or not chat.tools:
        return "start: answer\n" + _answer_rule(schema)
    functions = [tool["function"] for tool in chat.tools]
    return "start: answer | call\n" + _answer_rule(schema) + _call_rules(base, functions)


def closed(schema: Any) -> Any:
    """Return a schema whose objects have no properties but those that it lists.

    Where a schema leaves open whether there may be more, a small model invents properties until
    its tokens run out; an answer without them follows the schema as well. Schemas that are put
    together with `allOf` stay as they are: one part may list what another one lacks.
    """
    return schema if "allOf" in _keywords(schema) else _closed(schema)


def _closed(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    result = {name: _closed_keyword(name, value) for name, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and not _OPEN & schema.keys():
        result["additionalProperties"] = False
    return result


def _closed_keyword(name: str, value: Any) -> Any:
    if name in _VALUES:
        return value
    if name in _MAPPINGS and isinstance(value, dict):
        return {key: _closed(part) for key, part in value.items()}
    return _closed(value)


def _keywords(schema: Any) -> set[str]:
    if isinstance(schema, list):
        return set[str]().union(*map(_keywords, schema))
    if not isinstance(schema, dict):
        return set()
    return set(schema).union(*map(_keywords, schema.values()))


def _answer_rule(schema: dict[str, Any]) -> str:
    return f"answer: %json {json.dumps({**closed(schema), 'x-guidance': JSON_LAYOUT})}\n"


def _call_rules(base: LoadedBase, tools: list[dict[str, Any]]) -> str:
    """Return the rule `call`: one call of one of the tools, in the form of the chat template.

    The arguments of each tool are a JSON schema of their own, so that its references hold.
    """
    tagged = uses_call_tags(base.chat_template)
    before, after = (f"{CALL_START}\n", f"\n{CALL_END}") if tagged else ("", "")
    rules, calls = list[str](), list[str]()
    for number, tool in enumerate(tools):
        arguments = "arguments" if tagged else "parameters"
        start = json.dumps(f'{before}{{"name": {json.dumps(tool["name"])}, "{arguments}": ')
        calls.append(f"{start} arguments_{number} {json.dumps('}' + after)}")
        schema = closed(tool.get("parameters") or {})
        if not _TYPED & schema.keys():
            schema = {**schema, "type": "object"}
        schema = json.dumps({**schema, "x-guidance": JSON_LAYOUT})
        rules.append(f"arguments_{number}: %json {schema}")
    return "\n".join([f"call: {' | '.join(calls)}", *rules, ""])


def _grammar_tokenizer(base: LoadedBase) -> Any:
    if base.grammar_tokenizer is None:
        import llguidance.hf  # noqa: PLC0415

        base.grammar_tokenizer = llguidance.hf.from_tokenizer(
            base.tokenizer, n_vocab=base.vocab_size, eos_token=sorted(base.eos_token_ids)
        )
    return base.grammar_tokenizer
