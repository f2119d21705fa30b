"""Generates answers with a vLLM server, which samples tokens; everything else happens here.

Prompts, text, stop sequences, offsets, `best_of` and usage come from the same code as for the local
backend, so clients see no difference. Adapters are loaded over vLLM's own API at the first
request for their model, and again if vLLM was restarted. vLLM must see the engine's folders
under the same paths.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import anyio.to_thread

from tunesmith.engine.domain.errors import ErrorKind
from tunesmith.engine.models.model_info import weights_bytes

from .generation_errors import GenerationError, ModelNotServedError
from .input_processor import tokenize_prompts
from .output_processor import process_output
from .sequence import SequenceGroup
from .vllm_client import VllmClient
from .vllm_protocol import append_chunk, completion_body
from .vocabulary import read_vocabulary

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from tunesmith.core.redact import Secret
    from tunesmith.engine.models.model_info import ServableModel

    from .generation import GenerationDelta, GenerationRequest
    from .vocabulary import FileVocabulary

__all__ = ["VllmBackend"]

logger: logging.Logger = logging.getLogger("tunesmith.serving")


class VllmBackend:
    """Generates answers with a running vLLM server; see `ServingBackend`.

    Args:
        url: The server's URL.
        key: Its API key, if it needs one.
    """

    def __init__(self, url: str, key: Secret | None = None) -> None:
        self._client = VllmClient(url, key)
        self._vocabularies: dict[Path, FileVocabulary] = {}
        self._names: dict[Path, str] = {}
        self._load_lock = asyncio.Lock()

    @property
    def running(self) -> bool:
        """True once a model has been requested."""
        return bool(self._names)

    async def stop(self) -> None:
        """Close the connections; the vLLM server keeps running."""
        await self._client.close()

    async def loaded(self) -> dict[Path, int]:
        """Return the folders of this engine's models in vLLM and the bytes of their weights."""
        served = {card["id"] for card in await self._client.models()}
        folders = [folder for folder, name in self._names.items() if name in served]
        return {folder: weights_bytes(folder) for folder in folders}

    async def load(self, model: ServableModel) -> None:
        """Load a model's adapter into vLLM."""
        await self._vocabulary(model)
        await self._served_name(model)

    async def unload(self, folder: Path) -> None:
        """Unload the adapter of a model that is being deleted."""
        self._names.pop(folder, None)
        try:
            for card in await self._client.models():
                if card.get("parent") and card.get("root") == str(folder):
                    await self._client.unload_lora_adapter(card["id"])
        except GenerationError as error:
            logger.warning("a deleted model may still be loaded in vLLM: %s", error)

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
        if request.chat is not None and request.chat.tools and request.response_schema is not None:
            raise GenerationError(
                "response_format cannot be combined with tools while vLLM answers for this "
                "engine: set tool_choice to 'none', or leave one of them out.",
                param="response_format",
                code="unsupported_parameter",
            )
        for reload in (False, True):
            try:
                deltas = self._deltas(model, request, reload=reload)
                async with contextlib.aclosing(deltas):
                    async for delta in deltas:
                        yield delta
            except ModelNotServedError:  # vLLM was restarted; it fails before its first delta
                if reload:
                    raise
            else:
                return

    async def _deltas(
        self, model: ServableModel, request: GenerationRequest, *, reload: bool
    ) -> AsyncGenerator[GenerationDelta, None]:
        vocabulary = await self._vocabulary(model)
        name = await self._served_name(model, reload=reload)
        if request.chat is not None and request.response_schema is not None:
            # vLLM holds the answer to the schema from its first token on: nothing is thought.
            options = {"enable_thinking": False, "thinking": False, **request.chat.template_options}
            chat = request.chat.model_copy(update={"template_options": options})
            request = request.model_copy(update={"chat": chat})
        prompts = await anyio.to_thread.run_sync(tokenize_prompts, vocabulary, request)
        group = SequenceGroup(0, request, vocabulary, prompts)
        if group.sequences[0].max_tokens == 0 and not group.sequences[0].needs_prompt_logprobs:
            for sequence in group.sequences:  # no tokens are requested
                sequence.finish_reason = "length"
                for delta in process_output(sequence):
                    yield delta
            return
        async with contextlib.aclosing(self._complete(name, group)) as deltas:
            async for delta in deltas:
                yield delta

    async def _complete(
        self, name: str, group: SequenceGroup
    ) -> AsyncGenerator[GenerationDelta, None]:
        unfinished = set(group.sequences)
        chunks = self._client.complete(completion_body(name, group))
        async with contextlib.aclosing(chunks):
            async for chunk in chunks:
                for choice in chunk["choices"]:
                    sequence = group.sequences[choice["index"]]
                    if sequence not in unfinished:
                        continue
                    append_chunk(sequence, choice)
                    if sequence.finish_reason is not None:
                        unfinished.remove(sequence)
                    for delta in process_output(sequence):
                        yield delta
                if not unfinished:
                    return
        raise GenerationError(
            f"The vLLM server at {self._client.url} ended an answer early.",
            kind=ErrorKind.UPSTREAM,
            code="serving_failed",
        )

    async def _vocabulary(self, model: ServableModel) -> FileVocabulary:
        vocabulary = self._vocabularies.get(model.base_path)
        if vocabulary is None:
            vocabulary = await anyio.to_thread.run_sync(read_vocabulary, model.base_path)
            length = min(vocabulary.context_length, await self._context_length(model))
            vocabulary = replace(vocabulary, context_length=length)
            self._vocabularies[model.base_path] = vocabulary
        return vocabulary

    async def _context_length(self, model: ServableModel) -> int:
        cards = await self._client.models()
        name = self._base_name(model, cards)
        return next(int(card["max_model_len"]) for card in cards if card["id"] == name)

    async def _served_name(self, model: ServableModel, *, reload: bool = False) -> str:
        """Return vLLM's name for a model; load its adapter if that has not been done."""
        folder = model.adapter_path or model.base_path
        async with self._load_lock:
            name = None if reload else self._names.get(folder)
            if name is None:
                name = self._names[folder] = await self._load(model)
        return name

    async def _load(self, model: ServableModel) -> str:
        cards = await self._client.models()
        name = self._base_name(model, cards)
        folder = model.adapter_path
        if folder is None or not (folder / "adapter_config.json").is_file():
            return name
        if not any(card["id"] == model.name and card.get("root") == str(folder) for card in cards):
            await self._client.load_lora_adapter(model.name, str(folder))
            logger.info("vLLM loaded the adapter %s", model.name)
        return model.name

    def _base_name(self, model: ServableModel, cards: list[dict[str, Any]]) -> str:
        """Return vLLM's name for the base of a model's adapter, or for the model's own weights."""
        folder, own_name = model.base_path, model.base_model
        if model.adapter_path and not (model.adapter_path / "adapter_config.json").is_file():
            folder, own_name = model.adapter_path, model.name
        bases = [card for card in cards if not card.get("parent")]
        for card in bases:
            if card["id"] in {own_name, str(folder)} or card.get("root") == str(folder):
                return str(card["id"])
        raise GenerationError(
            f"The vLLM server at {self._client.url} serves "
            f"{', '.join(card['id'] for card in bases)}, not {own_name}. Start it with: "
            f"vllm serve {folder} --served-model-name {own_name} --enable-lora",
            kind=ErrorKind.UNAVAILABLE,
            code="model_not_served",
        )
