"""Completions: text that continues a prompt."""

from __future__ import annotations

from collections.abc import Coroutine, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Unpack, overload

from tunesmith.core.flow import Flow
from tunesmith.core.options import NotGiven, Omit, RequestOptions
from tunesmith.types.completions import Completion

from . import views
from .base import APIResource
from .declare import ClientT_co, expanded

if TYPE_CHECKING:
    from tunesmith.client import AsyncClient, Client
    from tunesmith.transport.responses import (
        APIResponse,
        AsyncStreamedResponse,
        StreamedResponse,
    )
    from tunesmith.transport.streams import AsyncStream, Stream

__all__ = ["CompletionOptions", "Completions", "Prompt"]

Prompt = str | Sequence[str] | Iterable[int] | Iterable[Iterable[int]] | None


class CompletionOptions(RequestOptions, total=False):
    """What `completions.create` takes besides model, prompt and stream."""

    best_of: int | Omit | NotGiven | None
    echo: bool | Omit | NotGiven | None
    frequency_penalty: float | Omit | NotGiven | None
    logit_bias: Mapping[str, int] | Omit | NotGiven | None
    logprobs: int | Omit | NotGiven | None
    max_tokens: int | Omit | NotGiven | None
    n: int | Omit | NotGiven | None
    presence_penalty: float | Omit | NotGiven | None
    seed: int | Omit | NotGiven | None
    stop: str | Sequence[str] | Omit | NotGiven | None
    stream_options: Mapping[str, Any] | Omit | NotGiven | None
    suffix: str | Omit | NotGiven | None
    temperature: float | Omit | NotGiven | None
    top_p: float | Omit | NotGiven | None
    user: str | Omit | NotGiven


class Completions(APIResource[ClientT_co]):
    """`/completions`: complete prompts with a model."""

    with_raw_response = views.RawView[
        "Completions[views.RawClient]", "Completions[views.AsyncRawClient]"
    ]()
    with_streaming_response = views.StreamingView[
        "Completions[views.StreamingClient]", "Completions[views.AsyncStreamingClient]"
    ]()

    @overload
    def create(
        self: Completions[Client],
        *,
        model: str,
        prompt: Prompt,
        stream: Literal[False] | Omit | NotGiven | None = None,
        **params: Unpack[CompletionOptions],
    ) -> Completion: ...
    @overload
    def create(
        self: Completions[Client],
        *,
        model: str,
        prompt: Prompt,
        stream: Literal[True],
        **params: Unpack[CompletionOptions],
    ) -> Stream[Completion]: ...
    @overload
    def create(
        self: Completions[Client],
        *,
        model: str,
        prompt: Prompt,
        stream: bool,
        **params: Unpack[CompletionOptions],
    ) -> Completion | Stream[Completion]: ...
    @overload
    def create(
        self: Completions[AsyncClient],
        *,
        model: str,
        prompt: Prompt,
        stream: Literal[False] | Omit | NotGiven | None = None,
        **params: Unpack[CompletionOptions],
    ) -> Coroutine[Any, Any, Completion]: ...
    @overload
    def create(
        self: Completions[AsyncClient],
        *,
        model: str,
        prompt: Prompt,
        stream: Literal[True],
        **params: Unpack[CompletionOptions],
    ) -> Coroutine[Any, Any, AsyncStream[Completion]]: ...
    @overload
    def create(
        self: Completions[AsyncClient],
        *,
        model: str,
        prompt: Prompt,
        stream: bool,
        **params: Unpack[CompletionOptions],
    ) -> Coroutine[Any, Any, Completion | AsyncStream[Completion]]: ...
    @overload
    def create(
        self: Completions[views.RawClient],
        *,
        model: str,
        prompt: Prompt,
        stream: bool | Omit | NotGiven | None = None,
        **params: Unpack[CompletionOptions],
    ) -> APIResponse[Any]: ...
    @overload
    def create(
        self: Completions[views.AsyncRawClient],
        *,
        model: str,
        prompt: Prompt,
        stream: bool | Omit | NotGiven | None = None,
        **params: Unpack[CompletionOptions],
    ) -> Coroutine[Any, Any, APIResponse[Any]]: ...
    @overload
    def create(
        self: Completions[views.StreamingClient],
        *,
        model: str,
        prompt: Prompt,
        stream: bool | Omit | NotGiven | None = None,
        **params: Unpack[CompletionOptions],
    ) -> StreamedResponse[Any]: ...
    @overload
    def create(
        self: Completions[views.AsyncStreamingClient],
        *,
        model: str,
        prompt: Prompt,
        stream: bool | Omit | NotGiven | None = None,
        **params: Unpack[CompletionOptions],
    ) -> AsyncStreamedResponse[Any]: ...
    @expanded
    def create(
        self,
        *,
        model: str,
        prompt: Prompt,
        stream: bool | Omit | NotGiven | None = None,
        **params: Unpack[CompletionOptions],
    ) -> Any:
        """Complete a prompt, or several.

        A fine-tuned model that has only just finished may still be loading; the server then
        answers with an error that is retried.

        Args:
            model: The model's name.
            prompt: A text, a list of texts, or the same as token ids. Prompts of a fine-tuned
                model end with the separator that its training prompts ended with.
            stream: True to receive the text in pieces as it is written.
            params: `max_tokens` (16), `temperature` (1), `top_p` (1), `n` (1), `best_of` (1),
                `stop` (up to 4), `logprobs` (0 to 5), `echo`, `presence_penalty`,
                `frequency_penalty`, `logit_bias`, `seed`, `suffix`, `stream_options`, `user`, and
                the request options.

        Returns:
            A Completion, or a stream of them with `stream=True`. Awaited on an AsyncClient.
        """
        fields = {"model": model, "prompt": prompt, **params}
        return self._client._run(self._create(fields, stream=stream))

    def _create(self, fields: Mapping[str, Any], *, stream: Any) -> Flow[Any]:
        if stream:
            return self._open("POST", "/completions", Completion, {**fields, "stream": True})
        if stream is False:
            fields = {**fields, "stream": False}
        return self._ask("POST", "/completions", Completion, fields)
