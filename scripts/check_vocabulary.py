"""Check that no retired word is left in the code, the docs and the tests.

python scripts/check_vocabulary.py            prints each hit with the word to use instead

`scripts/vocabulary.toml` lists the words. The exit status is 1 if there is a hit.
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tokenize
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
SEARCHED = ("src", "docs", "tests", "benchmarks", "scripts", "README.md", ".ci", "pyproject.toml")
ENDINGS = {".py", ".md", ".ipynb", ".html", ".js", ".mjs", ".css", ".toml", ".sh"}
# Other people's files, data, and the list of words itself.
LEFT_OUT = re.compile(
    r"/vendor/|/axe/|docs/examples/.*\.(csv|jsonl)|scripts/(check_vocabulary|vocabulary)"
)


@dataclass(frozen=True)
class Retired:
    """A retired word.

    Attributes:
        pattern: What finds it.
        instead: What to write instead.
        where: "text" searches whole files; "names" only names in Python code and of files, for
            words that are plain English in a sentence.
        allowed: Pairs of a regular expression for "path:line text" and the reason why a hit
            that it matches is no fault.
    """

    pattern: re.Pattern[str]
    instead: str
    where: str = "text"
    allowed: list[tuple[re.Pattern[str], str]] = field(default_factory=list)


def load() -> list[Retired]:
    """Read the list of words."""
    table = tomllib.loads((ROOT / "scripts/vocabulary.toml").read_text(encoding="utf-8"))
    return [
        Retired(
            re.compile(word["retired"]),
            word["instead"],
            word.get("where", "text"),
            [(re.compile(one["match"]), one["reason"]) for one in word.get("allowed", [])],
        )
        for word in table["word"]
    ]


def files() -> Iterator[tuple[str, str]]:
    """Yield the path and the text of each file that is searched."""
    command = ["git", "ls-files", "--", *SEARCHED]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    for path in listed.stdout.splitlines():
        file = ROOT / path
        if file.suffix in ENDINGS and file.exists() and not LEFT_OUT.search(path):
            yield path, file.read_text(encoding="utf-8")


def names(path: str, text: str) -> Iterator[tuple[int, str]]:
    """Yield the line and the text of each name in Python code, and the file's own name."""
    yield 0, Path(path).stem
    if path.endswith(".py"):
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.NAME:
                yield token.start[0], token.string


def hits(path: str, text: str, words: list[Retired]) -> Iterator[str]:
    """Yield a message for each retired word in a file."""
    lines = [path, *text.splitlines()]
    found = list(names(path, text))
    for word in words:
        if word.where == "names":
            numbers = {number for number, name in found if word.pattern.search(name)}
        else:
            numbers = {number for number, line in enumerate(lines) if word.pattern.search(line)}
        for number in sorted(numbers):
            place = f"{path}:{number}: {lines[number].strip()[:120]}"
            if not any(allowed.search(place) for allowed, _ in word.allowed):
                yield f"{place}\n    retired: {word.pattern.pattern}; write: {word.instead}"


def main() -> int:
    """Print every hit; return the exit status."""
    words = load()
    messages = [message for path, text in files() for message in hits(path, text, words)]
    print("\n".join(messages) or f"None of {len(words)} retired words is left.")
    return bool(messages)


if __name__ == "__main__":
    sys.exit(main())
