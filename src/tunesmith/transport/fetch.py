"""Fetch a file from any web address, as the command line offers for training files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx

from tunesmith.errors import TunesmithError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["fetch_url"]

_TIMEOUT = httpx.Timeout(30.0, connect=8.0)


def fetch_url(url: str, path: Path) -> None:
    """Write what `url` gives to `path`. No credential of the API is sent there.

    Raises:
        TunesmithError: The address cannot be reached, or does not give a file.
    """
    try:
        with (
            httpx.Client(follow_redirects=True, timeout=_TIMEOUT) as client,
            client.stream("GET", url) as response,
            path.open("wb") as file,
        ):
            response.raise_for_status()
            for chunk in response.iter_bytes():
                file.write(chunk)
    except httpx.HTTPStatusError as error:
        status = f"{error.response.status_code} {error.response.reason_phrase}"
        raise TunesmithError(f"{url} gives no file: the server answered {status}.") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise TunesmithError(f"{url} cannot be fetched: {error}.") from error
