"""openai-python's own tests of these resources, run against this client.

    python tests/clients/openai_resource_tests.py TESTS MOCK SPECIFICATION [--transport NAME]

TESTS is the folder `tests` of openai-python's source distribution, version 3.54.0 (it is not
kept here). MOCK is the mock server that openai tests against: the program `steady` of the npm
package @stdy/cli 0.22. SPECIFICATION is the published OpenAPI document, openapi.yaml of
openai/openai-openapi. The test files stay as they are; the modules that they import under the
name of `openai` are made here, of this package's classes. The exit status is 1 if a test fails.

The mock server checks every request against the specification and answers with a body made from
it; a request that it objects to is answered with status 400.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import inspect
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import types
import typing
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from tunesmith import AsyncClient, AsyncPage, AsyncStream, Client, Page, Stream
from tunesmith import types as wire
from tunesmith.resources.file_content import FileBytes

RESOURCES = {
    "files": ["test_files.py"],
    "uploads": ["test_uploads.py", "uploads/test_parts.py"],
    "fine-tuning jobs": [
        "fine_tuning/test_jobs.py",
        "fine_tuning/jobs/test_checkpoints.py",
        "../lib/test_fine_tuning_positional_arguments.py",
    ],
    "checkpoint permissions": ["fine_tuning/checkpoints/test_permissions.py"],
    "graders": ["fine_tuning/alpha/test_graders.py"],
    "completions": ["test_completions.py"],
    "chat completions, stored ones included": [
        "chat/test_completions.py",
        "chat/completions/test_messages.py",
    ],
    "models": ["test_models.py"],
}
KINDS = {
    "test_method_": "method",
    "test_raw_response_": "raw",
    "test_streaming_response_": "streaming",
    "test_path_params_": "path",
}
# Their names of classes that have another name here.
RENAMED = {
    "PermissionCreateResponse": wire.CheckpointPermission,
    "PermissionRetrieveResponse": (
        Page[wire.CheckpointPermission] | AsyncPage[wire.CheckpointPermission]
    ),
    "PermissionListResponse": wire.CheckpointPermission,
    "PermissionDeleteResponse": wire.CheckpointPermissionDeleted,
}
PAGES = {"SyncPage", "SyncCursorPage", "SyncConversationCursorPage"}
ASYNC_PAGES = {"AsyncPage", "AsyncCursorPage", "AsyncConversationCursorPage"}


class Module(types.ModuleType):
    """A module with the given attributes; every other name is a wire class."""

    def __init__(self, name: str, **attributes: Any) -> None:
        super().__init__(name)
        self.__path__: list[str] = []
        self.__dict__.update(attributes)
        sys.modules[name] = self

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return RENAMED[name] if name in RENAMED else getattr(wire, name)


def install_modules() -> None:
    """Put this package's classes where the tests import openai's."""
    Module("openai", OpenAI=Client, AsyncOpenAI=AsyncClient, Stream=Stream, AsyncStream=AsyncStream)
    pages = dict.fromkeys(PAGES, Page) | dict.fromkeys(ASYNC_PAGES, AsyncPage)
    Module("openai.pagination", **pages)
    legacy = Module("openai._legacy_response", HttpxBinaryResponseContent=FileBytes)
    sys.modules["openai"]._legacy_response = legacy  # type: ignore[attr-defined]
    for name in ("", ".chat", ".uploads", ".fine_tuning", ".fine_tuning.jobs"):
        Module(f"openai.types{name}")
    Module("openai.types.fine_tuning.alpha")
    Module("openai.types.fine_tuning.checkpoints")
    Module("tests")
    Module("tests.utils", assert_matches_type=assert_matches_type)
    Module("tests.respx2", MockRouter=Canned)
    sys.modules["httpx2"] = httpx


def assert_matches_type(kind: Any, value: object, *, path: Sequence[str]) -> None:
    """Check a value, and everything in it, against a type."""
    place, arguments = f"{'.'.join(path)}: {value!r}", typing.get_args(kind)
    match typing.get_origin(kind):
        case None:
            assert_is(kind, value, path)
        case typing.Annotated:
            assert_matches_type(arguments[0], value, path=path)
        case typing.Union | types.UnionType:
            assert any(matches(one, value, path) for one in arguments), place
        case typing.Literal:
            assert value in arguments, place
        case origin:
            assert isinstance(value, list if origin is Sequence else origin), place
            items = value.values() if isinstance(value, dict) else getattr(value, "data", value)
            for item in items:
                assert_matches_type(arguments[-1], item, path=path)


def assert_is(kind: Any, value: object, path: Sequence[str]) -> None:
    """Check a value against a class, and its fields against theirs."""
    if kind in (None, type(None)):
        assert value is None, path
    elif isinstance(kind, type):
        expected = int | float if kind is float else kind
        assert isinstance(value, expected), f"{'.'.join(path)}: {value!r}"
        for name, field in getattr(kind, "model_fields", {}).items():
            assert_matches_type(field.annotation, getattr(value, name), path=[*path, name])
    else:
        assert kind is Any or isinstance(kind, typing.TypeVar), path


def matches(kind: Any, value: object, path: Sequence[str]) -> bool:
    """Return whether a value, and everything in it, is of a type."""
    try:
        assert_matches_type(kind, value, path=path)
    except AssertionError:
        return False
    return True


class Canned:
    """A server for the answers that a test sets itself: `mock.get(path).mock(return_value=…)`."""

    def __init__(self) -> None:
        self.answers: dict[str, httpx.Response] = {}
        self.path = ""
        canned = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answer = canned.answers.get(self.path)
                self.send_response(404 if answer is None else answer.status_code)
                body = b"" if answer is None else answer.content
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def get(self, path: str) -> Canned:
        self.path = path
        return self

    def mock(self, *, return_value: httpx.Response) -> None:
        self.answers[self.path] = return_value

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class Plugin:
    """The fixtures that the tests want, one event loop for all of them, and the counts."""

    def __init__(self, base_url: str, transport: str | None) -> None:
        self.base_url = base_url
        self.transport = transport
        self.runner = asyncio.Runner()
        self.failed: set[tuple[str, str]] = set()
        self.seen: dict[tuple[str, str], None] = {}
        self.cases = Counter[str]()

    def settings(self, request: pytest.FixtureRequest) -> dict[str, Any]:
        canned = "respx2_mock" in request.fixturenames
        url = request.getfixturevalue("respx2_mock").url if canned else self.base_url
        keys = {"api_key": "My API Key", "admin_api_key": "My Admin API Key"}
        return {**keys, "base_url": url, "max_retries": 0, "transport": self.transport}

    @pytest.fixture
    def respx2_mock(self) -> Iterator[Canned]:
        canned = Canned()
        yield canned
        canned.close()

    @pytest.fixture
    def client(self, request: pytest.FixtureRequest) -> Iterator[Client]:
        with Client(**self.settings(request)) as client:
            yield client

    @pytest.fixture
    def async_client(self, request: pytest.FixtureRequest) -> Iterator[AsyncClient]:
        settings = self.settings(request)
        if isinstance(request.param, dict):  # theirs on aiohttp; here on a client of the user's
            settings.update(http_client=httpx.AsyncClient(), transport=None)
        client = AsyncClient(**settings)
        yield client
        self.runner.run(client.close())

    @pytest.hookimpl(tryfirst=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> bool | None:
        function = pyfuncitem.obj
        if not inspect.iscoroutinefunction(function):
            return None
        names = inspect.signature(function).parameters
        self.runner.run(function(**{name: pyfuncitem.funcargs[name] for name in names}))
        return True

    @pytest.hookimpl
    def pytest_configure(self, config: pytest.Config) -> None:
        config.addinivalue_line("markers", "respx2: answers that the test sets itself")

    @pytest.hookimpl
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        file, _, function = report.nodeid.partition("::")
        place = (file, function.partition("[")[0])
        self.seen[place] = None
        if report.failed:
            self.failed.add(place)
        if report.when == "call" or report.failed:
            self.cases["passed" if report.passed else "failed"] += 1

    def table(self) -> str:
        """Return the numbers of test functions that pass, by resource and kind."""
        lines = ["| resource | methods | raw responses | streamed responses | path parameters |"]
        lines.append("|---|---|---|---|---|")
        total = Counter[str]()
        for resource, files in RESOURCES.items():
            row = Counter[str]()
            for file, function in self.seen:
                name = function.rpartition("::")[2]
                kind = next(kind for start, kind in KINDS.items() if name.startswith(start))
                if Path(file).name in {flat_name(one) for one in files}:
                    row[kind] += 1
                    row[f"{kind} passed"] += (file, function) not in self.failed
            lines.append(_row(resource, row))
            total += row
        lines.append(_row("all", total))
        cases = f"{self.cases['passed']} of {self.cases.total()} cases pass"
        return "\n".join([*lines, "", cases, ""])


def _row(name: str, counts: Counter[str]) -> str:
    cells = [
        f"{counts[f'{kind} passed']} of {counts[kind]}" if counts[kind] else ""
        for kind in KINDS.values()
    ]
    return f"| {' | '.join([name, *cells])} |"


def flat_name(file: str) -> str:
    """Return the name of a test file's copy."""
    return "test_" + re.sub(r"(^|/)(\.\./)?(test_)?", "_", file).strip("_")


@contextlib.contextmanager
def mock_server(program: str, specification: str) -> Iterator[str]:
    """Run the mock server with openai's settings and yield its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    styles = [
        f"--validator-{part}-{kind}-format=brackets"
        for part in ("query", "form")
        for kind in ("array", "object")
    ]
    command = [program, "--host", "127.0.0.1", "-p", str(port), "-q", *styles, specification]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        for _ in range(300):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/_x-steady/health").close()
                break
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(10)


def main() -> None:
    """Run the tests and print the counts."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("tests", type=Path)
    parser.add_argument("mock")
    parser.add_argument("specification")
    parser.add_argument("--transport", choices=["httpx", "fast"])
    parser.add_argument("-k", default="", help="run only tests with this in their name")
    given = parser.parse_args()
    for name in [name for name in os.environ if name.startswith(("OPENAI_", "TUNESMITH_"))]:
        del os.environ[name]
    install_modules()
    with (
        tempfile.TemporaryDirectory() as folder,
        mock_server(given.mock, given.specification) as url,
    ):
        for file in (file for files in RESOURCES.values() for file in files):
            shutil.copy(given.tests / "api_resources" / file, Path(folder) / flat_name(file))
        os.chdir(folder)
        plugin = Plugin(url, given.transport)
        options = ["-q", "--tb=short", "-p", "no:cacheprovider", "-k", given.k, "-W", "default"]
        status = pytest.main([*options, "--rootdir", folder, folder], plugins=[plugin])
        plugin.runner.close()
        sys.stdout.write("\n" + plugin.table())
        os.chdir("/")
    raise SystemExit(int(status))


if __name__ == "__main__":
    main()
