"""Whatever is typed, no traceback: every command with paths and values that cannot be used.

Ctrl-C ends each long command with one line, and a full disk is said to be one.
"""

from __future__ import annotations

import argparse
import io
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from http_stub import Stub, answer, raw
from tunesmith.cli import main
from tunesmith.cli.parser import build_parser

pytestmark = pytest.mark.skipif(os.name == "nt", reason="made of devices and pseudo-terminals")

# What these do needs no bad input to take long, or to leave the machine.
NOT_RUN = {("serve",), ("quickstart",), ("engine", "install"), ("models", "pull")}
VALUES = (
    "missing/file.jsonl",
    "folder",
    "binary.bin",
    "binary.jsonl",
    "empty.jsonl",
    "nested.jsonl",
    "locked/file.jsonl",
    "train.jsonl/x",
    "",
    "\udce9",
    "-1",
)
OF_OPTIONS = ("missing/file.jsonl", "folder", "binary.jsonl", "-1")
PARSER = build_parser()


def leaves(
    parser: argparse.ArgumentParser, path: tuple[str, ...] = ()
) -> dict[tuple[str, ...], argparse.ArgumentParser]:
    found: dict[tuple[str, ...], argparse.ArgumentParser] = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, child in action.choices.items():
                found |= leaves(child, (*path, name))
    return found or {path: parser}


def without_aliases(
    commands: dict[tuple[str, ...], argparse.ArgumentParser],
) -> dict[tuple[str, ...], argparse.ArgumentParser]:
    first = {id(one): path for path, one in reversed(commands.items())}
    return {path: commands[path] for path in first.values() if path not in NOT_RUN}


COMMANDS = without_aliases(leaves(PARSER))


@pytest.fixture(scope="module")
def stub():
    server = Stub()
    server.handle = lambda _: answer({"error": {"message": "There is nothing of this name."}}, 404)
    yield server
    server.close()


@pytest.fixture
def silent():
    """A server that never answers."""
    server = Stub()
    server.handle = lambda _: raw(60.0)
    yield server
    server.close()


@pytest.fixture
def folder(tmp_path: Path, stub: Stub, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with files that cannot be used, and an address where nothing is found."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TUNESMITH_BASE_URL", stub.url)
    monkeypatch.setenv("TUNESMITH_API_KEY", "sk-any")
    monkeypatch.setenv("TUNESMITH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    monkeypatch.setattr("tunesmith.cli.build_parser", lambda: PARSER)
    Path("folder").mkdir()
    Path("locked").mkdir(mode=0o500)
    Path("binary.bin").write_bytes(bytes(range(256)) * 40)
    Path("binary.jsonl").write_bytes(b'{"prompt": "\xff\xfe\x00"' + bytes(range(256)))
    Path("empty.jsonl").touch()
    Path("nested.jsonl").write_text("[" * 100_000, encoding="utf-8")
    Path("train.jsonl").write_text('{"prompt": "a ->", "completion": " b"}\n' * 3, encoding="utf-8")
    return tmp_path


def command_lines(parser: argparse.ArgumentParser, value: str) -> list[list[str]]:
    """Return the arguments of a command: all that it requires, and each option once."""
    needed: list[str] = []
    optional: list[list[str]] = [[]]
    for action in parser._actions:
        if action.nargs == 0 or isinstance(action, argparse._HelpAction):
            continue
        typed = str(next(iter(action.choices))) if action.choices else value
        if not action.option_strings:
            needed += [typed]
        elif action.required:
            needed += [action.option_strings[-1], typed]
        elif action.dest not in {"api_base", "proxy"}:
            optional.append([action.option_strings[-1], typed])
    chosen = optional if value in OF_OPTIONS else optional[:1]
    return [[*one, *needed] for one in chosen]


@pytest.mark.slow
@pytest.mark.parametrize("path", COMMANDS, ids=".".join)
def test_no_traceback_for_bad_input(path: tuple[str, ...], folder: Path, capfd: Any):
    del folder
    for value in VALUES:
        for arguments in command_lines(COMMANDS[path], value):
            code = main([*path, *arguments])
            captured = capfd.readouterr()
            said = captured.err + captured.out
            assert code in {0, 1, 2, 3, 4, 5}, (arguments, said)
            assert "Traceback" not in said, (arguments, said)
            assert "should not have" not in said, (arguments, said, details(said))


def details(said: str) -> str:
    """Return the traceback that was kept in a file."""
    words = " ".join(said.split()).partition("details are in ")[2].split(";")[0]
    return Path(words).read_text(encoding="utf-8")[-2000:] if words else ""


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["--version"], "No space left on device. The disk is full"),
        (["--help"], "No space left on device. The disk is full"),
        (["completion", "bash"], "No space left on device. The disk is full"),
    ],
)
def test_a_full_disk_is_said_to_be_one(line: list[str], said: str):
    with Path("/dev/full").open("w") as full:
        ran = subprocess.run(
            [sys.executable, "-m", "tunesmith.cli", *line],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert ran.returncode == 1
    assert said in " ".join(ran.stderr.split())
    assert "Exception ignored" not in ran.stderr


@pytest.mark.parametrize("line", [["--help"], ["tools", "check", "train.jsonl"]])
def test_a_reader_that_is_gone_is_no_error(line: list[str], folder: Path):
    reader, writer = os.pipe()
    os.close(reader)
    ran = subprocess.run(
        [sys.executable, "-m", "tunesmith.cli", *line],
        cwd=folder, stdout=writer, stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    os.close(writer)
    assert (ran.stderr, ran.returncode) == ("", 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "line",
    [
        "tools check pipe.jsonl",
        "tools fine_tunes.prepare_data -f pipe.jsonl",
        "tools convert pipe.jsonl --to chat",
        "api files.create -f train.jsonl",
        "api models.list",
        "api completions.create -m ada -p x",
        "api chat.completions.create -m ada -g user x --stream",
        "models pull acme/model",
    ],
)
def test_ctrl_c_ends_a_long_command_with_one_line(line: str, folder: Path, silent: Stub):
    from terminal import Terminal

    os.mkfifo("pipe.jsonl")
    environment = {
        "HF_HUB_OFFLINE": "0",
        "HF_ENDPOINT": silent.url.removesuffix("/v1"),
        "TUNESMITH_BASE_URL": silent.url,
    }
    command = [sys.executable, "-m", "tunesmith.cli", *line.split()]
    with Terminal(command, folder=folder, environment=environment) as terminal:
        deadline = time.monotonic() + 30
        while not (silent.requests or "pipe" in line):
            assert time.monotonic() < deadline, terminal.text
            terminal.pause()
        terminal.pause(1.5 if "pipe" in line else 0.2)
        terminal.press("\x03")
        assert terminal.end() == 130
    assert terminal.text.replace("^C", "").strip().endswith("Error: Interrupted.")
    assert "Traceback" not in terminal.text
