r"""Run commands and draw what the terminal showed as a small animated SVG.

python scripts/terminal_cast.py docs/images/terminal.svg 'tunesmith tools check train.jsonl' …

Each command is really run, by bash, one after the other; the lines appear in the picture in the
order and at the pace in which they came, except that no pause is longer than a second. A command
that begins with "@", such as '@model=$(…)', sets a variable without being shown; later commands
are shown with its value. Whoever asks for less motion sees the last screen.
"""

from __future__ import annotations

import os
import re
import string
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass
from html import escape
from pathlib import Path

COLUMNS, ROWS = 92, 24
LINE_HEIGHT, CHARACTER_WIDTH, MARGIN = 19, 8.0, 16
LONGEST_PAUSE, TYPING_SECONDS, END_SECONDS = 1.0, 0.9, 6.0
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")


@dataclass(frozen=True)
class Line:
    """A line of the screen.

    Attributes:
        at: Seconds from the beginning.
        text: What it says.
        kind: "typed" or "printed".
    """

    at: float
    text: str
    kind: str


def record(commands: list[str]) -> list[Line]:
    """Run the commands and return the lines of the screen."""
    lines: list[Line] = []
    variables: dict[str, str] = {}
    now = 0.3
    for command in commands:
        if command.startswith("@"):
            name, _, value = command[1:].partition("=")
            variables[name] = _output(f'printf %s "{value}"', variables)
            continue
        shown = string.Template(command).safe_substitute(variables)
        lines += _wrapped(now, f"$ {shown}", "typed")
        now += TYPING_SECONDS
        last = time.monotonic()
        with subprocess.Popen(
            ["/bin/bash", "-c", command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | variables | {"COLUMNS": str(COLUMNS)},
        ) as running:
            for text in running.stdout or ():
                now += min(time.monotonic() - last, LONGEST_PAUSE)
                last = time.monotonic()
                lines += _wrapped(now, CONTROL.sub("", text).rstrip("\n"), "printed")
        if running.returncode:
            sys.exit(f"{command}: exit status {running.returncode}")
        now += LONGEST_PAUSE
        lines.append(Line(now, "", "printed"))
    return lines[:-1]


def draw(lines: list[Line]) -> str:
    """Return the picture of lines that appear one after the other, and scroll."""
    total = lines[-1].at + END_SECONDS
    height = ROWS * LINE_HEIGHT + 2 * MARGIN
    width = round(COLUMNS * CHARACTER_WIDTH + 2 * MARGIN)
    rules, texts = [], []
    for number, line in enumerate(lines):
        begin = 100 * line.at / total
        rules.append(
            f"@keyframes a{number}{{0%,{begin:.2f}%{{opacity:0}}"
            f"{begin + 0.01:.2f}%,100%{{opacity:1}}}}"
        )
        texts.append(
            f'<text y="{MARGIN + (number + 1) * LINE_HEIGHT - 5}" class="{line.kind}" '
            f'style="animation-name:a{number}">{escape(line.text)}</text>'
        )
    steps = ["0%{transform:none}"]
    for number, line in enumerate(lines):
        if number >= ROWS:
            moved = -(number - ROWS + 1) * LINE_HEIGHT
            steps.append(f"{100 * line.at / total:.2f}%{{transform:translateY({moved}px)}}")
    last = -max(0, len(lines) - ROWS) * LINE_HEIGHT
    steps.append(f"100%{{transform:translateY({last}px)}}")
    style = f"""
    text{{font:13.3px ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace;fill:#d5dbe3;
      white-space:pre;animation:{total:.1f}s step-end infinite}}
    .typed{{fill:#7cd3e4}}
    #all{{animation:scroll {total:.1f}s step-end infinite}}
    @keyframes scroll{{{"".join(steps)}}}
    {"".join(rules)}
    @media (prefers-reduced-motion:reduce){{text,#all{{animation:none}}
      #all{{transform:translateY({last}px)}}}}"""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img">'
        f"<title>A terminal: {escape(lines[0].text)}</title><style>{style}</style>"
        f'<rect width="{width}" height="{height}" rx="8" fill="#14181d"/>'
        f'<svg x="{MARGIN}" y="0" width="{width - 2 * MARGIN}" height="{height}">'
        f'<g id="all">{"".join(texts)}</g></svg></svg>\n'
    )


def _output(command: str, variables: dict[str, str]) -> str:
    ran = subprocess.run(
        ["/bin/bash", "-c", command],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | variables,
    )
    return ran.stdout.strip()


def _wrapped(at: float, text: str, kind: str) -> list[Line]:
    parts = textwrap.wrap(
        text, COLUMNS, drop_whitespace=False, replace_whitespace=False, break_on_hyphens=False
    ) or [""]
    return [Line(at, part, kind) for part in parts]


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(draw(record(sys.argv[2:])), encoding="utf-8")
