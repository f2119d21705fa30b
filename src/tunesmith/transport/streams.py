"""Streams of typed objects over server-sent events, sync and async.

Both decode with the same `EventReader`; only the reading of bytes differs. A stream frees
its connection at its end, on an error, and when it is closed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from tunesmith._lazy import set_public_module
from tunesmith.core.events import END, EventReader
from tunesmith.core.flow import shorten_traceback
from tunesmith.errors import APIConnectionError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from types import TracebackType

    from pydantic import BaseModel

    from tunesmith.core.response import Response

__all__ = ["AsyncStream", "Stream"]

T_co = TypeVar("T_co", covariant=True)


class Stream(Generic[T_co]):
    """Objects as a server sends them. Iterate once; to stop early, close it or use `with`.

    Attributes:
        response: The response that carries the stream.
    """

    def __init__(
        self, response: Response, model: type[BaseModel], *, require_end: bool = True
    ) -> None:
        self.response = response
        self._reader = EventReader(response, model, require_end=require_end)
        self._items: Iterator[Any] = self._read()

    def __iter__(self) -> Iterator[T_co]:
        return self._items

    def __next__(self) -> T_co:
        item: T_co = next(self._items)
        return item

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop reading and free the connection; does nothing if the stream has ended."""
        self.response.stream.close()

    def _read(self) -> Iterator[Any]:
        stream, reader = self.response.stream, self._reader
        try:
            while chunk := stream.read():
                for item in reader.feed(chunk):
                    if item is END:
                        stream.drain()
                        return
                    yield item
            for item in reader.finish():
                if item is END:
                    return
                yield item
        except APIConnectionError as error:
            failure = reader.interrupted(error)
        else:
            return
        finally:
            stream.close()
        raise shorten_traceback(failure)


class AsyncStream(Generic[T_co]):
    """The async form of `Stream`: `async for`, `async with`, `await stream.close()`.

    Attributes:
        response: The response that carries the stream.
    """

    def __init__(
        self, response: Response, model: type[BaseModel], *, require_end: bool = True
    ) -> None:
        self.response = response
        self._reader = EventReader(response, model, require_end=require_end)
        self._items: AsyncIterator[Any] = self._read()

    def __aiter__(self) -> AsyncIterator[T_co]:
        return self._items

    async def __anext__(self) -> T_co:
        item: T_co = await anext(self._items)
        return item

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop reading and free the connection; does nothing if the stream has ended."""
        await self.response.stream.aclose()

    async def aclose(self) -> None:
        """Stop reading and free the connection; the same as `close`."""
        await self.close()

    async def _read(self) -> AsyncIterator[Any]:
        stream, reader = self.response.stream, self._reader
        try:
            while chunk := await stream.read():
                for item in reader.feed(chunk):
                    if item is END:
                        await stream.drain()
                        return
                    yield item
            for item in reader.finish():
                if item is END:
                    return
                yield item
        except APIConnectionError as error:
            failure = reader.interrupted(error)
        else:
            return
        finally:
            await stream.aclose()
        raise shorten_traceback(failure)


set_public_module(globals())
