"""Completions: text that continues a prompt."""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Unpack, overload

from tunesmith.core.flow import Emitting
from tunesmith.core.modes import (
    Async,
    AsyncRaw,
    AsyncStreaming,
    ModeT_co,
    Sync,
    SyncRaw,
    SyncStreaming,
)
from tunesmith.core.options import NotGiven, Omit, RequestOptions
from tunesmith.types.completions import Completion

from .bulk import MapResult
from .completing import CompletionResource
from .operations import iteration, overloaded
from .views import RawView, StreamingView

if TYPE_CHECKING:
    from tunesmith.transport.responses import (
        APIResponse,
        AsyncStreamedResponse,
        StreamedResponse,
    )
    from tunesmith.transport.streams import AsyncStream, Stream
    from tunesmith.types.base import WireModel

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


class CompletionMapOptions(CompletionOptions, total=False):
    """What `map` takes for all of its requests."""

    model: str


class Completions(CompletionResource[ModeT_co]):
    """`/completions`: complete prompts with a model."""

    _path: ClassVar[str] = "/completions"
    _input: ClassVar[str] = "prompt"
    _answer: ClassVar[type[WireModel]] = Completion
    _piece: ClassVar[type[WireModel]] = Completion

    with_raw_response: RawView[Completions[SyncRaw], Completions[AsyncRaw]] = RawView()
    with_streaming_response: StreamingView[
        Completions[SyncStreaming], Completions[AsyncStreaming]
    ] = StreamingView()

    @overload
    def create(
        self: Completions[Sync],
        *,
        model: str,
        prompt: Prompt,
        stream: Literal[False] | Omit | NotGiven | None = None,
        **params: Unpack[CompletionOptions],
    ) -> Completion: ...
    @overload
    def create(
        self: Completions[Sync],
        *,
        model: str,
        prompt: Prompt,
        stream: Literal[True],
        **params: Unpack[CompletionOptions],
    ) -> Stream[Completion]: ...
    @overload
    def create(
        self: Completions[Sync],
        *,
        model: str,
        prompt: Prompt,
        stream: bool,
        **params: Unpack[CompletionOptions],
    ) -> Completion | Stream[Completion]: ...
    @overload
    def create(
        self: Completions[Async],
        *,
        model: str,
        prompt: Prompt,
        stream: Literal[False] | Omit | NotGiven | None = None,
        **params: Unpack[CompletionOptions],
    ) -> Coroutine[Any, Any, Completion]: ...
    @overload
    def create(
        self: Completions[Async],
        *,
        model: str,
        prompt: Prompt,
        stream: Literal[True],
        **params: Unpack[CompletionOptions],
    ) -> Coroutine[Any, Any, AsyncStream[Completion]]: ...
    @overload
    def create(
        self: Completions[Async],
        *,
        model: str,
        prompt: Prompt,
        stream: bool,
        **params: Unpack[CompletionOptions],
    ) -> Coroutine[Any, Any, Completion | AsyncStream[Completion]]: ...
    @overload
    def create(
        self: Completions[SyncRaw],
        *,
        model: str,
        prompt: Prompt,
        stream: bool | Omit | NotGiven | None = None,
        **params: Unpack[CompletionOptions],
    ) -> APIResponse[Any]: ...
    @overload
    def create(
        self: Completions[AsyncRaw],
        *,
        model: str,
        prompt: Prompt,
        stream: bool | Omit | NotGiven | None = None,
        **params: Unpack[CompletionOptions],
    ) -> Coroutine[Any, Any, APIResponse[Any]]: ...
    @overload
    def create(
        self: Completions[SyncStreaming],
        *,
        model: str,
        prompt: Prompt,
        stream: bool | Omit | NotGiven | None = None,
        **params: Unpack[CompletionOptions],
    ) -> StreamedResponse[Any]: ...
    @overload
    def create(
        self: Completions[AsyncStreaming],
        *,
        model: str,
        prompt: Prompt,
        stream: bool | Omit | NotGiven | None = None,
        **params: Unpack[CompletionOptions],
    ) -> AsyncStreamedResponse[Any]: ...
    @overloaded
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
        return self._create(fields, stream=stream)

    @iteration
    def map(
        self,
        requests: Iterable[str | Mapping[str, Any]],
        *,
        concurrency: int = 16,
        ordered: bool = True,
        journal: str | os.PathLike[str] | None = None,
        on_progress: Callable[[int, int], object] | None = None,
        **params: Unpack[CompletionMapOptions],
    ) -> Emitting[MapResult[Completion]]:
        """Carry out many requests at once and yield a result for each.

        Requests are taken as they are needed and results handed out as they come, so the number
        of requests does not matter to memory. A server that is too busy is asked with fewer
        requests at a time, and again later.

        Args:
            requests: A prompt, or a mapping of parameters that outweigh the common ones.
            concurrency: Requests at one time at most.
            ordered: Results in the order of the requests; False gives them as they come.
            journal: A file of finished answers. A run that was broken off goes on from there.
            on_progress: Called with the results so far and the failures among them.
            params: Parameters common to all requests, `model` among them.
        """
        return self._map(
            requests,
            params,
            concurrency=concurrency,
            ordered=ordered,
            journal=journal,
            on_progress=on_progress,
        )
