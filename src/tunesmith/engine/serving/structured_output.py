"""Answers that follow a JSON schema or call a tool: each token is held to a grammar.

llguidance keeps the grammar's state and says which tokens may come next; the sampler
blanks the others. Reported log probabilities stay those of the model itself.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from .generation_errors import GenerationError
from .tool_call_parser import CALL_END, CALL_START, writes_tagged_calls

if TYPE_CHECKING:
    from torch import Tensor

    from .generation import GenerationRequest
    from .model_loader import LoadedBase

__all__ = ["AnswerGrammar", "answer_grammar"]

# Free whitespace lets a small model write blanks until its tokens run out.
PLAIN_JSON: dict[str, Any] = {
    "whitespace_flexible": False,
    "item_separator": ", ",
    "key_separator": ": ",
}


@dataclass(slots=True)
class AnswerGrammar:
    """The state of one answer in its grammar."""

    matcher: Any
    device: torch.device

    @property
    def complete(self) -> bool:
        """True once nothing may follow but the end."""
        return bool(self.matcher.is_stopped())

    def allowed(self) -> Tensor:
        """Return a mask over the vocabulary: which tokens may come next."""
        mask = torch.frombuffer(bytearray(self.matcher.compute_logit_bias()), dtype=torch.uint8)
        return mask.to(self.device, torch.bool)

    def advance(self, token: int) -> None:
        """Take note of the token that was chosen."""
        self.matcher.consume_token(token)

    def copy(self) -> AnswerGrammar:
        """Return a state of its own for another answer."""
        return AnswerGrammar(self.matcher.deep_copy(), self.device)


def answer_grammar(base: LoadedBase, request: GenerationRequest) -> AnswerGrammar | None:
    """Return the grammar that a request's answers are held to, at its beginning; None for none.

    Raises:
        GenerationError: The schema asks for what cannot be expressed.
    """
    from llguidance import LLMatcher  # noqa: PLC0415 - only few requests need it

    if request.response_schema is not None:
        param = "response_format"
        schema = {**request.response_schema, "x-guidance": PLAIN_JSON}
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
    return AnswerGrammar(matcher, base.device)


def _call_grammar(base: LoadedBase, tools: list[dict[str, Any]]) -> str:
    """Return a grammar of one call of one of the tools, written as the base writes calls."""
    tagged = writes_tagged_calls(base.chat_template)
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
    schema = json.dumps({"anyOf": calls, "x-guidance": PLAIN_JSON})
    around = (json.dumps(f"{CALL_START}\n"), json.dumps(f"\n{CALL_END}")) if tagged else ("", "")
    return f"start: {around[0]} call {around[1]}\ncall: %json {schema}\n"


def _grammar_tokenizer(base: LoadedBase) -> Any:
    if base.grammar_tokenizer is None:
        import llguidance.hf  # noqa: PLC0415

        base.grammar_tokenizer = llguidance.hf.from_tokenizer(
            base.tokenizer, n_vocab=base.vocabulary, eos_token=sorted(base.end_tokens)
        )
    return base.grammar_tokenizer
