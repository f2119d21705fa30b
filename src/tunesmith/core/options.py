"""Options that users set per client or per call, and the markers for "not given".

Values only; how they are applied is not known here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TypedDict, final

from tunesmith._lazy import set_public_module
from tunesmith.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from typing_extensions import TypeIs

__all__ = [
    "DEFAULT_TIMEOUT",
    "NOT_GIVEN",
    "NotGiven",
    "Omit",
    "RequestOptions",
    "Timeout",
    "TimeoutLike",
    "check_seconds",
    "is_omitted",
    "not_given",
    "omit",
    "without_omitted",
]


@final
class NotGiven:
    """Marks an argument that was omitted, where None has a meaning of its own."""

    def __bool__(self) -> Literal[False]:
        return False

    def __repr__(self) -> str:
        return "NOT_GIVEN"

    def __reduce__(self) -> str:
        return "not_given"


@final
class Omit:
    """Marks a field that is not sent at all, not even as null."""

    def __bool__(self) -> Literal[False]:
        return False

    def __repr__(self) -> str:
        return "omit"

    def __reduce__(self) -> str:
        return "omit"


not_given: Final = NotGiven()
NOT_GIVEN: Final = not_given
omit: Final = Omit()


_MARKERS = frozenset({"NotGiven", "Omit"})


def is_omitted(value: object) -> TypeIs[Omit | NotGiven]:
    """Return whether an argument is `omit` or `not_given`, of this package or of openai's.

    Theirs are known by their names and by being false, because openai is not imported here; the
    clients of other services that are generated as it is have the same two classes.
    """
    return type(value).__name__ in _MARKERS and not value and hasattr(value, "__bool__")


def check_seconds(what: str, value: float | None) -> float | None:
    """Return a number of seconds, or None for no limit.

    Raises:
        ConfigurationError: `value` is another type, negative or not a number.
    """
    given: Any = value
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise ConfigurationError(f"{what} is a number of seconds, not {given!r:.80}.")
    if math.isnan(given) or given < 0:
        raise ConfigurationError(f"{what} is 0 seconds or more, not {given!r}.")
    return None if math.isinf(given) else value


def without_omitted(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields to send; None stays and is sent as null."""
    return {name: value for name, value in values.items() if not is_omitted(value)}


class _PhaseTimeouts(Protocol):
    """A timeout object of another library with the four phases of a request."""

    connect: float | None
    read: float | None
    write: float | None
    pool: float | None


@dataclass(frozen=True, slots=True, init=False)
class Timeout:
    """Time limits in seconds; None means no limit.

    Attributes:
        connect: For establishing a connection.
        read: Between two chunks of a response.
        write: For sending one chunk of a request.
        pool: For waiting until a connection is free.
        total: For the whole call, retries and delays included.
    """

    connect: float | None
    read: float | None
    write: float | None
    pool: float | None
    total: float | None

    def __init__(
        self,
        timeout: float | None = 600.0,
        *,
        connect: float | NotGiven | None = not_given,
        read: float | NotGiven | None = not_given,
        write: float | NotGiven | None = not_given,
        pool: float | NotGiven | None = not_given,
        total: float | None = None,
    ) -> None:
        """Set every phase to `timeout`, except those given by name.

        Raises:
            ConfigurationError: A limit is no number of seconds.
        """
        for name, value in (("connect", connect), ("read", read), ("write", write), ("pool", pool)):
            limit = timeout if is_omitted(value) else value
            object.__setattr__(self, name, check_seconds(f"The {name} timeout", limit))
        object.__setattr__(self, "total", check_seconds("The total timeout", total))

    @classmethod
    def of(cls, value: TimeoutLike) -> Timeout:
        """Return `value` as a Timeout.

        A number sets every phase, and None removes every limit. `(5, 60)` means connect and read,
        `(connect, read, write, pool)` all phases. Another library's timeout object has attributes
        of these names.

        Raises:
            ConfigurationError: It is none of these, or a limit is no number of seconds.
        """
        if isinstance(value, Timeout):
            return value
        if value is None or isinstance(value, int | float):
            return cls(value)
        if isinstance(value, tuple) and len(value) in _TIMEOUT_TUPLES:
            return cls(**dict(zip(_PHASES, value, strict=False)))
        given: Any = value
        try:
            return cls(**{name: getattr(given, name) for name in _PHASES})
        except AttributeError:
            raise ConfigurationError(
                "timeout is a number of seconds, a Timeout, (connect, read), (connect, read, "
                f"write, pool) or None, not {value!r:.80}."
            ) from None

    def clipped(self, seconds: float) -> Timeout:
        """Return the same limits with no phase longer than `seconds`."""
        connect, read, write, pool = (
            seconds if limit is None else min(limit, seconds)
            for limit in (self.connect, self.read, self.write, self.pool)
        )
        return Timeout(connect=connect, read=read, write=write, pool=pool, total=self.total)

    def phases(self) -> dict[str, float | None]:
        """Return the four phases by name."""
        return {
            "connect": self.connect,
            "read": self.read,
            "write": self.write,
            "pool": self.pool,
        }


_PHASES = ("connect", "read", "write", "pool")
_TIMEOUT_TUPLES = (2, 4)

TimeoutLike = (
    Timeout
    | float
    | tuple[float | None, float | None]
    | tuple[float | None, float | None, float | None, float | None]
    | _PhaseTimeouts
    | None
)

DEFAULT_TIMEOUT: Final = Timeout(600.0, connect=5.0)


class RequestOptions(TypedDict, total=False):
    """The options that every operation takes besides its own parameters.

    Attributes:
        extra_headers: Header fields to add; `omit` removes a default one.
        extra_query: Query parameters to add.
        extra_body: Fields to add to the JSON body.
        timeout: Time limits of this call, in seconds.
        idempotency_key: Identifies this call, so that the server carries it out only once
            even if it is sent again. Generated for each call if omitted.
    """

    extra_headers: Mapping[str, str | Omit] | None
    extra_query: Mapping[str, object] | None
    extra_body: object | None
    timeout: TimeoutLike | NotGiven
    idempotency_key: str | None


set_public_module(globals())
