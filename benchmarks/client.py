"""The client beside openai-python: one command, medians as ratios.

    python benchmarks/client.py [--peers FOLDER] [CASE …]

Makes a virtual environment with openai 3.54.0 at FOLDER (by default in a temporary folder) and
one for this package, starts a loopback server with canned answers, and runs each case in a
process of its own, this client and the peer by turns. Results are CPU time of the client's
process unless said.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

FLOOR = (
    "import ssl, httpx, pydantic; pydantic.create_model('M', id=str).model_validate_json("
    "httpx.HTTPTransport(verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)).handle_request("
    "httpx.Request('GET', URL + '/fine_tuning/jobs/1')).read())"
)
HERE = Path(__file__).parent
PEER = "openai==3.54.0"
CASES = {
    "retrieve": ("one retrieve, blocking", "µs", 0.42, 0.08),
    "async_one": ("one retrieve, asyncio", "µs", 0.60, None),
    "async_10": ("retrieve, 10 concurrent", "µs", None, None),
    "async_50": ("retrieve, 50 concurrent", "µs", 0.45, 0.08),
    "async_500": ("retrieve, 500 concurrent", "µs", None, None),
    "chunk": ("streamed chat chunk", "µs", 0.13, 0.08),
    "page": ("object of a page of 100", "µs", 0.15, None),
    "upload": ("upload 512 MB", "ms", 0.50, None),
    "download": ("download 512 MB", "ms", 0.50, None),
    "waiters": ("1,000 waiters at 1 s", "of a core", None, None),
}
FLOORS = {
    "retrieve": "raw socket and json, one retrieve",
    "chunk": "raw socket and split, one chunk",
    "download": "raw socket to a file, 512 MB",
}
PROCESSES = {
    "start": ("python, nothing imported", "pass", "pass", None),
    "import": ("import", "import openai", "import tunesmith", 0.08),
    "client": (
        "import and first client",
        "import openai; openai.OpenAI(api_key='k')",
        "import tunesmith; tunesmith.Client('k')",
        0.15,
    ),
    "first": (
        "first typed retrieve, whole process",
        "import openai; openai.OpenAI(api_key='k', base_url=URL).fine_tuning.jobs.retrieve('ftjob-1')",
        "import tunesmith; tunesmith.Client('k', base_url=URL).fine_tuning.jobs.retrieve('ftjob-1')",
        0.40,
    ),
}


def environment(folder: Path, requirement: str, *again: str) -> str:
    """Return the interpreter of a virtual environment, made where it is missing.

    `again` are options to install the requirement with where the environment exists.
    """
    python = folder / "bin" / "python"
    options: tuple[str, ...] = again
    if not python.exists():
        venv.create(folder, with_pip=True)
        options = ("--upgrade",)
    if options:
        install = [python, "-m", "pip", "install", "-q", "--compile", *options, requirement]
        subprocess.run(install, check=True)
    return str(python)


def process_cpu(python: str, code: str, url: str, rounds: int = 7) -> float:
    """Return the median CPU milliseconds of a whole process."""
    samples = []
    for _ in range(rounds):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([python, "-c", code.replace("URL", repr(url))], check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        samples.append(spent * 1e3)
    return statistics.median(samples)


def modules(python: str, code: str, url: str) -> int:
    """Return how many modules a process has loaded in the end."""
    code = f"{code.replace('URL', repr(url))}; import sys; print(len(sys.modules))"
    return int(subprocess.run([python, "-c", code], check=True, capture_output=True).stdout)


def measure(python: str, case: str, client: str, url: str) -> Any:
    """Run one case and return its result."""
    command = [python, str(HERE / "client_cases.py"), case, client, url]
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=180)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        return None
    return json.loads(done.stdout)


def shown(value: Any, unit: str) -> str:
    """Return a result with its unit."""
    if value is None:
        return "failed"
    if isinstance(value, dict):
        return f"{value['cpu_ms']:.0f} ms, {value['peak_mb']:.0f} MB"
    return f"{value:.3f} {unit}" if value < 1 else f"{value:.0f} {unit}"


def ratio(own: Any, peer: Any) -> float:
    """Return our result as a share of the peer's."""
    if own is None or peer is None:
        return float("nan")
    if isinstance(own, dict):
        return own["cpu_ms"] / peer["cpu_ms"]
    return own / peer


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("cases", nargs="*", help="only these")
    parser.add_argument("--peers", type=Path, help="folder for the two virtual environments")
    arguments = parser.parse_args()
    folder = arguments.peers or Path(tempfile.mkdtemp(prefix="tunesmith-benchmark-"))
    peer = environment(folder / "openai", PEER)
    own = environment(
        folder / "tunesmith", f"{HERE.parent}[fast]", "--force-reinstall", "--no-deps"
    )
    stub = subprocess.Popen(
        [sys.executable, str(HERE / "client_stub.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert stub.stdout is not None
    url = f"http://127.0.0.1:{stub.stdout.readline().strip()}/v1"
    wanted = arguments.cases or [*PROCESSES, *CASES]
    print(f"{'case':40} {'openai 3.54':>20} {'tunesmith':>20} {'ratio':>7} {'goal':>6} {'fast':>7}")
    try:
        for name, (title, theirs, ours, goal) in PROCESSES.items():
            if name in wanted:
                one, two = process_cpu(peer, theirs, url), process_cpu(own, ours, url)
                print(
                    f"{title:40} {one:17.0f} ms {two:17.0f} ms {two / one:7.3f} {goal or '':>6}",
                    flush=True,
                )
        if "first" in wanted:
            one, two = (
                modules(python, PROCESSES["first"][n], url) for n, python in ((1, peer), (2, own))
            )
            floor = modules(own, FLOOR, url)
            print(
                f"{'modules after it':40} {one:20} {two:20} {'':7} {300:6} (httpx and pydantic: {floor})"
            )
        for name, (title, unit, goal, fast_goal) in CASES.items():
            if name not in wanted:
                continue
            one, two = measure(peer, name, "openai", url), measure(own, name, "tunesmith", url)
            line = f"{title:40} {shown(one, unit):>20} {shown(two, unit):>20} "
            line += f"{ratio(two, one):7.3f} {goal or '':>6}"
            if fast_goal is not None:
                three = measure(own, name, "fast", url)
                line += f" {ratio(three, one):7.3f} (goal {fast_goal})"
            print(line, flush=True)
        for name, title in FLOORS.items():
            if not arguments.cases or name in wanted:
                unit = "ms" if "512" in title else "µs"
                print(f"{'floor: ' + title:61} {shown(measure(own, name, 'floor', url), unit):>20}")
    finally:
        stub.kill()


if __name__ == "__main__":
    main()
