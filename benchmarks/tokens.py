"""How fast tokens are counted, by vocabulary and back end, and what a limit verdict costs.

    python benchmarks/tokens.py [--corpus FILE.jsonl] [--runs 3]

Each result is the median of fresh processes (so no back end profits from a warm cache) in CPU
time on one thread; loading the vocabulary is timed apart. Without a corpus the texts are the
documentation and the source of Python's own standard library. Every back end must give the same
total, or the run fails.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import sysconfig
import time
from importlib.util import find_spec
from pathlib import Path

MEGABYTE = 1_000_000
ENCODINGS = ("r50k_base", "p50k_base", "cl100k_base", "o200k_base")
BACKENDS = ("tiktoken", "toktok", "python")
PYTHON_SHARE = 8  # plain Python is given this part of the texts only
LIMIT = 2_048
ROW = 1_500


def texts_of(corpus: Path | None) -> list[str]:
    if corpus is not None:
        rows = map(json.loads, corpus.read_text(encoding="utf-8").splitlines())
        return [row.get("prompt", "") + row.get("completion", "") for row in rows]
    library = Path(sysconfig.get_path("stdlib"))
    files = [library / "pydoc_data" / "topics.py", *sorted(library.glob("*.py"))]
    whole = "".join(file.read_text(encoding="utf-8", errors="replace") for file in files)
    return [whole[start : start + ROW] for start in range(0, len(whole), ROW)]


def measure(name: str, backend: str, corpus: Path | None) -> dict[str, float]:
    """Count once in this process."""
    from tunesmith.datasets import tokens

    texts = texts_of(corpus)
    if backend == "python":
        texts = texts[::PYTHON_SHARE]
    size = sum(len(text.encode()) for text in texts) / MEGABYTE
    start = time.process_time()
    encoder = tokens.encoder(name, backend)
    encoder.count("warm up")
    loaded = time.process_time()
    total = sum(encoder.count_batch(texts))
    counted = time.process_time()
    verdicts = sum(tokens.fits(text, LIMIT, encoder) for text in texts)
    judged = time.process_time()
    return {
        "megabytes": size,
        "tokens": total,
        "load": loaded - start,
        "count": size / (counted - loaded),
        "fit": verdicts,
        "verdict": size / (judged - counted),
    }


def median_of(name: str, backend: str, arguments: argparse.Namespace) -> dict[str, float]:
    command = [sys.executable, __file__, "--one", f"{name}:{backend}"]
    if arguments.corpus:
        command += ["--corpus", str(arguments.corpus)]
    runs = [
        json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        for _ in range(arguments.runs)
    ]
    return {key: statistics.median(run[key] for run in runs) for key in runs[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, help="JSONL with prompt and completion")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        name, backend = arguments.one.split(":")
        print(json.dumps(measure(name, backend, arguments.corpus)))
        return
    header = ("vocabulary", "back end", "load s", "MB/s", "ratio", "verdict MB/s")
    print("{:12} {:9} {:>7} {:>7} {:>6} {:>13}".format(*header))
    for name in ENCODINGS:
        totals = {}
        for backend in BACKENDS:
            if backend != "python" and find_spec(backend) is None:
                continue
            if backend == "toktok" and name not in {"cl100k_base", "o200k_base"}:
                continue
            result = median_of(name, backend, arguments)
            totals[backend] = result
            reference = totals.get("tiktoken", result)["count"]
            print(
                f"{name:12} {backend:9} {result['load']:7.2f} {result['count']:7.1f} "
                f"{result['count'] / reference:6.2f} {result['verdict']:13.1f}"
            )
        whole = {result["tokens"] for backend, result in totals.items() if backend != "python"}
        assert len(whole) <= 1, f"{name}: back ends disagree: {totals}"


if __name__ == "__main__":
    main()
