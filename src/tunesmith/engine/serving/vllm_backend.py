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
from collections import Counter, OrderedDict
from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import anyio.to_thread

from tunesmith.engine.domain.errors import ErrorKind
from tunesmith.engine.models.model_info import weights_bytes

from .adapter_probe import changes_answers, is_blank_adapter
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

READY_SECONDS = 10.0
MAX_ADAPTERS = 512  # that are loaded at a time


class VllmBackend:
    """Generates answers with a running vLLM server; see `ServingBackend`.

    Args:
        url: The server's URL.
        key: Its API key, if it needs one.
    """

    def __init__(self, url: str, key: Secret | None = None) -> None:
        self._client = VllmClient(url, key)
        self._vocabularies: dict[Path, FileVocabulary] = {}
        self._names: OrderedDict[Path, str] = OrderedDict()  # least recently used first
        self._in_use: Counter[Path] = Counter()
        self._load_lock = asyncio.Lock()

    @property
    def running(self) -> bool:
        """True once a model has been requested."""
        return bool(self._names)

    async def is_healthy(self) -> bool | None:
        """Return whether the server can answer; None if it does not say."""
        status = await self._client.health()
        return None if status is None else status < HTTPStatus.INTERNAL_SERVER_ERROR

    async def is_ready(self) -> bool:
        """Return whether the server answers and accepts the key."""
        if not await self.is_healthy():
            return False
        try:
            return bool(await asyncio.wait_for(self._client.models(), READY_SECONDS))
        except (GenerationError, TimeoutError, KeyError, TypeError):
            return False  # another program has the port

    async def release_gpu(self) -> None:
        """Do nothing: what a server that was started elsewhere computes on is not known."""

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
        await self._unload_adapter(folder)

    async def _unload_adapter(self, folder: Path) -> None:
        self._names.pop(folder, None)
        try:
            for card in await self._client.models():
                if card.get("parent") and card.get("root") == str(folder):
                    await self._client.unload_lora_adapter(card["id"])
        except GenerationError as error:
            logger.warning("a model may still be loaded in vLLM: %s", error)

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
        folder = model.adapter_path or model.base_path
        self._in_use[folder] += 1
        try:
            async with contextlib.aclosing(self._complete(name, group)) as deltas:
                async for delta in deltas:
                    yield delta
        finally:
            self._in_use[folder] -= 1

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
            code="serving_interrupted",
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
                await self._evict(keep=folder)
            self._names.move_to_end(folder)
        return name

    async def _evict(self, *, keep: Path) -> None:
        """Unload the adapters that were used longest ago, if there are too many."""
        for folder in list(self._names):
            if len(self._names) <= MAX_ADAPTERS:
                return
            if folder != keep and not self._in_use[folder]:
                await self._unload_adapter(folder)

    async def _load(self, model: ServableModel) -> str:
        cards = await self._client.models()
        name = self._base_name(model, cards)
        folder = model.adapter_path
        if folder is None or not (folder / "adapter_config.json").is_file():
            return name
        await self._vocabulary(model)
        if not any(card["id"] == model.name and card.get("root") == str(folder) for card in cards):
            await self._client.load_lora_adapter(model.name, str(folder))
            await self._probe(model.name, name, folder, model.base_path)
            logger.info("vLLM loaded the adapter %s", model.name)
        return model.name

    async def _probe(self, adapter: str, base: str, folder: Path, base_path: Path) -> None:
        """Refuse an adapter that vLLM has loaded without any effect, rather than serve the base."""
        if await anyio.to_thread.run_sync(is_blank_adapter, folder):
            logger.warning("the weights of %s change nothing or next to nothing", adapter)
            return
        vocabulary = self._vocabularies[base_path]
        if await changes_answers(self._client, base, adapter, vocabulary.vocab_size):
            return
        await self._client.unload_lora_adapter(adapter)
        raise GenerationError(
            f"vLLM has loaded the adapter of {adapter} without any effect: its answers are those "
            "of the base model. That happens with architectures whose modules vLLM names in "
            'another way. Serve this model with `backend = "embedded"` under [serving], or '
            "export it merged and serve that.",
            kind=ErrorKind.UPSTREAM,
            code="adapter_without_effect",
        )

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
