"""The table of mistakes: each line is typed in a pseudo-terminal, and answered as the page says.

One engine (simulated) and one program on the terminal serve all lines; the program runs commands
with the function behind `tunesmith`, lines of Python as the interpreter does, and cells as IPython
does, so the whole table takes seconds.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tunesmith.testing import simulate

if os.name == "nt":
    pytest.skip("there are no pseudo-terminals", allow_module_level=True)

from terminal import Terminal

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/guides/troubleshooting.md"
QUESTION = "[Y/n]"
END = "<end of the answer>"
LEAST_ROWS = 60


@dataclass(frozen=True)
class Mistake:
    """A row of the tables."""

    section: str
    typed: str
    says: str
    way_out: str


def mistakes() -> Iterator[Mistake]:
    section = ""
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            section = line[3:]
        elif line.startswith("| `"):
            typed, says, way_out = line.strip("| ").split(" | ")
            yield Mistake(section, typed.strip("`"), says, way_out)


MISTAKES = list(mistakes())

# The blocks up to "Analyse": those after it ask the trained model, and delete it.
TUTORIAL = re.findall(
    r"```python\n(.*?)```", (ROOT / "docs/tutorial.md").read_text(encoding="utf-8"), re.DOTALL
)[:6]

PROGRAM = f"""
import os, shlex, sys, termios, traceback
flags = termios.tcgetattr(0)
flags[3] &= ~termios.ECHO
termios.tcsetattr(0, termios.TCSANOW, flags)
import tunesmith
from tunesmith.cli import main, options
find_spec, url = options.find_spec, os.environ["TUNESMITH_BASE_URL"]
names = {{"tunesmith": tunesmith, "client": tunesmith.Client(api_key="any"), "url": url}}
shell, has_begun = None, False
for line in sys.stdin:
    section, _, typed = line.rstrip("\\n").partition("\\t")
    os.environ["TUNESMITH_BASE_URL"] = "" if section == "Without an engine" else url
    options.find_spec = (lambda _: None) if section == "With the core alone" else find_spec
    if section in ("README", "The tutorial") and not has_begun:
        has_begun = True
        for block in {TUTORIAL!r}:  # it makes its client, too
            exec(block, names)
    if typed.startswith(">>> "):
        try:
            exec(compile(typed[4:], "<stdin>", "single"), names)
        except Exception:
            traceback.print_exc()
    elif section == "In a notebook":
        if shell is None:
            from IPython.core.interactiveshell import InteractiveShell
            shell = InteractiveShell.instance(user_ns=names)
        shell.run_cell(typed)
    else:
        main(shlex.split(os.path.expandvars(typed))[1:])
    print({END!r}, flush=True)
"""


@pytest.fixture(scope="module")
def engine():
    with simulate() as running:
        yield running


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the page describes."""
    place = tmp_path_factory.mktemp("mistakes")
    pairs = [("I love it", "good"), ("I hate it", "bad"), ("so nice", "good"), ("so bad", "bad")]
    rows = [f'{{"prompt": "{text} ->", "completion": " {label}"}}\n' for text, label in pairs]
    (place / "train.jsonl").write_text("".join(rows), encoding="utf-8")
    (place / "broken.jsonl").write_text(rows[0] + '{"prompt": "c ->", "completion" " d"}\n')
    (place / "data.csv").write_text("text,label\nGood,yes\nBad,no\n", encoding="utf-8")
    (place / "alpaca.json").write_text('[{"instruction": "Hi", "input": "", "output": "Hello"}]')
    (place / "photo.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    (place / "empty.jsonl").touch()
    (place / "folder").mkdir()
    shutil.copytree(ROOT / "docs/examples", place / "docs/examples")
    return place


@pytest.fixture(scope="module")
def job(engine, folder: Path) -> str:
    with engine.client() as client:
        created = client.fine_tunes.create(training_file=str(folder / "train.jsonl"), model="ada")
        return client.fine_tunes.wait(created.id, timeout=60).id


@pytest.fixture(scope="module")
def terminal(engine, folder: Path) -> Iterator[Terminal]:
    environment = {
        "TUNESMITH_BASE_URL": engine.base_url,
        "TUNESMITH_HOME": str(folder / "nowhere"),
        "HF_HUB_OFFLINE": "1",
        "COLUMNS": "100",
        "job": "",
    }
    with Terminal([sys.executable, "-c", PROGRAM], environment=environment, folder=folder) as one:
        yield one


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda one: one.typed)
def test_a_mistake_is_answered_as_the_page_says(mistake: Mistake, terminal: Terminal, job: str):
    before = len(terminal.text)
    terminal.press(f"{mistake.section}\t{mistake.typed.replace('ft-abc', job)}\n")
    if terminal.wait_for(END, QUESTION, after=before) == QUESTION:
        terminal.press("\n")  # the file is on the server already
        terminal.wait_for(END, after=before)
    said = " ".join(terminal.text[before:].split())
    rest = said
    for part in mistake.says.split("…"):
        assert part.strip() in rest, said
        rest = rest.partition(part.strip())[2]
    if not mistake.typed.startswith(">>> "):
        assert "Traceback" not in said
        assert "should not have" not in said


def test_the_table_is_long_enough_and_each_row_has_a_way_out():
    assert len(MISTAKES) >= LEAST_ROWS
    assert len({one.typed for one in MISTAKES}) == len(MISTAKES)
    for one in MISTAKES:
        assert len(one.says) > 12, one
        assert re.search(r"\w", one.way_out), one
