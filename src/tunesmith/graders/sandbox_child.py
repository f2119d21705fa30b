"""The process that runs a python grader's source code; `python_sandbox` starts it.

It runs by its path in an interpreter that knows nothing of this package, so it imports the standard
library only. What source code may import is loaded before the process is closed off: afterwards no
file can be opened, not even a module's.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import io
import json
import math
import os
import platform
import resource
import struct
import sys
from typing import Any

_MODULES = (
    "_strptime", "abc", "array", "ast", "base64", "binascii", "bisect", "cmath", "collections",
    "collections.abc", "copy", "csv", "dataclasses", "datetime", "decimal", "difflib", "enum",
    "fractions", "functools", "hashlib", "heapq", "html", "html.parser", "inspect", "io",
    "itertools", "json", "keyword", "math", "numbers", "operator", "pprint", "random", "re",
    "reprlib", "statistics", "string", "struct", "sys", "textwrap", "time", "token", "tokenize",
    "traceback", "types", "typing", "unicodedata", "uuid", "warnings", "weakref", "zlib",
    "encodings.idna", "encodings.ascii", "encodings.latin_1", "encodings.utf_16",
    "xml.etree.ElementTree", "rapidfuzz", "rapidfuzz.fuzz", "rapidfuzz.utils",
    "rapidfuzz.process", "rapidfuzz.distance",
)  # fmt: skip

# The numbers of the system calls that computing needs: memory, time, waiting for a lock, reading
# and writing what is open, ending. Whatever is not listed fails with EPERM: above all opening
# files, sockets and processes, and signals to others.
_CALLS = {
    "x86_64": (
        0, 1, 3, 5, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 28, 35, 39, 60, 96, 98, 100, 131, 186,
        201, 202, 219, 228, 229, 230, 231, 318, 334,
    ),
    "aarch64": (
        57, 62, 63, 64, 80, 93, 94, 98, 101, 113, 114, 115, 124, 128, 132, 134, 135, 139, 153,
        165, 169, 172, 178, 214, 215, 216, 222, 226, 233, 278, 293,
    ),
}  # fmt: skip
_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_SECCOMP_CALLS = {"x86_64": 317, "aarch64": 277}
_X32 = 0x40000000
_ALLOW, _REFUSE, _KILL = 0x7FFF0000, 0x00050000 | 1, 0x80000000
_NO_NEW_PRIVILEGES = 38
_NEW_USER, _NEW_NETWORK, _NEW_IPC = 0x10000000, 0x40000000, 0x08000000


class _UnavailableError(Exception):
    """The process cannot be closed off."""


def main() -> None:
    """Read an order, close the process off, run the order, write the answer."""
    order: dict[str, Any] = json.loads(sys.stdin.buffer.read())
    output = os.dup(1)
    for descriptor in (0, 1, 2):
        os.close(descriptor)
    sys.stdin, sys.stdout, sys.stderr = io.StringIO(), _Nothing(), _Nothing()
    try:
        _load_modules()
        _close_off(order["seconds"], order["memory_bytes"])
        answer = _run(order)
    except _UnavailableError as error:
        answer = {"kind": "unavailable", "message": str(error)}
    data = json.dumps(answer).encode()
    while data:
        data = data[os.write(output, data) :]
    os._exit(0)


class _Nothing(io.TextIOBase):
    """Where printed text goes."""

    def write(self, text: str) -> int:
        return len(text)


def _load_modules() -> None:
    for name in _MODULES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def _close_off(seconds: float, memory_bytes: int) -> None:
    """Limit the process for good.

    Raises:
        _UnavailableError: It is not closed off; nothing may be run.
    """
    for limit, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_CPU, math.ceil(seconds + time_used())),
    ):
        resource.setrlimit(limit, (value, value))
    libc = ctypes.CDLL(None, use_errno=True)
    # A second lock where the system allows it: a network without interfaces.
    libc.unshare(_NEW_USER | _NEW_NETWORK | _NEW_IPC)
    machine = platform.machine()
    if machine not in _CALLS or sys.maxsize < 1 << 32:
        raise _UnavailableError(f"its processor, {machine}, is not provided for")
    if libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) != 0:
        raise _UnavailableError("its kernel does not know PR_SET_NO_NEW_PRIVS")
    code = _filter(machine)
    buffer = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(buffer))
    held = ctypes.create_string_buffer(program, len(program))
    every_thread = 1
    if libc.syscall(_SECCOMP_CALLS[machine], 1, every_thread, ctypes.byref(held)) != 0:
        reason = os.strerror(ctypes.get_errno())
        raise _UnavailableError(f"its kernel refuses the seccomp filter ({reason})")
    for act in (lambda: os.open("/", os.O_RDONLY), lambda: os.kill(os.getppid(), 0), os.pipe):
        with contextlib.suppress(PermissionError):
            act()
            raise _UnavailableError("its seccomp filter has no effect")


def time_used() -> float:
    """Return the processor seconds that this process has used."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _filter(machine: str) -> bytes:
    """Return the filter's program: the machine, then the call's number, compared one by one."""
    load, equal, at_least, end = 0x20, 0x15, 0x35, 0x06
    calls = _CALLS[machine]
    code = [
        struct.pack("HBBI", load, 0, 0, 4),
        struct.pack("HBBI", equal, 1, 0, _ARCHITECTURES[machine]),
        struct.pack("HBBI", end, 0, 0, _KILL),
        struct.pack("HBBI", load, 0, 0, 0),
        struct.pack("HBBI", at_least, 0, 1, _X32),
        struct.pack("HBBI", end, 0, 0, _KILL),
    ]
    for place, number in enumerate(calls):
        code.append(struct.pack("HBBI", equal, len(calls) - place, 0, number))
    code.extend((struct.pack("HBBI", end, 0, 0, _REFUSE), struct.pack("HBBI", end, 0, 0, _ALLOW)))
    return b"".join(code)


def _run(order: dict[str, Any]) -> dict[str, Any]:
    try:
        source = compile(order["source"], "grader", "exec", dont_inherit=True)
        if order["action"] == "check":
            _check_function(order["source"])
            return {"kind": "value", "value": 0.0}
        names: dict[str, Any] = {"__name__": "grader", "__builtins__": __builtins__}
        exec(source, names)  # noqa: S102 - what this process is for
        function = names.get("grade")
        if not callable(function):
            return _error("the source code has no function grade(sample, item)")
        return _checked(function(order["sample"], order["item"]))
    except MemoryError:
        return _error("MemoryError: the source code needs more memory than a grader has")
    except BaseException as error:  # noqa: BLE001 - whatever the source code raises
        return _error(_described(error))


def _check_function(source: str) -> None:
    import ast  # noqa: PLC0415 - loaded already; the name is needed here alone

    functions = [
        node
        for node in ast.parse(source).body
        if isinstance(node, ast.FunctionDef) and node.name == "grade"
    ]
    assigned = any(
        isinstance(node, ast.Assign | ast.ImportFrom | ast.If | ast.Try)
        for node in ast.parse(source).body
    )
    if functions:
        arguments = functions[-1].args
        count = len(arguments.posonlyargs) + len(arguments.args)
        required = count - len(arguments.defaults)
        if required > 2 or (count < 2 and arguments.vararg is None):  # noqa: PLR2004
            raise TypeError("grade takes two arguments, sample and item")
    elif not assigned:
        raise NameError("the source code has no function grade(sample, item)")


def _checked(value: Any) -> dict[str, Any]:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return _error(f"grade returned {type(value).__name__}, not a number")
    number = float(value)
    if not math.isfinite(number):
        return _error(f"grade returned {number}, no finite number")
    return {"kind": "value", "value": number}


def _described(error: BaseException) -> str:
    """Return an exception as a sentence, with the line of the source code that it came from."""
    name = type(error).__name__
    text = f"{name}: {error}" if str(error) else name
    if isinstance(error, ModuleNotFoundError):
        text += "; graders can import the usual modules for computing and rapidfuzz, nothing else"
    line = error.lineno if isinstance(error, SyntaxError) else None
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "grader":
            line = trace.tb_lineno
        trace = trace.tb_next
    return text if line is None or isinstance(error, SyntaxError) else f"{text} (line {line})"


def _error(message: str) -> dict[str, Any]:
    return {"kind": "error", "message": message[:2000]}


if __name__ == "__main__":
    main()
