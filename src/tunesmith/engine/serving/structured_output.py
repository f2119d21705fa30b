"""Structured output: answers that follow a JSON schema or call a tool, by a grammar.

llguidance keeps the grammar's state and says which tokens are allowed next; the sampler
masks the others. Reported log probabilities stay those of the model itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from tunesmith.engine.domain.answer_syntax import CALL_SYNTAXES, HARMONY

from .answer_setup import closes_thinking, opens_thinking, syntax_of
from .call_grammar import GrammarWriter, UnsupportedSchemaError, harmony_rules, json_rule
from .generation_errors import GenerationError

if TYPE_CHECKING:
    from torch import Tensor

    from .generation import GenerationRequest
    from .loaded_base import LoadedBase

__all__ = ["Grammar", "compile_grammar"]

# The work that a grammar may cost before the answer, and at each token: without limits a pattern
# such as ^(x{1000}){1000}$ takes seconds.
_COMPILE_FUEL = 1_000_000
_STEP_FUEL = 100_000


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


def compile_grammar(
    base: LoadedBase, request: GenerationRequest, prompt: list[int]
) -> Grammar | None:
    """Return the grammar that a request's answers must follow, at its start; None for none.

    A model that thinks may do so freely before what the grammar demands.

    Args:
        base: The model.
        request: The request.
        prompt: Its prompt, which may have opened the thoughts already, or closed them.

    Raises:
        GenerationError: The schema uses something that cannot be expressed.
    """
    from llguidance import LLMatcher, LLParserLimits  # noqa: PLC0415 - only few requests need it

    param = "tools" if request.response_schema is None else "response_format"
    rules = _rules(base, request, prompt)
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


def _rules(base: LoadedBase, request: GenerationRequest, prompt: list[int]) -> str | None:
    """Return the rules of a request's answers: JSON that follows a schema, calls, or either."""
    schema, chat = request.response_schema, request.chat
    writer = GrammarWriter(base.tokenizer.added_tokens_decoder)
    if chat is None:
        return None if schema is None else f"start: answer\nanswer: {json_rule(schema)}\n"
    if schema is None and not chat.forced_calls:
        return None
    syntax = syntax_of(base, chat)
    functions = chat.forced_calls or [tool["function"] for tool in chat.tools or ()]
    several = chat.parallel_calls and len(chat.forced_calls) != 1
    try:
        if syntax.calls == HARMONY:
            start = harmony_rules(writer, schema, functions, forced=bool(chat.forced_calls))
        else:
            starts = list[str]()
            if schema is not None and not chat.forced_calls:
                starts.append(writer.answer(schema, syntax.thinking))
            if functions:
                starts.append(writer.calls(CALL_SYNTAXES[syntax.calls], functions, several=several))
            start = " | ".join(starts)
            if syntax.thinking is not None and not closes_thinking(base, syntax, prompt):
                begun = opens_thinking(base, syntax, prompt)
                start = writer.thoughts(syntax.thinking, begun=begun) + f" ({start})"
    except UnsupportedSchemaError as error:
        raise GenerationError(
            f"A call of {error.function} cannot be forced in the form that this model writes calls "
            f"in: its parameters use {error.keyword}.",
            param="tools",
            code="invalid_schema",
        ) from None
    return writer.grammar(start)


def _grammar_tokenizer(base: LoadedBase) -> Any:
    if base.grammar_tokenizer is None:
        import llguidance.hf  # noqa: PLC0415

        base.grammar_tokenizer = llguidance.hf.from_tokenizer(
            base.tokenizer, n_vocab=base.vocab_size, eos_token=sorted(base.eos_token_ids)
        )
    return base.grammar_tokenizer
