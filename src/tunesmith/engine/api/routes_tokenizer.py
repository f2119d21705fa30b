"""`/tokenize`, `/detokenize`, `/tokenizer_info`: a base model's tokens, as vLLM offers them.

Programs that score text need them to know where a continuation begins; with these they need
no copy of the tokenizer. The tokenizer runs beside the event loop, in this process, without torch.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import anyio.to_thread
from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from tunesmith.engine.serving.vocabulary import FileVocabulary, read_vocabulary

from .dependencies import CurrentKey, get_services
from .generation_requests import MAX_NAME_LENGTH
from .http_errors import invalid
from .keyed_route import KeyedRoute

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["router"]

router: APIRouter = APIRouter(tags=["tokenizer"], route_class=KeyedRoute)

_KEPT = 4  # tokenizers in memory

ModelName = Annotated[
    str | None,
    Field(max_length=MAX_NAME_LENGTH, description="Default: the engine's default base model."),
]


class TokenizeBody(BaseModel):
    """The body of a request for the tokens of a text."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        extra="forbid", strict=True, protected_namespaces=()
    )

    prompt: str
    model: ModelName = None
    add_special_tokens: bool = True
    return_token_strs: bool | None = None


class DetokenizeBody(BaseModel):
    """The body of a request for the text of tokens."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        extra="forbid", strict=True, protected_namespaces=()
    )

    tokens: list[Annotated[int, Field(ge=0)]]
    model: ModelName = None


@router.post("/tokenize", summary="Tokenize a text")
async def tokenize(request: Request, body: TokenizeBody, key: CurrentKey) -> JSONResponse:
    """Return the token ids of `prompt`, their number, and the model's context length."""

    def respond() -> dict[str, Any]:
        vocabulary = _vocabulary(request, body.model, key.organization)
        try:
            body.prompt.encode()
        except UnicodeEncodeError:
            raise invalid("prompt contains half of a surrogate pair.", param="prompt") from None
        tokens = vocabulary.tokenizer.encode(
            body.prompt, add_special_tokens=body.add_special_tokens
        )
        names = None
        if body.return_token_strs:
            names = [vocabulary.tokenizer.convert_ids_to_tokens(token) for token in tokens]
        return {
            "count": len(tokens),
            "max_model_len": vocabulary.context_length,
            "tokens": tokens,
            "token_strs": names,
        }

    return JSONResponse(await anyio.to_thread.run_sync(respond))


@router.post("/detokenize", summary="Return the text of tokens")
async def detokenize(request: Request, body: DetokenizeBody, key: CurrentKey) -> JSONResponse:
    """Return the text of `tokens`, special tokens included."""

    def respond() -> dict[str, Any]:
        vocabulary = _vocabulary(request, body.model, key.organization)
        highest = max(body.tokens, default=0)
        if highest >= vocabulary.vocab_size:
            raise invalid(
                f"{highest} is no token: the ids of this model go from 0 to "
                f"{vocabulary.vocab_size - 1}.",
                param="tokens",
            )
        text = vocabulary.tokenizer.decode(body.tokens, skip_special_tokens=False)
        return {"prompt": text}

    return JSONResponse(await anyio.to_thread.run_sync(respond))


@router.get("/tokenizer_info", summary="Describe a tokenizer")
async def tokenizer_info(
    request: Request,
    key: CurrentKey,
    model: Annotated[str | None, Query(max_length=MAX_NAME_LENGTH)] = None,
) -> JSONResponse:
    """Return the special tokens, the chat template and the context length of a base model."""

    def respond() -> dict[str, Any]:
        vocabulary = _vocabulary(request, model, key.organization)
        return {
            "tokenizer_class": "PreTrainedTokenizerFast",
            **vocabulary.special_tokens,
            "chat_template": vocabulary.chat_template or None,
            "model_max_length": vocabulary.context_length,
        }

    return JSONResponse(await anyio.to_thread.run_sync(respond))


def _vocabulary(request: Request, name: str | None, organization: str) -> FileVocabulary:
    """Return the vocabulary of a model, or of the default base model.

    Raises:
        UnknownModelError: There is no such model, or no default one.
        ModelNotInstalledError: The base model is not on this machine.
        GenerationError: Its tokenizer cannot be read.
    """
    models = get_services(request).models
    if name is None:
        return _read(models.catalog.default().path)
    return _read(models.resolve(name, organization).base_path)


@lru_cache(maxsize=_KEPT)
def _read(path: Path) -> FileVocabulary:
    return read_vocabulary(path)
