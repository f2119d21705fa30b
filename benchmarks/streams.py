"""How the cost of a stream grows with its length: the event decoder and the chat accumulator.

    python benchmarks/streams.py [--before FOLDER]

Each case runs at two sizes in a process of its own; where the work is linear, the cost per unit
stays the same, and the growth is near 1. With `--before` (the `src` folder of another version)
both versions are measured by turns in one run. Times are CPU time, medians of three.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS = 3
CASES = {
    "events": "small events, in packets of 1,500 bytes",
    "line": "one long line, in packets of 1,000 bytes",
    "chunks": "chat chunks joined",
    "logprobs": "chat chunks with log probabilities joined",
}
SIZES = {
    "events": (2000, 20000),
    "line": (200, 2000),
    "chunks": (200, 2000),
    "logprobs": (100, 1000),
}


def events(size: int) -> Callable[[], object]:
    """Decode small events."""
    from tunesmith.core.sse import ServerSentEventDecoder

    body = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n' * size
    packets = [body[start : start + 1500] for start in range(0, len(body), 1500)]

    def work() -> None:
        decoder = ServerSentEventDecoder()
        assert sum(len(decoder.feed(packet)) for packet in packets) == size

    return work


def line(size: int) -> Callable[[], object]:
    """Decode one event that is a line of `size` packets."""
    from tunesmith.core.sse import ServerSentEventDecoder

    packet = b"x" * 1000

    def work() -> None:
        decoder = ServerSentEventDecoder()
        decoder.feed(b"data: ")
        for _ in range(size):
            decoder.feed(packet)
        assert len(decoder.feed(b"\n\n")) == 1

    return work


def chunks(size: int, logprobs: Any = None) -> Callable[[], object]:
    """Join chunks as `chat.completions.stream` does."""
    from tunesmith.resources.chat_accumulator import ChatCompletionAccumulator
    from tunesmith.types.chat import ChatCompletionChunk

    choice = {"index": 0, "delta": {"content": "hi "}, "finish_reason": None, "logprobs": logprobs}
    content = {"id": "c", "created": 1, "model": "m", "choices": [choice]}
    made = [ChatCompletionChunk.model_validate(content) for _ in range(size)]

    def work() -> None:
        accumulator = ChatCompletionAccumulator[Any]()
        for chunk in made:
            accumulator.add(chunk)
        assert accumulator.final().choices[0].message.content == "hi " * size

    return work


def logprobs(size: int) -> Callable[[], object]:
    """Join chunks with log probabilities of five tokens each."""
    top = {"token": "hi", "logprob": -0.5, "bytes": [104, 105]}
    return chunks(size, {"content": [{**top, "top_logprobs": [top] * 5}]})


def measured(case: str, size: int, source: str | None) -> float:
    """Return the CPU seconds of a case, run in a process of its own."""
    variables = {**os.environ, **({"PYTHONPATH": source} if source else {})}
    command = [sys.executable, __file__, "--case", case, "--size", str(size)]
    done = subprocess.run(command, env=variables, check=True, capture_output=True, text=True)
    return float(done.stdout)


def main() -> None:
    """Run one case, or print the table of all."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--before", help="the src folder of another version")
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    parser.add_argument("--size", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        work = {"events": events, "line": line, "chunks": chunks, "logprobs": logprobs}[
            options.case
        ](options.size)
        began = time.process_time()
        work()
        print(time.process_time() - began)
        return
    sources = {**({"before": options.before} if options.before else {}), "now": None}
    for case, text in CASES.items():
        small, large = SIZES[case]
        times: dict[tuple[str, int], list[float]] = {}
        for _ in range(ROUNDS):
            for name, source in sources.items():
                for size in (small, large):
                    times.setdefault((name, size), []).append(measured(case, size, source))
        medians = {key: statistics.median(values) for key, values in times.items()}
        for name in sources:
            growth = medians[name, large] / medians[name, small] * small / large
            print(
                f"{text}, {name}: {medians[name, large] * 1000:.1f} ms for {large:,}, "
                f"growth {growth:.2f}"
            )
        if options.before:
            print(f"{text}: ratio {medians['now', large] / medians['before', large]:.4f}")


if __name__ == "__main__":
    main()
