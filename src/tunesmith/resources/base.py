"""The base of the resource classes: flows for one request, a stream and a page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast

from tunesmith.core.decode import decode
from tunesmith.core.exchange import exchange
from tunesmith.core.flow import Flow, OpenStream
from tunesmith.core.modes import ModeT_co
from tunesmith.core.options import RequestOptions, without_omitted
from tunesmith.core.paging import PageCursor, PageData, PageFlow
from tunesmith.core.request import Body, RequestSpec
from tunesmith.core.response import Response
from tunesmith.errors import TunesmithError

from .operations import AnyStream, Resource

if TYPE_CHECKING:
    from tunesmith.types.base import WireModel

    ModelT = TypeVar("ModelT", bound=WireModel)
else:
    ModelT = TypeVar("ModelT")

__all__ = ["APIResource", "list_of_ids", "split_extra_fields", "split_options"]

_OPTION_NAMES = frozenset(RequestOptions.__annotations__)


def split_options(params: Mapping[str, Any]) -> tuple[dict[str, Any], RequestOptions]:
    """Split an operation's parameters into its own and the request options."""
    if not params:
        return {}, RequestOptions()
    own = {name: value for name, value in params.items() if name not in _OPTION_NAMES}
    options = {name: value for name, value in params.items() if name in _OPTION_NAMES}
    return own, cast("RequestOptions", without_omitted(options))


def list_of_ids(name: str, values: Iterable[str]) -> list[str]:
    """Return ids as a list; one text would be a list of its characters.

    Raises:
        TunesmithError: `values` is one text.
    """
    if isinstance(values, str | bytes):
        raise TunesmithError(f"{name} is a list of ids, not the text {values!r:.80}.")
    return list(values)


def split_extra_fields(options: RequestOptions) -> tuple[Mapping[str, Any], RequestOptions]:
    """Split request options into `extra_body`, as further fields of a form, and the others.

    Raises:
        TypeError: `extra_body` is no mapping.
    """
    extra = options.get("extra_body")
    if extra is None:
        return {}, options
    if not isinstance(extra, Mapping):
        raise TypeError(f"extra_body of a form is a mapping, not {type(extra).__name__}.")
    others: Any = {name: value for name, value in options.items() if name != "extra_body"}
    return without_omitted(extra), others


class APIResource(Resource[ModeT_co]):
    """A group of operations over HTTP."""

    def _exchange(self, spec: RequestSpec) -> Flow[Response]:
        return exchange(self._executor.settings, spec)

    def _refuse_streaming(self, what: str) -> None:
        """Raise if `what`, which makes several requests, is called on a streaming view.

        Raises:
            TunesmithError: There is no single response that could be streamed.
        """
        if self._executor.streams:
            raise TunesmithError(
                f"{what} makes several requests, so with_streaming_response has no single "
                "response to return. Call it on the client itself."
            )

    def _request(
        self,
        method: str,
        path: str,
        model: type[ModelT],
        params: Mapping[str, Any],
        *,
        body: Body | None = None,
        fields: Mapping[str, Any] | None = None,
    ) -> Flow[ModelT]:
        """Send one request and decode the response.

        `params` holds the operation's parameters with its request options among them. They
        are the query of a GET; `fields` and they are the JSON body of a POST.
        """
        own, options = split_options(params)
        spec = RequestSpec(method, path, body=body, options=options)
        if method == "GET":
            spec.query = own
        elif own or fields is not None:
            spec.json = {**(fields or {}), **own}
        response = yield from self._exchange(spec)
        return decode(response, model)

    def _open_stream(
        self, method: str, path: str, model: type[ModelT], params: Mapping[str, Any]
    ) -> Flow[AnyStream[ModelT]]:
        """Send a request whose response is a stream of `model` objects."""
        own, options = split_options(params)
        spec = RequestSpec(method, path, options=options, stream=True)
        spec.headers = {"accept": "text/event-stream"}
        if method == "GET":
            spec.query = own
        else:
            spec.json = own
        response = yield from self._exchange(spec)
        settings = self._executor.settings
        stream: AnyStream[ModelT] = yield OpenStream(
            response, model, require_end=settings.require_stream_end
        )
        return stream

    def _pages(
        self,
        path: str,
        model: type[ModelT],
        params: Mapping[str, Any],
        *,
        paged: bool = True,
        method: str = "GET",
    ) -> PageFlow[ModelT]:
        """Return the flow of one page; it is run again for each further page."""
        from tunesmith.types.pages import ListPage

        own, options = split_options(params)

        def page(cursor: PageCursor) -> Flow[PageData[ModelT]]:
            query = own if cursor.after is None else {**own, "after": cursor.after}
            spec = RequestSpec(method, path, options=options)
            if method == "GET":
                spec.query = query
            else:
                spec.json = query
            response = yield from self._exchange(spec)
            content = decode(response, ListPage[model])  # type: ignore[valid-type]  # made at run time
            data: PageData[ModelT] = PageData(
                content.data, content.has_more, paged=paged, object=content.object
            )
            data.response = response
            data.follow(cursor)
            return data

        return page
