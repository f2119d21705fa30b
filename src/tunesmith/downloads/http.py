"""Downloads over HTTP: a file of known size, resumed where it stopped, or any URL to a file."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, TypeAlias

import httpx

from tunesmith.errors import TunesmithError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["TIMEOUT", "DownloadError", "Progress", "download_url", "file_size", "resume_download"]

Progress: TypeAlias = Callable[[int, int], None]
"""Called with the bytes downloaded so far and the total."""

TIMEOUT = httpx.Timeout(30.0, connect=8.0)
_ATTEMPTS = 5


class DownloadError(TunesmithError):
    """A file could not be downloaded, or is not the expected file."""


def download_url(url: str, path: Path) -> None:
    """Write what `url` returns to `path`. No credential of the API is sent.

    Raises:
        DownloadError: The URL cannot be reached, or returns an error status.
    """
    try:
        with (
            httpx.Client(follow_redirects=True, timeout=TIMEOUT) as client,
            client.stream("GET", url) as response,
            path.open("wb") as file,
        ):
            response.raise_for_status()
            for chunk in response.iter_bytes():
                file.write(chunk)
    except httpx.HTTPStatusError as error:
        status = f"{error.response.status_code} {error.response.reason_phrase}"
        raise DownloadError(f"{url} cannot be downloaded: the server answered {status}.") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise DownloadError(f"{url} cannot be downloaded: {error}.") from error


def resume_download(
    client: httpx.Client, url: str, path: Path, size: int, progress: Progress
) -> None:
    """Download the rest of a file of `size` bytes to `path`, which may hold the start of it.

    Broken connections are retried, until several in a row transfer nothing.

    Raises:
        httpx.HTTPError: The server cannot be reached, or returns an error status.
        DownloadError: The server sends more than `size` bytes.
    """
    failures = 0
    while True:
        before = file_size(path)
        try:
            _append(client, url, path, size, progress)
        except httpx.TransportError:
            failures = 0 if file_size(path) > before else failures + 1
            if failures == _ATTEMPTS:
                raise
            time.sleep(0.2 * failures)
        else:
            return


def file_size(path: Path) -> int:
    """Return the size of a file in bytes, 0 if there is none."""
    return path.stat().st_size if path.exists() else 0


def _append(client: httpx.Client, url: str, path: Path, size: int, progress: Progress) -> None:
    """Append what is missing to `path`. A server without range requests sends all of it again."""
    present = file_size(path)
    if present >= size:
        return
    # "identity": the bytes that are hashed are the file's, and ranges count those.
    headers = {"Accept-Encoding": "identity"}
    if present:
        headers["Range"] = f"bytes={present}-"
    with client.stream("GET", url, headers=headers) as response:
        response.raise_for_status()
        resumed = response.status_code == HTTPStatus.PARTIAL_CONTENT
        done = present if resumed else 0
        with path.open("ab" if resumed else "wb") as output:
            for chunk in response.iter_bytes():
                done += len(chunk)
                if done > size:
                    raise DownloadError(f"the server sent more than the expected {size:,} bytes")
                output.write(chunk)
                progress(done, size)
            output.flush()
            os.fsync(output.fileno())
