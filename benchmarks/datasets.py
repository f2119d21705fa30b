"""Cost of checking: lower bounds, our checks, and the tools that people use today, in one run.

    python benchmarks/datasets.py [--rows 1000000] [--runs 3] [--old VENV] [--peers VENV]

Every number is the median of fresh processes: CPU time of the whole process (user and system,
start-up included) and its peak memory. `--old` names a virtual environment with the old official
tool (pip install "openai==0.28.1" pandas openpyxl), `--peers` one with the modern validators
(pip install parallelogram==0.4.2 cleanllm==4.0.0 together==3.1.1 ftml-cli==0.1.0 finelint==0.2.0).
Without them only our own numbers are printed. Memory is the peak above that of a process that only
imports tunesmith.datasets.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

MEGABYTE = 1_000_000
TIME_LIMIT = 100
CHAT_ROWS = 38_741

IMPORT = "from tunesmith import datasets; datasets.check_file; import tunesmith.datasets.check"
EXTRAS = f"{IMPORT}; import msgspec, numpy"
LOWER_BOUND_JSON = """
import json, sys
for line in open(sys.argv[1], "rb"): json.loads(line)
"""
LOWER_BOUND_MSGSPEC = """
import msgspec, sys
decode = msgspec.json.Decoder().decode_lines
with open(sys.argv[1], "rb") as stream:
    while chunk := stream.read(1 << 20): decode(chunk + stream.readline())
"""
CHECK = "from tunesmith import datasets; import sys; datasets.check_file(sys.argv[1])"
CORE = "import sys; sys.modules['msgspec'] = sys.modules['numpy'] = None;" + CHECK
TOKENS = """
from tunesmith import datasets; import sys
datasets.check_file(sys.argv[1], "openai", model=sys.argv[2], count_tokens=True)
"""
TWO = "from tunesmith import datasets; import sys; datasets.check_file(sys.argv[1], workers=2)"
PLAN = "from tunesmith import datasets; import sys; datasets.read(sys.argv[1]).plan().fixes"
CONVERT = """
from tunesmith import datasets; import sys
for row in datasets.read(sys.argv[1], to="sharegpt"): pass
"""
TOGETHER = "import sys; from together.lib.utils.files import check_file; check_file(sys.argv[1])"


class Cost(NamedTuple):
    """CPU seconds, wall seconds and peak memory in MiB of a process."""

    cpu: float
    wall: float
    memory: float
    ended: bool


def run(command: list[str], folder: Path) -> Cost:
    """Run a command; its CPU time and memory include those of its own children."""
    start = time.perf_counter()
    process = subprocess.Popen(
        command,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"},
        preexec_fn=limit_time,  # noqa: PLW1509 - one thread, and only a limit is set
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - start
    ended = process.returncode != -signal.SIGXCPU
    return Cost(usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss / 1024, ended)


def limit_time() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (TIME_LIMIT, TIME_LIMIT))


def median(command: list[str], folder: Path, runs: int) -> Cost:
    """Return the median of several runs; a command that had to be stopped is not run again."""
    costs: list[Cost] = []
    for _ in range(runs):
        costs.append(run(command, folder))
        if not costs[-1].ended or costs[-1].cpu > TIME_LIMIT / 4:
            break
    return Cost(
        statistics.median(cost.cpu for cost in costs),
        statistics.median(cost.wall for cost in costs),
        statistics.median(cost.memory for cost in costs),
        all(cost.ended for cost in costs),
    )


def make_files(folder: Path, rows: int) -> None:
    """Write the prompt/completion file, one of a tenth of its rows, and the chat file."""
    draw = random.Random(1)  # noqa: S311 - the same rows every time
    words = ["".join(draw.choices("etaoinshrdlucmfw", k=draw.randint(2, 9))) for _ in range(5000)]

    def text(length: int) -> str:
        return " ".join(draw.choices(words, k=length))

    with (folder / "pairs.jsonl").open("w") as whole, (folder / "tenth.jsonl").open("w") as tenth:
        for number in range(rows):
            label = draw.choice([" positive", " negative"])
            row = {"prompt": f"{text(24)}\n\n###\n\n", "completion": f"{label} END"}
            line = json.dumps(row) + "\n"
            whole.write(line)
            if number < rows // 10:
                tenth.write(line)
    with (folder / "chat.jsonl").open("w") as stream:
        for _ in range(CHAT_ROWS):
            turns = [("system", "You are kind."), ("user", text(60)), ("assistant", text(40))]
            messages = [{"role": role, "content": content} for role, content in turns]
            stream.write(json.dumps({"messages": messages}) + "\n")


def cases(arguments: argparse.Namespace) -> list[tuple[str, str, list[str]]]:
    """Return name, file and command of everything that is measured."""
    python = sys.executable
    found = []
    for file in ("pairs.jsonl", "chat.jsonl"):
        found += [
            ("lower bound: read, json.loads", file, [python, "-c", LOWER_BOUND_JSON, file]),
            ("lower bound: read, msgspec", file, [python, "-c", LOWER_BOUND_MSGSPEC, file]),
            ("tunesmith: all checks, token limit", file, [python, "-c", CHECK, file]),
            ("tunesmith: the same, core install", file, [python, "-c", CORE, file]),
            ("tunesmith: two processes", file, [python, "-c", TWO, file]),
            ("tunesmith: token totals, cl100k", file, [python, "-c", TOKENS, file, "davinci-002"]),
            ("tunesmith: token totals, r50k", file, [python, "-c", TOKENS, file, "davinci"]),
        ]
    found += [
        ("tunesmith: the fixes of a plan", "chat.jsonl", [python, "-c", PLAN, "chat.jsonl"]),
        ("tunesmith: converted to ShareGPT", "chat.jsonl", [python, "-c", CONVERT, "chat.jsonl"]),
    ]
    found.append(
        ("tunesmith: a tenth of the rows", "tenth.jsonl", [python, "-c", CHECK, "tenth.jsonl"])
    )
    if arguments.old:
        old = [f"{arguments.old}/bin/openai", "tools", "fine_tunes.prepare_data", "-q", "-f"]
        found.append(("old official tool", "pairs.jsonl", [*old, "pairs.jsonl"]))
    if arguments.peers:
        binaries = Path(arguments.peers).absolute() / "bin"
        found += [
            (
                "cleanllm preflight",
                "chat.jsonl",
                [f"{binaries}/cleanllm", "preflight", "--framework", "trl", "chat.jsonl"],
            ),
            (
                "together check_file",
                "chat.jsonl",
                [f"{binaries}/python", "-c", TOGETHER, "chat.jsonl"],
            ),
            (
                "parallelogram check",
                "chat.jsonl",
                [f"{binaries}/parallelogram", "check", "chat.jsonl"],
            ),
            ("ftml validate", "chat.jsonl", [f"{binaries}/ftml", "validate", "chat.jsonl"]),
            ("finelint inspect", "chat.jsonl", [f"{binaries}/finelint", "inspect", "chat.jsonl"]),
        ]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--old", help="virtual environment with the old official tool")
    parser.add_argument("--peers", help="virtual environment with the modern validators")
    parser.add_argument(
        "--only",
        default="",
        help="measure only what has one of these words, separated by commas, in its name",
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_files(folder, arguments.rows)
        nothing = median([sys.executable, "-c", IMPORT], folder, arguments.runs)
        load = os.getloadavg()[0]
        extras = median([sys.executable, "-c", EXTRAS], folder, arguments.runs)
        print(f"import alone: {nothing.cpu:.2f} s, {nothing.memory:.0f} MiB; load {load:.1f}")
        print(f"import with msgspec and numpy: {extras.cpu:.2f} s, {extras.memory:.0f} MiB")
        print("| file | what | CPU s | MB/s | MB/s above import | wall s | MiB above import |")
        print("|---|---|---:|---:|---:|---:|---:|")
        for what, file, command in cases(arguments):
            if not any(word in f"{what} {file}" for word in arguments.only.split(",")):
                continue
            size = (folder / file).stat().st_size / MEGABYTE
            cost = median(command, folder, arguments.runs)
            ours = what.startswith("tunesmith")
            net = f"{size / max(cost.cpu - nothing.cpu, 1e-9):.0f}" if ours else ""
            cut = "" if cost.ended else f" (stopped after {TIME_LIMIT} s of CPU)"
            print(
                f"| {file} {size:.0f} MB | {what}{cut} | {cost.cpu:.2f} | {size / cost.cpu:.0f} "
                f"| {net} | {cost.wall:.2f} | {cost.memory - nothing.memory:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
