"""What completions and chat completions share: one answer, a stream of pieces, many at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from tunesmith.core.flow import Emitting, Flow
from tunesmith.core.modes import ModeT_co

from .base import APIResource
from .bulk import MapResult, map_requests

if TYPE_CHECKING:
    from tunesmith.types.base import WireModel

__all__ = ["CompletionResource"]


class CompletionResource(APIResource[ModeT_co]):
    """Asks a model at one path."""

    _path: ClassVar[str]
    # The parameter that `map` puts a plain request into.
    _input: ClassVar[str]
    # What comes back whole, and piece by piece.
    _answer: ClassVar[type[WireModel]]
    _piece: ClassVar[type[WireModel]]

    def _create(self, fields: Mapping[str, Any], *, stream: Any) -> Flow[Any]:
        if stream:
            return self._open_stream("POST", self._path, self._piece, {**fields, "stream": True})
        if stream is False:
            fields = {**fields, "stream": False}
        return self._request("POST", self._path, self._answer, fields)

    def _map(
        self,
        requests: Iterable[Any],
        common: Mapping[str, Any],
        *,
        concurrency: int,
        ordered: bool,
        journal: str | os.PathLike[str] | None,
        on_progress: Callable[[int, int], object] | None,
    ) -> Emitting[MapResult[Any]]:
        """Carry out requests, each the common parameters outweighed by its own."""
        own = (one if isinstance(one, Mapping) else {self._input: one} for one in requests)
        return map_requests(
            lambda request: self._create(request, stream=None),
            self._answer,
            ({**common, **one} for one in own),
            concurrency=concurrency,
            ordered=ordered,
            journal=journal,
            on_progress=on_progress,
        )
