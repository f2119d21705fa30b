"""Source code of graders, in a process that can compute and do nothing else."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tunesmith.graders import Failure, GraderError, PythonRun, PythonSandbox, PythonValue

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="the sandbox needs Linux"
)

SANDBOX = PythonSandbox(seconds=1)


def run(source: str, sample: object = None, item: object = None) -> PythonValue | Failure:
    return SANDBOX.run(PythonRun(source, sample or {"output_text": "a"}, item or {}))  # type: ignore[arg-type]


def test_what_the_function_returns_is_the_score():
    source = "def grade(sample, item):\n    return len(sample['output_text']) / item['n']"
    assert run(source, {"output_text": "abc"}, {"n": 4}) == PythonValue(0.75)


@pytest.mark.parametrize(
    "body",
    [
        "import re; return float(bool(re.fullmatch('a+', sample['output_text'])))",
        "import json, math, statistics, random, decimal, hashlib, uuid, datetime\n    return 1.0",
        "from datetime import datetime\n    return datetime.strptime('1', '%d').day",
        "print('x' * 100_000); return 1",
        "import difflib; return difflib.SequenceMatcher(None, 'ab', 'ab').ratio()",
    ],
)
def test_the_usual_modules_work(body):
    assert run(f"def grade(sample, item):\n    {body}") == PythonValue(1.0)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("def grade(s, i): return 1 / 0", "ZeroDivisionError"),
        ("def grade(s, i):\n\n    raise ValueError('no')", "ValueError: no (line 3)"),
        ("def grade(s, i) return 1", "SyntaxError"),
        ("def other(s, i): return 1", "no function grade"),
        ("def grade(s): return 1", "TypeError"),
        ("def grade(s, i): return 'x'", "str, not a number"),
        ("def grade(s, i): return True", "bool, not a number"),
        ("def grade(s, i): return float('nan')", "no finite number"),
        ("def grade(s, i): return None", "NoneType"),
        ("def grade(s, i): raise SystemExit", "SystemExit"),
        ("def grade(s, i): return grade(s, i)", "RecursionError"),
        ("import socket\ndef grade(s, i): return 1", "No module named 'socket'"),
        ("def grade(s, i): return len(bytearray(4 << 30))", "memory"),
        ("def grade(s, i):\n    while True: pass", "longer than 1 s"),
        ("import ctypes\ndef grade(s, i): ctypes.string_at(0)", "signal"),
        ("(" * 5000, "SyntaxError"),
    ],
    ids=range(16),
)
def test_code_that_fails_gives_no_score(source, words):
    found = run(source)
    assert isinstance(found, Failure)
    assert found.kind == "runtime"
    assert words in found.message


ESCAPES = [
    "open('/etc/passwd').read()",
    "open('/proc/self/environ').read()",
    "os.listdir('/')",
    "os.stat('/')",
    "os.fork()",
    "os.execv('/bin/true', ['true'])",
    "os.posix_spawn('/bin/true', ['true'], {})",
    "os.kill(os.getppid(), 0)",
    "os.kill(1, 9)",
    "os.pipe()",
    "os.memfd_create('x')",
    "os.unlink('/tmp/x')",
    "os.symlink('/', '/tmp/x')",
    "os.dup(3)",
    "os.chdir('/')",
    "os.setsid()",
    "os.nice(-1)",
    "os.sched_setaffinity(0, {0})",
    "os.getxattr('/', 'user.x')",
    "os.eventfd(0)",
]


@pytest.mark.parametrize("call", ESCAPES)
def test_nothing_but_computing_is_allowed(call):
    source = f"import os\ndef grade(s, i):\n    {call}\n    return 1"
    found = run(source)
    assert isinstance(found, Failure)
    assert "PermissionError" in found.message, found


def test_system_calls_are_refused_below_python_too():
    """By number: what the filter lets through is what computing needs."""
    source = (
        "import ctypes\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "def grade(s, i):\n"
        "    for number in i['calls']:\n"
        "        ctypes.set_errno(0)\n"
        "        if libc.syscall(number, -1, 0, 0, 0, 0, 0) != -1 or ctypes.get_errno() != 1:\n"
        "            return number\n"
        "    return -1\n"
    )
    socket, connect, clone, execve, openat, ptrace, io_uring, bpf, mount, unshare, kill = (
        (41, 42, 56, 59, 257, 101, 425, 321, 165, 272, 62)
        if os.uname().machine == "x86_64"
        else (198, 203, 220, 221, 56, 117, 425, 280, 40, 97, 129)
    )
    calls = [socket, connect, clone, execve, openat, ptrace, io_uring, bpf, mount, unshare, kill]
    assert run(source, item={"calls": [*calls, *range(435, 470)]}) == PythonValue(-1.0)


def test_the_process_has_no_secrets_of_its_parent(monkeypatch):
    monkeypatch.setenv("TUNESMITH_SECRET", "sentinel")
    source = "import os\ndef grade(s, i): return float('TUNESMITH_SECRET' in os.environ)"
    assert run(source) == PythonValue(0.0)


def test_a_flood_of_output_is_cut_off():
    source = "import os\ndef grade(s, i):\n    for n in range(3, 9):\n        try:\n            while True: os.write(n, b'x' * 65536)\n        except OSError: pass\n    return 1"
    found = run(source)
    assert isinstance(found, Failure)


@pytest.mark.slow
def test_no_process_is_left(tmp_path: Path):
    run("def grade(s, i):\n    while True: pass")
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text()
    for child in children.split():
        assert b"sandbox_child" not in Path(f"/proc/{child}/cmdline").read_bytes()


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("def f(a, b): return 1", "no function grade"),
        ("def grade(a): return 1", "two arguments"),
        ("def grade(a, b, c): return 1", "two arguments"),
        ("def grade(", "SyntaxError"),
    ],
)
def test_source_code_is_checked_without_running(source, words):
    with pytest.raises(GraderError, match=words) as caught:
        SANDBOX.check(source)
    assert caught.value.param == "grader.source"


@pytest.mark.parametrize(
    "source",
    [
        "def grade(sample, item): return 1",
        "def grade(sample, item, extra=1): return 1",
        "def grade(*args): return 1",
        "grade = lambda sample, item: 1",
        "while True: pass\ndef grade(a, b): return 1",
    ],
)
def test_source_code_that_may_run_passes_the_check(source):
    SANDBOX.check(source)


def test_another_system_runs_nothing(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(GraderError, match="Linux only"):
        run("def grade(s, i): return 1")
