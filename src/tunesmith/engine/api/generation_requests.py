"""Bodies of `/v1/completions` and `/v1/chat/completions`: which fields are accepted.

Every field of the public contract is declared. A field that would change the answer and is
not supported is refused by name, never ignored; one that cannot change the answer (`user`,
cache hints, `metadata` of what is not stored) is accepted and has no effect. A
field set to null counts as absent.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from tunesmith.engine.serving.generation import GenerationRequest

from .http_errors import ApiError, invalid

__all__ = ["CompletionBody", "GenerationBody", "StreamOptions", "refuse"]

MAX_STOPS = 64  # the hosted service takes 4; programs that evaluate models send more
MAX_CHOICES = 2048
MAX_NAME_LENGTH = 255


def _prompt(value: Any) -> Any:
    """Accept the four forms of a prompt and no other."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list) and value:
        if all(isinstance(part, str) for part in value) or _are_tokens(value):
            return value
        if all(isinstance(part, list) and part and _are_tokens(part) for part in value):
            return value
    raise PydanticCustomError(
        "prompt",
        "a prompt is a text, a list of texts, a list of token ids, or a list of such lists",
    )


def _are_tokens(value: list[Any]) -> bool:
    return all(isinstance(part, int) and not isinstance(part, bool) and part >= 0 for part in value)


def _stop(value: Any) -> Any:
    """Accept one string or a list of them."""
    stops = [value] if isinstance(value, str) else value
    if stops is None:
        return None
    if (
        not isinstance(stops, list)
        or len(stops) > MAX_STOPS
        or not all(isinstance(stop, str) and stop for stop in stops)
    ):
        raise PydanticCustomError(
            "stop",
            "stop is a text, or a list of up to {most} texts, none empty",
            {"most": MAX_STOPS},
        )
    return stops


def _bias(value: Any) -> Any:
    """Accept token ids, as keys of a JSON object, with numbers from -100 to 100."""
    if value is None:
        return None
    if not isinstance(value, dict):
        raise PydanticCustomError("logit_bias", "logit_bias is an object of token ids and numbers")
    return {_bias_token(key): _bias_value(key, number) for key, number in value.items()}


def _bias_token(key: Any) -> int:
    text = str(key)
    if not (text.isascii() and text.isdigit() and len(text) < len(str(1 << 32))):
        raise PydanticCustomError("logit_bias", "{key} is no token id", {"key": repr(text[:40])})
    return int(text)


def _bias_value(key: Any, number: Any) -> float:
    limit = 100
    if isinstance(number, bool) or not isinstance(number, int | float):
        number = limit + 1
    if not -limit <= number <= limit:
        raise PydanticCustomError(
            "logit_bias", "the bias of token {key} is no number from -100 to 100", {"key": str(key)}
        )
    return float(number)


TEXT = {"type": "string"}
TOKENS: dict[str, Any] = {
    "type": "array",
    "items": {"type": "integer", "minimum": 0},
    "minItems": 1,
}
Prompt = Annotated[
    Any,
    BeforeValidator(_prompt),
    WithJsonSchema(
        {
            "anyOf": [
                TEXT,
                {"type": "array", "items": TEXT, "minItems": 1},
                TOKENS,
                {"type": "array", "items": TOKENS, "minItems": 1},
                {"type": "null"},
            ]
        }
    ),
]
Stops = Annotated[
    Any,
    BeforeValidator(_stop),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "minLength": 1},
                {
                    "type": "array",
                    "items": {"type": "string", "minLength": 1},
                    "maxItems": MAX_STOPS,
                },
                {"type": "null"},
            ]
        }
    ),
]
Bias = Annotated[
    Any,
    BeforeValidator(_bias),
    WithJsonSchema(
        {
            "anyOf": [
                {
                    "type": "object",
                    "additionalProperties": {"type": "number", "minimum": -100, "maximum": 100},
                },
                {"type": "null"},
            ]
        }
    ),
]
Penalty = Annotated[float, Field(ge=-2, le=2, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]
NoEffect = Annotated[Any, Field(description="Accepted, without effect.")]
Refused = Annotated[Any, Field(description="Not supported: refused unless null.")]


class StreamOptions(BaseModel):
    """Options of a stream.

    Attributes:
        include_usage: Whether a last chunk, without choices, carries the usage.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class GenerationBody(BaseModel):
    """The fields that completions and chat completions share."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        extra="forbid", strict=True, protected_namespaces=()
    )

    frequency_penalty: Penalty | None = None
    logit_bias: Bias = None
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    presence_penalty: Penalty | None = None
    seed: Seed | None = None
    stop: Stops = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None = None
    user: NoEffect = None
    metadata: NoEffect = None

    @property
    def wants_usage(self) -> bool:
        """True if the stream must end with a usage chunk."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    def check_stream(self) -> None:
        """Raise ApiError if the stream's options are invalid."""
        if self.stream_options is None:
            return
        if not self.stream:
            raise invalid(
                "stream_options are for streams: set stream to true, or leave them out.",
                param="stream_options",
            )
        if self.stream_options.include_obfuscation:
            raise refuse(
                "stream_options.include_obfuscation", "streams are sent without padding here"
            )

    def shared(self) -> dict[str, Any]:
        """Return the shared fields as keyword arguments of `GenerationRequest`."""
        return {
            "temperature": 1.0 if self.temperature is None else self.temperature,
            "top_p": 1.0 if self.top_p is None else self.top_p,
            "n": self.n or 1,
            "stop": self.stop or [],
            "logit_bias": self.logit_bias or {},
            "presence_penalty": self.presence_penalty or 0.0,
            "frequency_penalty": self.frequency_penalty or 0.0,
            "seed": self.seed,
            "stream": bool(self.stream),
        }


class CompletionBody(GenerationBody):
    """The body of a completion request."""

    model: Annotated[str, Field(min_length=1, max_length=MAX_NAME_LENGTH)] | None = None
    prompt: Prompt = "<|endoftext|>"
    best_of: Annotated[int, Field(ge=0, le=20)] | None = None
    echo: bool | None = None
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None
    max_tokens: Annotated[int, Field(ge=0)] | None = None
    suffix: Refused = None

    def to_generation(self, max_prompts: int) -> GenerationRequest:
        """Return the request in the form that the generator takes.

        Raises:
            ApiError: 400 if fields contradict each other or ask for what is not supported.
        """
        if self.suffix:
            raise refuse(
                "suffix",
                "inserting text before a suffix takes a model trained for it; the models here "
                "only continue a prompt",
            )
        self.check_stream()
        n = self.n or 1
        best_of = self.best_of or n
        prompts = self._prompts()
        if best_of < n:
            raise invalid(f"best_of ({best_of}) must be at least n ({n}).", param="best_of")
        if best_of > n and self.stream:
            raise invalid(
                "The best of several answers is known only when all are finished: best_of "
                "cannot be streamed.",
                param="best_of",
            )
        if len(prompts) > max_prompts:
            raise invalid(
                f"The request has {len(prompts)} prompts; this engine accepts at most "
                f"{max_prompts} at once. Send several requests.",
                param="prompt",
            )
        if len(prompts) * best_of > MAX_CHOICES:
            raise invalid(
                f"The request asks for {len(prompts) * best_of} answers; this engine returns at "
                f"most {MAX_CHOICES} at once.",
                param="n",
            )
        return GenerationRequest(
            prompts=prompts,
            max_tokens=16 if self.max_tokens is None else self.max_tokens,
            best_of=best_of,
            echo=bool(self.echo),
            logprobs=self.logprobs,
            **self.shared(),
        )

    def _prompts(self) -> list[str | list[int]]:
        prompt = "<|endoftext|>" if self.prompt is None else self.prompt
        if isinstance(prompt, str) or isinstance(prompt[0], int):
            return [prompt]
        return list(prompt)


def refuse(param: str, reason: str) -> ApiError:
    """Return the error for a field that this engine does not support."""
    return invalid(
        f"{param} is not supported: {reason}. Leave it out.",
        param=param,
        code="unsupported_parameter",
    )
