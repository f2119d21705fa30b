"""Requests that nobody who means well would send, made from an API's OpenAPI document.

Every operation gets requests that fit the document, fit it but for some values, or are no
requests of it at all. The same seed makes the same requests. Of engines this module knows
nothing: what a request may do is for the test to judge.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

DEEP = 3000
DEEPEST = 4

STRINGS = [
    "",
    " ",
    "\x00",
    "a\x00b",
    "\ud800",
    "\udfff\ud800",
    "\u202e\ufeff\u2028",
    "é" * 300,
    "\U0001f600" * 50,
    "../../../etc/passwd",
    "%00",
    "%2e%2e%2f",
    "{}",
    "null",
    "' OR 1=1 --",
    "<script>alert(1)</script>",
    "-1",
    "1e400",
    "NaN",
    "a" * 70_000,
    "<|im_end|>",
    "(a+)+$",
    "ft:none:x::y",
    "file-" + "x" * 24,
]
NUMBERS = [0, -0.0, -1, 1, 2, 1e-45, 1e308, -1e308, 2**31, 2**53 + 1, 2**63, -(2**64), 10**30]
OTHERS: list[Any] = [
    None,
    True,
    False,
    [],
    {},
    [[]],
    [None],
    {"": None},
    float("nan"),
    float("inf"),
]
CONTENT_TYPES = [
    "application/json",
    "application/json; charset=utf-16",
    "text/plain",
    "application/x-www-form-urlencoded",
    "multipart/form-data",
    "multipart/form-data; boundary=",
    "multipart/form-data; boundary=b",
    "application/octet-stream",
    "\xff",
    "",
]
BROKEN_BODIES = [
    b"",
    b"{",
    b"[1,",
    b"nul",
    b'{"a": NaN}',
    b"\xff\xfe{\x00}\x00",
    b"\xef\xbb\xbf{}",
    b'{"model": "\xed\xa0\x80"}',
    b'{"model": "ada", "model": "ada", "prompt": 1}',
    b"[" * DEEP + b"]" * DEEP,
    b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    b'{"n": ' + b"9" * 5000 + b"}",
    b"--b\r\n\r\n\r\n--b--",
    b'--b\r\ncontent-disposition: form-data; name="purpose"\r\n\r\n\xff\r\n--b--\r\n',
    b'--b\r\ncontent-disposition: form-data; name="file"; filename="\xff/../x"\r\n\r\n{}\r\n--b--',
    b"--b\r\ncontent-disposition: form-data\r\n\r\nx\r\n--b",
    b"purpose=fine-tune&file=x",
]


@dataclass
class HostileRequest:
    """One request; `path` is encoded."""

    method: str
    path: str
    query: list[tuple[str, str]] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    content: bytes = b""


class HostileRequests:
    """Makes requests from an OpenAPI document.

    Args:
        document: The document.
        known: Values that exist in the engine, by the name of the field or parameter; the others
            are made up.
        seed: Of the random numbers.
    """

    def __init__(self, document: dict[str, Any], known: dict[str, list[Any]], seed: int) -> None:
        self._schemas = document["components"]["schemas"]
        self._known = known
        self._random = random.Random(seed)  # noqa: S311
        self._operations = [
            (method, path, operation)
            for path, operations in document["paths"].items()
            for method, operation in operations.items()
        ]

    def __len__(self) -> int:
        return len(self._operations)

    def __iter__(self) -> Iterator[HostileRequest]:
        """Yield requests without end, each operation in turn."""
        while True:
            for method, path, operation in self._operations:
                yield self._request(method.upper(), path, operation)

    def _chance(self, share: float) -> bool:
        return self._random.random() < share

    def _request(self, method: str, path: str, operation: dict[str, Any]) -> HostileRequest:
        parameters = operation.get("parameters", [])
        for parameter in parameters:
            if parameter["in"] == "path":
                value = self._value(
                    parameter["schema"], parameter["name"], hostile=self._chance(0.3)
                )
                path = path.replace(f"{{{parameter['name']}}}", _quoted(value))
        query = [
            (one["name"], _text(self._value(one["schema"], one["name"], hostile=self._chance(0.4))))
            for one in parameters
            if one["in"] == "query" and self._chance(0.5)
        ]
        headers = self._headers()
        content = self._content(operation, headers)
        if self._chance(0.02):
            method = self._random.choice(["PUT", "PATCH", "OPTIONS", "HEAD", "TRACE", "XYZZY"])
        return HostileRequest(method, path, query, headers, content)

    def _headers(self) -> dict[str, str]:
        headers: dict[str, str] = {}
        if self._chance(0.1):
            headers["idempotency-key"] = self._random.choice(["k", "x" * 600, "\xff", ""])
        if self._chance(0.05):
            headers["authorization"] = self._random.choice(["Bearer x", "Basic \xff", "Bearer", ""])
        if self._chance(0.05):
            headers["origin"] = self._random.choice(["null", "http://evil.example", "http://[", ""])
        if self._chance(0.05):
            headers["range"] = self._random.choice(["bytes=0-1", "bytes=9-1", "bytes=x", "\xff"])
        return headers

    def _content(self, operation: dict[str, Any], headers: dict[str, str]) -> bytes:
        kinds = operation.get("requestBody", {}).get("content", {})
        if self._chance(0.15):
            headers["content-type"] = self._random.choice(CONTENT_TYPES)
            return self._random.choice(BROKEN_BODIES)
        if "multipart/form-data" in kinds:
            headers["content-type"] = "multipart/form-data; boundary=b"
            return self._form(kinds["multipart/form-data"]["schema"])
        if "application/json" not in kinds:
            return b""
        headers["content-type"] = "application/json"
        body = self._value(kinds["application/json"]["schema"], "", hostile=self._chance(0.05))
        if isinstance(body, dict) and self._chance(0.5):
            for name in self._random.sample(sorted(body), min(len(body), 2)):
                body[name] = self._hostile()
        return json.dumps(body).encode()

    def _form(self, schema: dict[str, Any]) -> bytes:
        parts = []
        for name, one in schema["properties"].items():
            if name not in schema["required"] and self._chance(0.6):
                continue
            binary = one.get("format") == "binary"
            value = _text(self._value(one, name, hostile=self._chance(0.3)))
            file = f'; filename="{self._file_name()}"' if binary else ""
            head = f'--b\r\ncontent-disposition: form-data; name="{name}"{file}\r\n\r\n'
            parts.append((head + value + "\r\n").encode("utf-8", "surrogatepass"))
        self._random.shuffle(parts)
        return b"".join(parts) + b"--b--\r\n"

    def _file_name(self) -> str:
        return self._random.choice(STRINGS)[:5000] if self._chance(0.5) else "train.jsonl"

    def _hostile(self) -> Any:
        kind = self._random.randrange(5)
        if kind == 0:
            return self._random.choice(STRINGS)
        if kind == 1:
            return self._random.choice(NUMBERS)
        if kind == 2:
            return self._random.choice(OTHERS)
        if kind == 3:
            return [
                self._random.choice(STRINGS + NUMBERS)
                for _ in range(self._random.choice([1, 3, 200]))
            ]
        return {self._random.choice(STRINGS): self._random.choice(STRINGS + NUMBERS)}

    def _value(
        self, schema: dict[str, Any], name: str, *, hostile: bool = False, depth: int = 0
    ) -> Any:
        if hostile:
            return self._hostile()
        if name in self._known and self._chance(0.8):
            return self._random.choice(self._known[name])
        if "$ref" in schema:
            schema = self._schemas[schema["$ref"].rpartition("/")[2]]
        for union in ("anyOf", "oneOf", "allOf"):
            if union in schema:
                return self._value(self._random.choice(schema[union]), name, depth=depth)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return self._random.choice(schema["enum"])
        return self._of_type(schema, name, depth)

    def _of_type(self, schema: dict[str, Any], name: str, depth: int) -> Any:
        kind = schema.get("type")
        low, high = schema.get("minimum", 0), schema.get("maximum", 4)
        if kind == "boolean":
            value: Any = self._chance(0.5)
        elif kind == "integer":
            value = self._random.randint(int(low), max(int(low), min(int(high), int(low) + 4)))
        elif kind == "number":
            value = self._random.choice([low, high, (low + high) / 2])
        elif kind == "string":
            value = self._random.choice(["a", "I love it ->", "positive", "é\n", "x" * 40])
        elif kind == "array":
            items = schema.get("items", {})
            number = 0 if depth > DEEPEST else self._random.randint(0, 2)
            value = [self._value(items, name, depth=depth + 1) for _ in range(number)]
        elif kind == "object" or "properties" in schema:
            value = {
                one: self._value(inner, one, hostile=self._chance(0.04), depth=depth + 1)
                for one, inner in schema.get("properties", {}).items()
                if one in schema.get("required", []) or (depth < DEEPEST and self._chance(0.15))
            }
        else:
            value = self._hostile()
        return value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _quoted(value: Any) -> str:
    return quote(_text(value).encode("utf-8", "surrogatepass")[:3000], safe="") or "%20"
