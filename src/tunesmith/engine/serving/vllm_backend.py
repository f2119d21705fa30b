"""Serving handed to a vLLM server: it generates tokens, everything else stays ours.

Prompts go out as token ids and token ids come back, with log probabilities where they are
needed; text, stop sequences, offsets, `best_of` and usage are made here by the same code as
for our own process, so a client cannot tell which of the two has answered. Adapters are
loaded over vLLM's own API when their model is first asked for, and again if vLLM was
restarted. vLLM must see the engine's folders under the same paths.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import anyio.to_thread

from .generation_errors import GenerationError, ModelNotServedError
from .input_processor import check_template, text_tokens
from .sampling_state import LOWEST_LOGPROB, TokenScore
from .sequence import Answers
from .vllm_client import VllmClient
from .vocabulary import read_remote_base

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Iterator
    from pathlib import Path

    from tunesmith.core.redact import Secret
    from tunesmith.engine.models.servable_model import ServableModel

    from .generation import ChatPrompt, GenerationDelta, GenerationRequest
    from .sequence import Row
    from .vocabulary import RemoteBase

__all__ = ["VllmBackend"]

logger: logging.Logger = logging.getLogger("tunesmith.serving")

LEAST_TOP_P = 1e-6  # vLLM takes no 0, which means the likeliest token
TOKEN_NAME = "token_id:"  # noqa: S105 - how vLLM writes a token's id where a name is due


class VllmBackend:
    """Answers through a vLLM server that runs already.

    Args:
        url: Its address.
        key: Its API key, if it wants one.
    """

    def __init__(self, url: str, key: Secret | None = None) -> None:
        self._server = VllmClient(url, key)
        self._bases: dict[Path, RemoteBase] = {}
        self._names: dict[Path, str] = {}
        self._loading = asyncio.Lock()

    @property
    def running(self) -> bool:
        """True once a model has been asked for."""
        return bool(self._names)

    async def stop(self) -> None:
        """Close the connections; the vLLM server goes on."""
        await self._server.close()

    async def loaded(self) -> dict[Path, int]:
        """Return the folders that vLLM serves for this engine and the bytes of their weights."""
        served = {card["id"] for card in await self._server.models()}
        folders = [folder for folder, name in self._names.items() if name in served]
        return {folder: _weights_bytes(folder) for folder in folders}

    async def load(self, model: ServableModel) -> None:
        """Have a model's adapter loaded."""
        await self._base(model)
        await self._served_name(model)

    async def unload(self, folder: Path) -> None:
        """Have the adapter of a model that is being deleted let go."""
        self._names.pop(folder, None)
        try:
            for card in await self._server.models():
                if card.get("parent") and card.get("root") == str(folder):
                    await self._server.unload(card["id"])
        except GenerationError as error:
            logger.warning("vLLM may still hold a deleted model: %s", error)

    async def generate(
        self, model: ServableModel, request: GenerationRequest
    ) -> AsyncGenerator[GenerationDelta, None]:
        """Yield the pieces of the answer as they come; the last one carries the usage."""
        if request.chat is not None and request.chat.forced_calls:
            raise GenerationError(
                "tool_choice cannot force a call while vLLM answers for this engine. Set it to "
                "'auto', or leave it out.",
                param="tool_choice",
                code="unsupported_parameter",
            )
        for again in (False, True):
            try:
                async with contextlib.aclosing(self._answer(model, request, again=again)) as deltas:
                    async for delta in deltas:
                        yield delta
            except ModelNotServedError:  # vLLM was restarted since; it says so before it answers
                if again:
                    raise
            else:
                return

    async def _answer(
        self, model: ServableModel, request: GenerationRequest, *, again: bool
    ) -> AsyncGenerator[GenerationDelta, None]:
        base = await self._base(model)
        name = await self._served_name(model, again=again)
        answers = Answers(0, request, base, await self._prompts(base, name, request))
        if answers.rows[0].limit == 0 and not answers.rows[0].wants_prompt_scores:
            for delta in _unwritten(answers):
                yield delta
            return
        async with contextlib.aclosing(self._deltas(answers, _fields(name, answers))) as deltas:
            async for delta in deltas:
                yield delta

    async def _deltas(
        self, answers: Answers, fields: dict[str, Any]
    ) -> AsyncGenerator[GenerationDelta, None]:
        open_rows = set(answers.rows)
        async with contextlib.aclosing(self._server.complete(fields)) as chunks:
            async for chunk in chunks:
                for choice in chunk["choices"]:
                    row = answers.rows[choice["index"]]
                    if row not in open_rows:
                        continue
                    _take(row, choice)
                    if row.finish_reason is not None:
                        open_rows.remove(row)
                    for delta in answers.progress(row):
                        yield delta
                if not open_rows:
                    return
        raise GenerationError(
            f"The vLLM server at {self._server.url} ended an answer early.",
            status=502,
            code="serving_failed",
        )

    async def _base(self, model: ServableModel) -> RemoteBase:
        known = self._bases.get(model.base_path)
        if known is None:
            known = await anyio.to_thread.run_sync(read_remote_base, model.base_path)
            context = await self._context(model)
            known = self._bases[model.base_path] = replace(
                known, context=min(known.context, context)
            )
        return known

    async def _context(self, model: ServableModel) -> int:
        cards = await self._server.models()
        name = self._base_name(model, cards)
        return next(int(card["max_model_len"]) for card in cards if card["id"] == name)

    async def _prompts(
        self, base: RemoteBase, name: str, request: GenerationRequest
    ) -> list[list[int]]:
        if request.chat is None:
            return text_tokens(base, request.prompts)
        check_template(base, request.chat)
        return [await self._server.tokenize(_conversation(name, request.chat))]

    async def _served_name(self, model: ServableModel, *, again: bool = False) -> str:
        """Return the name that vLLM has for a model, having its adapter loaded if need be."""
        folder = model.adapter_path or model.base_path
        async with self._loading:
            name = None if again else self._names.get(folder)
            if name is None:
                name = self._names[folder] = await self._load(model)
        return name

    async def _load(self, model: ServableModel) -> str:
        cards = await self._server.models()
        name = self._base_name(model, cards)
        folder = model.adapter_path
        if folder is None or not (folder / "adapter_config.json").is_file():
            return name
        if not any(card["id"] == model.name and card.get("root") == str(folder) for card in cards):
            await self._server.load(model.name, str(folder))
            logger.info("vLLM loaded the adapter %s", model.name)
        return model.name

    def _base_name(self, model: ServableModel, cards: list[dict[str, Any]]) -> str:
        """Return vLLM's name for the weights that a model's adapter lies on, or for its own."""
        folder, own_name = model.base_path, model.base_model
        if model.adapter_path and not (model.adapter_path / "adapter_config.json").is_file():
            folder, own_name = model.adapter_path, model.name
        bases = [card for card in cards if not card.get("parent")]
        for card in bases:
            if card["id"] in {own_name, str(folder)} or card.get("root") == str(folder):
                return str(card["id"])
        raise GenerationError(
            f"The vLLM server at {self._server.url} serves "
            f"{', '.join(card['id'] for card in bases)}, not {own_name}. Start it with: "
            f"vllm serve {folder} --served-model-name {own_name} --enable-lora",
            status=503,
            code="model_not_served",
        )


def _fields(name: str, answers: Answers) -> dict[str, Any]:
    """Return the body of the request to vLLM: its defaults from the model's files overridden."""
    request, row = answers.request, answers.rows[0]
    fields: dict[str, Any] = {
        "model": name,
        "prompt": answers.prompts,
        "max_tokens": row.limit,
        "n": max(request.n, request.best_of),
        "temperature": request.temperature,
        "top_p": max(request.top_p, LEAST_TOP_P),
        "top_k": 0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "presence_penalty": request.presence_penalty,
        "frequency_penalty": request.frequency_penalty,
        "logit_bias": {str(token): bias for token, bias in request.logit_bias.items()} or None,
        "stop": request.stop,
        "stop_token_ids": sorted(answers.base.end_tokens),
        "seed": request.seed,
        "echo": row.wants_prompt_scores,
        "return_token_ids": True,
        "return_tokens_as_token_ids": True,
    }
    if row.wants_scores:
        fields["logprobs"] = request.logprobs or 0
    if request.response_schema is not None:
        described = {"name": "answer", "schema": request.response_schema}
        fields["response_format"] = {"type": "json_schema", "json_schema": described}
    return fields


def _conversation(name: str, chat: ChatPrompt) -> dict[str, Any]:
    """Return what `/tokenize` takes: the arguments of calls as JSON text, as on the wire."""
    messages = [dict(message) for message in chat.messages]
    for message in messages:
        if "tool_calls" in message:
            message["tool_calls"] = [
                call | {"function": call["function"] | {"arguments": json.dumps(arguments)}}
                for call in message["tool_calls"]
                if (arguments := call["function"]["arguments"]) is not None
            ]
    return {
        "model": name,
        "messages": messages,
        "tools": chat.tools,
        "add_generation_prompt": True,
        "add_special_tokens": False,
    }


def _take(row: Row, choice: dict[str, Any]) -> None:
    """Add what a chunk says of a row to it."""
    tokens: list[int] = choice.get("token_ids") or []
    scores = list(_scores(choice.get("logprobs"), row.answers.request.logprobs or 0))
    if row.wants_prompt_scores:  # the first chunk, with echo: the prompt's tokens come before
        end = len(row.prompt)
        row.prompt_scores = [score for score in scores[1:end] if score is not None]
        scores = scores[end:]
    if row.limit == 0:  # only its prompt was to be scored
        row.finish_reason = "length"
        return
    for place, token in enumerate(tokens):
        if row.finish_reason is None:
            row.accept(token, scores[place] if scores else None)
    ended = choice.get("finish_reason")
    if ended is not None and row.finish_reason is None:
        row.finish_reason = "length" if ended == "length" else "stop"


def _scores(logprobs: dict[str, Any] | None, rivals: int) -> Iterator[TokenScore | None]:
    """Yield the score of each token that a chunk tells of; None for a prompt's first."""
    if logprobs is None:
        return
    rows: Iterable[tuple[str, float | None, dict[str, float] | None]] = zip(
        logprobs["tokens"], logprobs["token_logprobs"], logprobs["top_logprobs"], strict=True
    )
    for token, logprob, top in rows:
        if logprob is None:
            yield None
            continue
        likeliest = sorted((top or {}).items(), key=lambda item: item[1], reverse=True)[:rivals]
        yield TokenScore(
            _token_id(token),
            max(logprob, LOWEST_LOGPROB),
            tuple((_token_id(name), max(value, LOWEST_LOGPROB)) for name, value in likeliest),
        )


def _token_id(name: str) -> int:
    return int(name.removeprefix(TOKEN_NAME))


def _unwritten(answers: Answers) -> Iterator[GenerationDelta]:
    """Yield the answers to a request for no tokens."""
    for row in answers.rows:
        row.finish_reason = "length"
        yield from answers.progress(row)


def _weights_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))
