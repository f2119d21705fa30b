"""Pages of a list, sync and async. Iterating a page continues through the pages after it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from tunesmith._lazy import set_public_module
from tunesmith.core.paging import PageCursor, PageData, PageFlow
from tunesmith.errors import TunesmithError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator, Iterator

    from .async_driver import AsyncDriver
    from .sync_driver import SyncDriver

__all__ = ["AsyncPage", "AsyncPaginator", "Page"]

T = TypeVar("T")


class _BasePage(Generic[T]):
    """The part of a page that needs no I/O."""

    def __init__(self, page: PageData[T], flow: PageFlow[T]) -> None:
        self._page = page
        self._flow = flow

    @property
    def data(self) -> list[T]:
        """The items of this page."""
        return self._page.data

    @property
    def object(self) -> str | None:
        """The wire's name of the type, "list"."""
        return self._page.object

    @property
    def has_more(self) -> bool | None:
        """Whether the server has further pages, None if it does not say."""
        return self._page.has_more

    def has_next_page(self) -> bool:
        """Return whether there may be another page."""
        return self._page.next is not None

    def next_page_info(self) -> dict[str, str] | None:
        """Return the query parameters of the next page, None at the end."""
        cursor = self._page.next
        return {"after": cursor.after} if cursor is not None and cursor.after else None

    def _next_cursor(self) -> PageCursor:
        if self._page.next is None:
            raise TunesmithError("This is the last page. Check has_next_page() first.")
        return self._page.next

    def to_dict(self, *, exclude_unset: bool = True) -> dict[str, Any]:
        """Return the page as JSON-ready Python data, without the fields the server left out."""
        items: list[Any] = self._page.data
        data = [item.to_dict(exclude_unset=exclude_unset) for item in items]
        page = {"object": self.object, "data": data, "has_more": self.has_more}
        return {name: value for name, value in page.items() if value is not None}

    def to_json(self, *, indent: int | None = 2, exclude_unset: bool = True) -> str:
        """Return the page as JSON text, without the fields the server left out."""
        content = self.to_dict(exclude_unset=exclude_unset)
        return json.dumps(content, indent=indent, ensure_ascii=False)

    def __len__(self) -> int:
        return len(self._page.data)

    def _repr_html_(self) -> str:
        from tunesmith.core.html import list_html

        more = ", more follow" if self.has_next_page() else ""
        return list_html(self._page.data, f"{len(self)} on this page{more}")

    def __repr__(self) -> str:
        return f"{type(self).__name__}(data={self._page.data!r}, has_more={self.has_more!r})"


class Page(_BasePage[T]):
    """One page of a list. `for item in page` requests the following pages when it reaches them."""

    def __init__(self, page: PageData[T], flow: PageFlow[T], driver: SyncDriver) -> None:
        super().__init__(page, flow)
        self._driver = driver

    def get_next_page(self) -> Page[T]:
        """Return the next page.

        Raises:
            TunesmithError: This is the last one.
        """
        return Page(self._driver.run(self._flow(self._next_cursor())), self._flow, self._driver)

    def iter_pages(self) -> Iterator[Page[T]]:
        """Yield this page and those after it."""
        page = self
        yield page
        while page.has_next_page():
            page = page.get_next_page()
            yield page

    def __iter__(self) -> Iterator[T]:
        for page in self.iter_pages():
            yield from page.data


class AsyncPage(_BasePage[T]):
    """One page of a list. `async for item in page` requests the following pages on the way."""

    def __init__(self, page: PageData[T], flow: PageFlow[T], driver: AsyncDriver) -> None:
        super().__init__(page, flow)
        self._driver = driver

    async def get_next_page(self) -> AsyncPage[T]:
        """Return the next page.

        Raises:
            TunesmithError: This is the last one.
        """
        page = await self._driver.run(self._flow(self._next_cursor()))
        return AsyncPage(page, self._flow, self._driver)

    async def iter_pages(self) -> AsyncIterator[AsyncPage[T]]:
        """Yield this page and those after it."""
        page = self
        yield page
        while page.has_next_page():
            page = await page.get_next_page()
            yield page

    async def __aiter__(self) -> AsyncIterator[T]:
        async for page in self.iter_pages():
            for item in page.data:
                yield item


class AsyncPaginator(Generic[T]):
    """A list not requested yet: `await` it for its first page, or iterate with `async for`."""

    def __init__(self, flow: PageFlow[T], driver: AsyncDriver) -> None:
        self._flow = flow
        self._driver = driver

    def __await__(self) -> Generator[Any, None, AsyncPage[T]]:
        return self._first().__await__()

    async def __aiter__(self) -> AsyncIterator[T]:
        async for item in await self._first():
            yield item

    async def _first(self) -> AsyncPage[T]:
        page = await self._driver.run(self._flow(PageCursor()))
        return AsyncPage(page, self._flow, self._driver)


def first_page(flow: PageFlow[T], driver: SyncDriver) -> Page[T]:
    """Request the first page of a list."""
    return Page(driver.run(flow(PageCursor())), flow, driver)


set_public_module(globals())
