"""Cost of preparing a file, and of rows and tables of odd sizes: CPU time and memory, by version.

    python benchmarks/datasets_prepare.py [--source SRC ...] [--runs 3] [--only TEXT ...]

`--source` names the `src` folders to compare, such as that of an older checkout beside this one;
their runs alternate. Every number is the median of fresh processes. Files: 60,000 pairs as JSONL
and as CSV, as many that have their format already, 15,000 conversations, 10,000 columns as CSV and
as JSONL, and one row of 50 MB. `--only` takes the cases whose file names begin with a text.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

CHECK = "from tunesmith import datasets; import sys; datasets.check_file(sys.argv[1])"
PREPARE = """
import sys
from tunesmith.datasets.prepare import prepare_data
class Dialog:
    def say(self, text): pass
    def ask(self, question, *, default): return default
prepare_data(sys.argv[1], Dialog())
"""
COLUMNS = 10_000


def make_files(folder: Path, rows: int) -> None:
    """Write the files."""
    draw = random.Random(1)  # noqa: S311 - the same rows every time
    words = ["".join(draw.choices("etaoinshrdlucmfw", k=draw.randint(2, 9))) for _ in range(5000)]

    def text(length: int) -> str:
        return " ".join(draw.choices(words, k=length))

    with (folder / "pairs.jsonl").open("w") as jsonl, (folder / "pairs.csv").open("w") as table:
        table.write("prompt,completion\n")
        for _ in range(rows):
            prompt, completion = text(24), text(8)
            jsonl.write(json.dumps({"prompt": prompt, "completion": completion}) + "\n")
            table.write(f"{prompt},{completion}\n")
    with (folder / "formatted.jsonl").open("w") as jsonl:
        for _ in range(rows):
            row = {"prompt": f"{text(24)}\n\n###\n\n", "completion": f" {text(8)} END"}
            jsonl.write(json.dumps(row) + "\n")
    with (folder / "chat.jsonl").open("w") as jsonl:
        for _ in range(rows // 4):
            turns = (("system", 10), ("user", 40), ("assistant", 60))
            messages = [{"role": role, "content": text(length)} for role, length in turns]
            jsonl.write(json.dumps({"messages": messages}) + "\n")
    names = [f"c{number}" for number in range(COLUMNS - 2)]
    with (folder / "wide.csv").open("w") as table, (folder / "wide.jsonl").open("w") as jsonl:
        table.write(",".join([*names, "prompt", "completion"]) + "\n")
        for number in range(200):
            cells = draw.choices("abcdefgh", k=len(names))
            table.write(",".join([*cells, text(5), text(1)]) + "\n")
            if number < 60:
                row = dict.fromkeys(names, "abc") | {"prompt": f"p{number}", "completion": "c"}
                jsonl.write(json.dumps(row) + "\n")
    for name, long in (("words.jsonl", text(8_000_000)), ("run.jsonl", "a" * 50_000_000)):
        with (folder / name).open("w") as jsonl:
            jsonl.write(json.dumps({"prompt": long, "completion": " yes"}) + "\n")
            jsonl.write(json.dumps({"prompt": "short", "completion": " no"}) + "\n")


def cost(command: list[str], source: str, folder: Path) -> tuple[float, float]:
    """Return the CPU seconds and the peak memory in MiB of a process."""
    environment = os.environ | {"PYTHONPATH": str(Path(source).resolve())}
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL)
    _, _, usage = os.wait4(process.pid, 0)
    process.returncode = 0
    for written in folder.glob("*_prepared*"):
        written.unlink()
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", nargs="+", default=[str(Path(__file__).parents[1] / "src")])
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", nargs="+", default=[""], metavar="TEXT")
    parser.add_argument("--make", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.make:
        make_files(Path(arguments.make), arguments.rows)
        return
    prepared = ("pairs.jsonl", "formatted.jsonl", "chat.jsonl", "pairs.csv", "wide.csv")
    cases = [("prepare", PREPARE, name) for name in prepared]
    names = (*prepared[:4], "wide.csv", "wide.jsonl", "words.jsonl", "run.jsonl")
    cases += [("check", CHECK, name) for name in names]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # In a process of its own: a child begins with the peak memory of its parent.
        subprocess.run(
            [sys.executable, __file__, "--make", name, "--rows", str(arguments.rows)], check=True
        )
        print("| what | file | source | CPU s | MB/s | MiB |\n|---|---|---|---:|---:|---:|")
        for what, code, file in cases:
            if not file.startswith(tuple(arguments.only)):
                continue
            costs: dict[str, list[tuple[float, float]]] = {key: [] for key in arguments.source}
            for _ in range(arguments.runs):
                for source, found in costs.items():
                    found.append(cost([sys.executable, "-c", code, file], source, folder))
            size = (folder / file).stat().st_size / 1e6
            for source, found in costs.items():
                cpu = statistics.median(seconds for seconds, _ in found)
                memory = statistics.median(peak for _, peak in found)
                print(
                    f"| {what} | {file} {size:.0f} MB | {source} | {cpu:.1f} | {size / cpu:.0f} "
                    f"| {memory:.0f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
