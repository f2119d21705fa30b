"""What the tab key offers in real shells: commands, options, ids from the server, file names."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from http_stub import Stub, answer

MODELS = ["ada", "ft:gpt-3.5-turbo-0125:local::abc", "ft:gpt-3.5-turbo-0125:local::abd"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name == "nt", reason="runs Unix shells"),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a `tunesmith` on its own path, which asks a server of this test."""
    folder = tmp_path_factory.mktemp("completion")
    stub = Stub()

    def lists(request) -> object:
        if request.path.startswith("/v1/files"):
            rows = [{"id": f"file-{n}", "object": "file", "bytes": 1, "created_at": 1,
                     "filename": "a", "purpose": "fine-tune"} for n in (1, 2)]  # fmt: skip
        else:
            rows = [
                {"id": name, "object": "model", "created": 1, "owned_by": "x"} for name in MODELS
            ]
        return answer({"object": "list", "data": rows, "has_more": False})

    stub.handle = lists
    program = folder / "tunesmith"
    program.write_text(
        f"#!/bin/sh\nTUNESMITH_BASE_URL={stub.url} TUNESMITH_API_KEY=any "
        f'exec {shlex.quote(sys.executable)} -m tunesmith.cli "$@"\n'
    )
    program.chmod(0o755)
    (folder / "my data.jsonl").touch()
    for shell in ("bash", "zsh", "fish", "powershell"):
        script = subprocess.run(
            [program, "completion", shell], capture_output=True, text=True, check=True
        )
        (folder / shell).write_text(script.stdout)
    yield folder
    stub.close()


def shell(place: Path, program: str, script: str) -> list[str]:
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"{program} is not installed")
    options = {"bash": ["--norc"], "zsh": ["-f"], "fish": ["--no-config"]}[program]
    ran = subprocess.run(
        [path, *options, "-c", script],
        cwd=place, capture_output=True, text=True, check=False, timeout=60,
        env=os.environ | {"PATH": f"{place}:{os.environ['PATH']}", "HOME": str(place)},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    return [line.strip() for line in ran.stdout.splitlines() if line.strip()]


def bash(place: Path, line: str) -> list[str]:
    words = shlex.split(line) + ([""] if line.endswith(" ") else [])
    quoted = " ".join(map(shlex.quote, words))
    return shell(
        place,
        "bash",
        f"source ./bash; COMP_LINE={shlex.quote(line)}; COMP_POINT={len(line)}; "
        f"COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; _tunesmith; "
        'printf "%s\\n" "${COMPREPLY[@]}"',
    )


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("tunesmith comp", ["completion"]),
        ("tunesmith api files.get file-", ["file-1", "file-2"]),
        ("tunesmith api files.get -i file-", ["file-1", "file-2"]),
        ("tunesmith api completions.create -m a", ["ada"]),
        ("tunesmith api models.get ft:gpt-3.5-turbo-0125:local::ab", ["abc", "abd"]),
        ("tunesmith tools check my", ["my data.jsonl"]),
        ("tunesmith api fine_tunes.create -t file-", ["file-1", "file-2"]),
    ],
)
def test_bash_offers_ids_and_names_with_blanks(place: Path, line: str, expected: list[str]):
    assert bash(place, line) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("tunesmith comp", ["completion"]),
        ("tunesmith api files.get file-", ["file-1", "file-2"]),
        ("tunesmith api completions.create -m ad", ["ada"]),
    ],
)
def test_fish_offers_ids(place: Path, line: str, expected: list[str]):
    offered = shell(place, "fish", f"source ./fish; complete -C {shlex.quote(line)}")
    assert [one.split("\t")[0] for one in offered] == expected


def test_zsh_offers_ids(place: Path):
    """The function is called with `compadd` replaced, as no test has a line editor."""
    script = (
        "compdef() {}; source ./zsh; compadd() { print -l -- ${(P)2} }; "
        "words=(tunesmith api files.get file-); CURRENT=4; PREFIX=file-; _tunesmith"
    )
    assert shell(place, "zsh", script) == ["file-1", "file-2"]
    words = script.replace("api files.get file-", "mod").replace("CURRENT=4", "CURRENT=2")
    assert "models" in shell(place, "zsh", words)


def test_powershell_s_script_is_whole(place: Path):
    """PowerShell itself is run where there is one."""
    text = (place / "powershell").read_text()
    assert text.count("{") == text.count("}")
    assert "'api/files.get' = 'files'" in text
    assert "'api/completions.create --model' = 'models'" in text
    if program := shutil.which("pwsh"):
        subprocess.run([program, "-NoProfile", "-File", place / "powershell"], check=True)


def test_without_a_server_there_is_silence():
    ran = subprocess.run(
        [sys.executable, "-m", "tunesmith.cli", "completion", "ids", "files"],
        env=os.environ | {"TUNESMITH_BASE_URL": "http://127.0.0.1:9/v1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
