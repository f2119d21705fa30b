"""Which failures of a request pass, so that sending it again can help: one table.

It names every exception class of httpx, httpcore, h11 and pyreqwest (a test compares it with what
these libraries define) and imports none of them.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from tunesmith.errors import TunesmithError

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["LIBRARIES", "PASSES", "is_library_failure", "library_class_names", "passes"]

LIBRARIES: Final = frozenset(
    {"httpx", "httpx2", "httpcore", "httpcore2", "h11", "h2", "hpack", "anyio", "socksio"}
    | {"pyreqwest"}
)
"""The packages whose exceptions are turned into this package's own."""

PASSES: Final[dict[str, bool]] = {
    # The connection, or the server behind it, failed this time.
    "ConnectError": True,
    "ConnectTimeout": True,
    "ConnectTimeoutError": True,
    "ReadError": True,
    "ReadTimeout": True,
    "ReadTimeoutError": True,
    "WriteError": True,
    "WriteTimeout": True,
    "WriteTimeoutError": True,
    "CloseError": True,
    "PoolTimeout": True,
    "PoolTimeoutError": True,
    "TimeoutException": True,
    "RequestTimeoutError": True,
    "NetworkError": True,
    "TransportError": True,
    "RemoteProtocolError": True,
    "ConnectionNotAvailable": True,
    # A proxy is there, but did not connect.
    "ProxyError": True,
    # The same request fails the same way each time: what it contains, or how it is sent, is wrong.
    "LocalProtocolError": False,
    "ProtocolError": False,
    "UnsupportedProtocol": False,
    "InvalidURL": False,
    "BuilderError": False,
    "CookieConflict": False,
    "TooManyRedirects": False,
    "RedirectError": False,
    "HTTPStatusError": False,
    "StatusError": False,
    # What arrived was complete, but is not what its header fields say.
    "DecodingError": False,
    "DecodeError": False,
    "BodyDecodeError": False,
    "JSONDecodeError": False,
    # The client was used wrongly or closed meanwhile, or the library itself failed.
    "StreamError": False,
    "StreamConsumed": False,
    "StreamClosed": False,
    "ResponseNotRead": False,
    "RequestNotRead": False,
    "ClientClosedError": False,
    "RequestPanicError": False,
    "SSEError": False,
    # Base classes: what a library may add below them.
    "HTTPError": False,
    "RequestError": False,
    "DetailedPyreqwestError": False,
    "PyreqwestError": False,
}

# Refusals by a proxy that stay the same until somebody changes a setting.
_FINAL_PROXY_STATUSES = ("400", "401", "403", "404", "405", "407")


def library_class_names(error: BaseException) -> list[str]:
    """Return the names of the error's classes that an HTTP library defines, the closest first."""
    return [
        base.__name__
        for base in type(error).__mro__
        if base.__module__.partition(".")[0] in LIBRARIES
    ]


def passes(error: BaseException) -> bool:
    """Return whether this failure may be over when the request is sent again.

    Failures of the operating system pass; everything that is in no table is final.
    """
    for name in library_class_names(error):
        if name == "ProxyError":
            return not str(error).startswith(_FINAL_PROXY_STATUSES)
        if name in PASSES:
            return PASSES[name]
    # anyio's errors for a stream that ended, and the system's errors of sockets.
    lost = {"BrokenResourceError", "ClosedResourceError", "EndOfStream", "IncompleteRead"}
    return isinstance(error, OSError) or not lost.isdisjoint(library_class_names(error))


def is_library_failure(error: BaseException) -> bool:
    """Return whether an HTTP library failed, rather than code of the user that it called.

    True for the classes of the libraries, and for others that were raised by the libraries or the
    standard library without the user's hooks, bodies or transports in between.
    """
    if not isinstance(error, Exception) or isinstance(error, TunesmithError):
        return False
    if library_class_names(error):
        return True
    return all(package in _known_packages() for package in _packages(error.__traceback__))


def _packages(trace: TracebackType | None) -> list[str]:
    """Return the top-level packages of the frames that an error passed."""
    packages = []
    while trace is not None:
        name: str = trace.tb_frame.f_globals.get("__name__", "")
        packages.append(name.partition(".")[0])
        trace = trace.tb_next
    return packages


def _known_packages() -> frozenset[str]:
    return LIBRARIES | sys.stdlib_module_names | {"tunesmith"}
