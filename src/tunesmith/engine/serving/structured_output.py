"""Structured output: answers that follow a JSON schema or call a tool, by a grammar.

llguidance keeps the grammar's state and says which tokens are allowed next; the sampler
masks the others. Reported log probabilities stay those of the model itself.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from .generation_errors import GenerationError
from .tool_call_parser import CALL_END, CALL_START, uses_call_tags

if TYPE_CHECKING:
    from torch import Tensor

    from .generation import GenerationRequest
    from .model_loader import LoadedBase

__all__ = ["Grammar", "compile_grammar"]

# With free whitespace a small model may write blanks until max_tokens.
JSON_LAYOUT: dict[str, Any] = {
    "whitespace_flexible": False,
    "item_separator": ", ",
    "key_separator": ": ",
}


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

    def copy(self) -> Grammar:
        """Return an independent copy for another sequence."""
        return Grammar(self.matcher.deep_copy(), self.device)


def compile_grammar(base: LoadedBase, request: GenerationRequest) -> Grammar | None:
    """Return the grammar that a request's answers must follow, at its start; None for none.

    Raises:
        GenerationError: The schema uses something that cannot be expressed.
    """
    from llguidance import LLMatcher  # noqa: PLC0415 - only few requests need it

    if request.response_schema is not None:
        param = "response_format"
        schema = {**request.response_schema, "x-guidance": JSON_LAYOUT}
        grammar = LLMatcher.grammar_from_json_schema(schema)
    elif request.chat is not None and request.chat.forced_calls:
        param = "tools"
        grammar = LLMatcher.grammar_from_lark(_call_grammar(base, request.chat.forced_calls))
    else:
        return None
    matcher = LLMatcher(_grammar_tokenizer(base), grammar, log_level=0)
    if matcher.is_error():
        raise GenerationError(
            f"The JSON schema in {param} cannot be followed: {matcher.get_error()}",
            param=param,
            code="invalid_schema",
        )
    return Grammar(matcher, base.device)


def _call_grammar(base: LoadedBase, tools: list[dict[str, Any]]) -> str:
    """Return a grammar of one call of one of the tools, in the form of the chat template."""
    tagged = uses_call_tags(base.chat_template)
    arguments = "arguments" if tagged else "parameters"
    calls = [
        {
            "type": "object",
            "properties": {
                "name": {"const": tool["name"]},
                arguments: tool.get("parameters") or {"type": "object"},
            },
            "required": ["name", arguments],
            "additionalProperties": False,
        }
        for tool in tools
    ]
    schema = json.dumps({"anyOf": calls, "x-guidance": JSON_LAYOUT})
    tags = (json.dumps(f"{CALL_START}\n"), json.dumps(f"\n{CALL_END}")) if tagged else ("", "")
    return f"start: {tags[0]} call {tags[1]}\ncall: %json {schema}\n"


def _grammar_tokenizer(base: LoadedBase) -> Any:
    if base.grammar_tokenizer is None:
        import llguidance.hf  # noqa: PLC0415

        base.grammar_tokenizer = llguidance.hf.from_tokenizer(
            base.tokenizer, n_vocab=base.vocab_size, eos_token=sorted(base.eos_token_ids)
        )
    return base.grammar_tokenizer
