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

from .bulk import CompletionResource, MapResult
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
    """What `completions.create` takes besides model, prompt and stream; described there."""

    max_tokens: int | Omit | NotGiven | None
    temperature: float | Omit | NotGiven | None
    top_p: float | Omit | NotGiven | None
    n: int | Omit | NotGiven | None
    best_of: int | Omit | NotGiven | None
    stop: str | Sequence[str] | Omit | NotGiven | None
    logprobs: int | Omit | NotGiven | None
    echo: bool | Omit | NotGiven | None
    presence_penalty: float | Omit | NotGiven | None
    frequency_penalty: float | Omit | NotGiven | None
    logit_bias: Mapping[str, int] | Omit | NotGiven | None
    seed: int | Omit | NotGiven | None
    suffix: str | Omit | NotGiven | None
    stream_options: Mapping[str, Any] | Omit | NotGiven | None
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

        A fine-tuned model may still be loading just after its training; the server then answers
        with an error that is retried.

        Args:
            model: The model's name.
            prompt: A text, a list of texts, or the same as token ids. Prompts of a fine-tuned
                model end with the separator that its training prompts ended with.
            stream: True to receive the text in pieces as it is generated.
            max_tokens: Tokens to generate at most, 16 by default.
            temperature: Sampling temperature, 0 to 2; 1 by default, 0 for greedy decoding.
            top_p: Nucleus sampling: only the most likely tokens with this total probability.
            n: Completions for each prompt, 1 by default.
            best_of: Completions to generate for each prompt, of which the `n` with the highest
                log probability per token are returned.
            stop: Up to 4 texts at which generation stops; they are not part of the answer.
            logprobs: Return this many most likely tokens with log probabilities, 0 to 5.
            echo: Return the prompt before the completion.
            presence_penalty: Penalty for tokens that occur in the text, -2 to 2.
            frequency_penalty: Penalty for tokens by how often they occur in the text, -2 to 2.
            logit_bias: Numbers from -100 to 100 by token id, added to the logits.
            seed: Makes sampling repeatable.
            suffix: Text that follows the completion.
            stream_options: `{"include_usage": True}` adds a last chunk with the usage.
            user: An id of the end user.
            params: The request options.

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

        Requests are read as they are needed and results returned as they arrive, so memory does
        not grow with their number. When the server is overloaded, fewer requests are sent at a
        time and refused ones are repeated.

        Args:
            requests: Prompts, or mappings of parameters that override the common ones.
            concurrency: Requests at one time at most.
            ordered: Results in the order of the requests; False for the order of completion.
            journal: A file of finished answers, from which an interrupted run is continued.
            on_progress: Called with the number of results so far and of failures among them.
            model: The model's name.
            params: Parameters common to all requests.
        """
        return self._map(
            requests,
            params,
            concurrency=concurrency,
            ordered=ordered,
            journal=journal,
            on_progress=on_progress,
        )
