"""A recorded organisation on a real socket."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any, Literal

from . import routes_answers, routes_organization, routes_training  # noqa: F401 - they add routes
from .answers import WAVERING, WRONG, Answers
from .contents import Contents
from .service import Answer, OrganizationService, Received
from .training_facts import Quirks

if TYPE_CHECKING:
    from collections import Counter
    from types import TracebackType
    from typing import Self

    from tunesmith.client import AsyncClient, Client

__all__ = ["RecordedOrganization", "recorded_organization"]

NOW = 1_795_824_000
"""28 November 2026 in UTC: when a recorded organisation stands, unless you say otherwise."""
_PIECE = 512


class RecordedOrganization:
    """A running recorded organisation, started by `recorded_organization`.

    Attributes:
        base_url: Of its API, "http://127.0.0.1:PORT/v1". An Azure resource has its addresses
            below `azure_endpoint` instead.
        azure_endpoint: "http://127.0.0.1:PORT", for `AzureClient`.
        projects: The ids of its projects.
        keys: A key for each project, by its id.
        admin_key: The administrator's key, which answers below /organization only.
        user_key: A key that sees every project, chosen by the field OpenAI-Project.
        deployments: On Azure the fine-tuned model behind each deployment's name.
        contents: What it has: for tests that compare with the truth.
    """

    def __init__(self, contents: Contents, answers: Answers) -> None:
        self._service = OrganizationService(contents, answers)
        self._server = _Server(("127.0.0.1", 0), self._service)
        self.contents: Contents = contents
        self.projects: list[str] = contents.projects
        self.keys: dict[str, str] = self._service.keys
        self.admin_key: str = self._service.admin_key
        self.user_key: str = self._service.user_key
        self.deployments: dict[str, str] = self._service.deployments
        port = self._server.server_address[1]
        self.azure_endpoint: str = f"http://127.0.0.1:{port}"
        below = "/v1" if contents.service == "openai" else "/openai/v1"
        self.base_url: str = self.azure_endpoint + below
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        )
        self._thread.start()

    @property
    def requests(self) -> Counter[str]:
        """How often each route was asked, such as "GET /files/{id}/content"."""
        return self._service.requests

    @property
    def recent(self) -> list[str]:
        """The last thousand requests, such as "GET /v1/files?limit=2"."""
        return list(self._service.recent)

    def client(self, project: str | None = None, **settings: Any) -> Client:
        """Return a client for a project.

        Args:
            project: The project's id; the first one by default.
            settings: Those of `Client`.
        """
        from tunesmith.client import Client

        return Client(self._key(project), base_url=self.base_url, **self._settings(settings))

    def async_client(self, project: str | None = None, **settings: Any) -> AsyncClient:
        """Return an asynchronous client for a project, as `client` does."""
        from tunesmith.client import AsyncClient

        return AsyncClient(self._key(project), base_url=self.base_url, **self._settings(settings))

    def _key(self, project: str | None) -> str:
        return self.keys[project or self.projects[0]]

    def _settings(self, settings: dict[str, Any]) -> dict[str, Any]:
        return {"admin_api_key": self.admin_key, **settings}

    def stop(self) -> None:
        """Stop the server and close its connections."""
        self._server.shutdown()
        self._server.close_connections()
        self._server.server_close()
        self._thread.join(5)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def recorded_organization(
    service: Literal["openai", "azure"] = "openai",
    *,
    seed: int = 0,
    projects: int = 2,
    files: int = 120,
    jobs: int = 24,
    rows: int = 30,
    stored: int = 25,
    now: int = NOW,
    quirks: Quirks | None = None,
    wrong: float = WRONG,
    wavering: float = WAVERING,
) -> RecordedOrganization:
    """Start an organisation at a simulated service, and return it: a context manager that stops it.

    It has projects, files, fine-tuning jobs of both APIs with events, checkpoints and result
    files, fine-tuned models that answer as trained, stored completions, batches and evals, all
    made from the seed; and the faults of a real service, which `quirks` chooses. Ten thousand
    files and two thousand jobs need no more memory than their ids.

    Args:
        service: "openai", or "azure" for a resource with both of Azure's forms of addresses.
        seed: Equal arguments make equal organisations, requests for answers included.
        projects: Number of projects; an archived one comes on top. An Azure resource has one.
        files: Number of files, at least three for each job.
        jobs: Number of jobs; a tenth of them are of the legacy API (none on Azure).
        rows: Rows of each training file.
        stored: Stored chat completions of each project.
        now: The present, in Unix seconds.
        quirks: Its faults; `Quirks.none()` for none.
        wrong: The fraction of prompts that fine-tuned models answer wrongly.
        wavering: The fraction of prompts for which their answer changes from call to call.

    Raises:
        ValueError: There are too few files for the jobs.
    """
    contents = Contents(
        seed=seed,
        service=service,
        projects=projects,
        files=files,
        jobs=jobs,
        rows=rows,
        stored=stored,
        now=now,
        quirks=quirks or Quirks(),
    )
    return RecordedOrganization(contents, Answers(seed, wrong, wavering))


@dataclass
class _Open:
    """The open connections of a server."""

    sockets: set[socket.socket]
    lock: threading.Lock


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, address: tuple[str, int], service: OrganizationService) -> None:
        self.open = _Open(set(), threading.Lock())
        self.service = service
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self.open.lock:
            self.open.sockets.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self.open.lock:
            self.open.sockets.discard(request)
        super().shutdown_request(request)

    def close_connections(self) -> None:
        with self.open.lock:
            sockets = list(self.open.sockets)
        for one in sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that hang up."""


class _Handler(BaseHTTPRequestHandler):
    """Reads requests from a connection and writes the answers of the service."""

    server: _Server  # pyright: ignore[reportIncompatibleVariableOverride] # no other server has it
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16

    def _serve(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        received = Received(self.command, self.path, headers, self._body(headers))
        self._send(self.server.service.answer(received))

    do_GET = do_POST = do_DELETE = do_PUT = do_PATCH = do_HEAD = _serve  # noqa: N815

    def _body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding", "").lower() != "chunked":
            return self.rfile.read(int(headers.get("content-length") or 0))
        body = bytearray()
        while size := int(self.rfile.readline().split(b";")[0].strip() or b"0", 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return bytes(body)

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if answer.stream is not None:
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            for event in answer.stream:
                self.wfile.write(b"%x\r\n%b\r\n" % (len(event), event))
                self.wfile.flush()
            self.wfile.write(b"0\r\n\r\n")
            return
        self.send_header("content-length", str(len(answer.body)))
        self.end_headers()
        self._write(answer)
        self.wfile.flush()

    def _write(self, answer: Answer) -> None:
        body = answer.body
        if answer.cut:
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            self.close_connection = True
        elif answer.slow:
            for start in range(0, len(body), _PIECE):
                self.wfile.write(body[start : start + _PIECE])
                self.wfile.flush()
                time.sleep(0.002)
        else:
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as it is declared
        """Write no log."""
