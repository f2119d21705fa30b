"""HTTP/2: agreed on during the TLS handshake, one connection for many requests."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import socket
import ssl
import threading
from pathlib import Path
from typing import Any

import pytest

import tunesmith
from tunesmith import AsyncClient, Client

KEY = "sk-sentinel-do-not-show-4711"
MODEL = json.dumps({"id": "m", "created": 1, "owned_by": "me"}).encode()


class Http2Stub:
    """Responds to every request with a model; counts connections."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.connections = 0
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://localhost:{self._listener.getsockname()[1]}/v1"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(plain,), daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        import h2.config
        import h2.connection
        import h2.events

        state = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        try:
            with self._context.wrap_socket(plain, server_side=True) as secure:
                state.initiate_connection()
                secure.sendall(state.data_to_send())
                while data := secure.recv(65536):
                    for event in state.receive_data(data):
                        if isinstance(event, h2.events.StreamEnded):
                            length = str(len(MODEL))
                            state.send_headers(event.stream_id, [(":status", "200"), ("content-length", length)])  # fmt: skip
                            state.send_data(event.stream_id, MODEL, end_stream=True)
                    secure.sendall(state.data_to_send())
        except OSError:
            return


@pytest.fixture
def http2_stub(self_signed: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Any:
    pytest.importorskip("h2")
    certificate, key = self_signed
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.set_alpn_protocols(["h2"])
    server = Http2Stub(context)
    yield server
    server.close()


def test_threads_share_a_connection(http2_stub):
    with Client(KEY, base_url=http2_stub.url, http2=True) as client:
        client.models.retrieve("m")
        found: list[str] = []
        ask = lambda: found.append(client.models.retrieve("m").id)  # noqa: E731 - a thread's target
        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == ["m"] * 4
    assert http2_stub.connections == 1


def test_tasks_share_a_connection_of_their_loop(http2_stub):
    client = AsyncClient(KEY, base_url=http2_stub.url, http2=True)

    async def main() -> list[str]:
        async with client:
            await client.models.retrieve("m")
            answers = await asyncio.gather(*(client.models.retrieve("m") for _ in range(5)))
        return [one.id for one in answers]

    assert asyncio.run(main()) == ["m"] * 5
    assert http2_stub.connections == 1
    assert asyncio.run(main()) == ["m"] * 5


@pytest.mark.skipif(importlib.util.find_spec("h2") is not None, reason="h2 is installed")
def test_the_missing_extra_is_named(mode, stub):
    client = mode.client(stub.url, http2=True)
    with pytest.raises(tunesmith.TunesmithError, match=r"\[http2\]"):
        mode.run(client.models.retrieve("m"))
