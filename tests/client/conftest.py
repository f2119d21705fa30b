"""Fixtures of the client tests: a stub server, and one way to run both modes of the client."""

from __future__ import annotations

import asyncio
import importlib.util
import os
from pathlib import Path
from typing import Any

import pytest

from http_stub import Stub
from tunesmith import AsyncClient, Client, RetryPolicy

FAST = RetryPolicy(max_retries=2, initial_delay=0.01, max_delay=0.02)
KEY = "sk-sentinel-do-not-show-4711"
TRANSPORTS = ["httpx", *(["fast"] if importlib.util.find_spec("pyreqwest") else [])]


class Mode:
    """One mode of the client; every test that takes it runs in both."""

    def __init__(self, name: str, transport: str | None = None) -> None:
        self.name = name
        self.transport = transport or os.environ.get("TUNESMITH_TEST_TRANSPORT")
        self.runner = asyncio.Runner() if name == "async" else None
        self.clients: list[Any] = []

    def client(self, url: str, **settings: Any) -> Any:
        kind = AsyncClient if self.runner else Client
        settings.setdefault("retry", FAST)
        settings.setdefault("transport", self.transport)
        client = kind(KEY, base_url=url, **settings)
        self.clients.append(client)
        return client

    def run(self, value: Any) -> Any:
        """Return the value of an operation, awaited in the async mode."""
        if self.runner is None:
            return value
        return self.runner.run(_awaited(value))

    def items(self, value: Any) -> list[Any]:
        """Return all items of a list, a stream or an iteration."""
        if self.runner is None:
            return list(value)
        return self.runner.run(_collected(value))

    def close(self) -> None:
        for client in self.clients:
            self.run(client.close())
        if self.runner is not None:
            self.runner.close()


async def _awaited(value: Any) -> Any:
    return await value


async def _collected(value: Any) -> list[Any]:
    if not hasattr(value, "__aiter__"):
        value = await value
    return [item async for item in value]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run tests in both modes; those that are marked, on both transports as well.

    `every_transport` is for what a transport itself does: each mode runs on each transport.
    `both_transports` is for the code above it: each transport is used once, by one of the modes.
    """
    if "mode" in metafunc.fixturenames:
        marks = {mark.name for mark in metafunc.definition.iter_markers()}
        if "fast" not in TRANSPORTS or not marks & {"every_transport", "both_transports"}:
            names = ["sync", "async"]
        elif "every_transport" in marks:
            names = ["sync", "async", "sync-fast", "async-fast"]
        else:
            names = ["sync", "async-fast"]
        metafunc.parametrize("mode", names, indirect=True)


@pytest.fixture
def mode(request: pytest.FixtureRequest) -> Any:
    name, _, transport = request.param.partition("-")
    mode = Mode(name, transport or None)
    yield mode
    mode.close()


@pytest.fixture(params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def stub() -> Any:
    server = Stub()
    yield server
    server.close()


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for prefix in ("OPENAI", "TUNESMITH"):
        for name in (
            "API_KEY",
            "ADMIN_KEY",
            "BASE_URL",
            "ORG_ID",
            "PROJECT_ID",
            "CUSTOM_HEADERS",
            "LOG",
        ):
            monkeypatch.delenv(f"{prefix}_{name}", raising=False)


@pytest.fixture
def job() -> dict[str, Any]:
    return {
        "id": "ftjob-1",
        "object": "fine_tuning.job",
        "created_at": 1,
        "error": None,
        "fine_tuned_model": None,
        "finished_at": None,
        "hyperparameters": {"n_epochs": "auto"},
        "model": "gpt-4o-mini",
        "organization_id": "org-1",
        "result_files": [],
        "seed": 1,
        "status": "succeeded",
        "trained_tokens": None,
        "training_file": "file-1",
        "validation_file": None,
    }


@pytest.fixture
def completion() -> dict[str, Any]:
    return {
        "id": "cmpl-1",
        "object": "text_completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "text": "hi", "finish_reason": "stop", "logprobs": None}],
    }


@pytest.fixture
def file_object() -> dict[str, Any]:
    return {
        "id": "file-1",
        "object": "file",
        "bytes": 5,
        "created_at": 1,
        "filename": "train.jsonl",
        "purpose": "fine-tune",
        "status": "processed",
    }


@pytest.fixture
def self_signed(tmp_path: Path) -> tuple[Path, Path]:
    """Paths of a certificate for localhost, signed by itself, and of its key."""
    import subprocess

    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    try:
        subprocess.run(
            [*command.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True
        )
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    return certificate, key


@pytest.fixture
def tls_stub(self_signed: tuple[Path, Path]) -> Any:
    """A TLS server with a self-signed certificate."""
    import ssl
    import threading

    certificate, key = self_signed
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    import socket

    listener = socket.create_server(("127.0.0.1", 0))
    stopped = False

    def serve() -> None:
        while not stopped:
            try:
                connection, _ = listener.accept()
                with context.wrap_socket(connection, server_side=True):
                    pass
            except OSError:
                continue

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()

    class Server:
        url = f"https://localhost:{listener.getsockname()[1]}/v1"

    yield Server()
    stopped = True
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(2)


@pytest.fixture(scope="session")
def issued(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Paths of a certificate for localhost, its key, and the authority that issued it."""
    import subprocess
    from types import SimpleNamespace

    folder = tmp_path_factory.mktemp("certificates")
    (folder / "extensions").write_text(
        "subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\n"
        "authorityKeyIdentifier=keyid\nsubjectKeyIdentifier=hash\n"
    )
    authority = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=Authority -addext keyUsage=critical,keyCertSign -keyout a.key -out a.pem"
    leaf = "openssl req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout l.key -out l.csr"
    signed = "openssl x509 -req -in l.csr -CA a.pem -CAkey a.key -CAcreateserial -days 2 -extfile extensions -out l.pem"
    try:
        for command in (authority, leaf, signed):
            subprocess.run(command.split(), check=True, capture_output=True, cwd=folder)
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    return SimpleNamespace(
        authority=folder / "a.pem", certificate=folder / "l.pem", key=folder / "l.key"
    )
