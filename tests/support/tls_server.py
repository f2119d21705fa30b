"""A TLS server on a real socket whose first handshakes fail as a test says."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
import time
from typing import Any

from http_stub import answer

MODEL = {"id": "m", "created": 1, "owned_by": "me"}


class Handshakes:
    """A TLS server whose first handshakes end as `fault` says."""

    def __init__(self, fault: str, count: int, certificate: Any, key: Any) -> None:
        self.fault, self.count, self.attempts = fault, count, 0
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificate, key)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://localhost:{self.listener.getsockname()[1]}/v1"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.attempts += 1
            with connection, contextlib.suppress(OSError):
                self._answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        if self.attempts > self.count:
            with self.context.wrap_socket(connection, server_side=True) as secure:
                secure.recv(65536)
                secure.sendall(answer(MODEL).steps()[0])
                secure.recv(65536)
            return
        connection.recv(65536)
        if self.fault == "reset":
            option = struct.pack("ii", 1, 0)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, option)
        elif self.fault == "plain":
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            time.sleep(0.05)
        elif self.fault == "half":
            connection.sendall(b"\x16\x03\x03\x00\x7a\x02")
        elif self.fault != "eof":
            alert = {"internal": 80, "disagree": 40}[self.fault]
            connection.sendall(bytes([21, 3, 3, 0, 2, 2, alert]))
            time.sleep(0.05)

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
