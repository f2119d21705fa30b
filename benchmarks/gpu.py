"""Training and serving on a GPU: the engine beside TRL, and its own process beside vLLM.

One command, without a download, within ten minutes on one card (an H100 or H200 for the 8B shape):

    python benchmarks/gpu.py

    training  LoRA (rank 16, all linear layers, bf16) and QLoRA at rows of about 2,048 and 8,192
              tokens, 16,384 tokens a step: the engine's recipes beside TRL's SFTTrainer with PEFT
              and, where it is installed, Liger. Tokens per second without padding, after warm-up
              steps; most memory in use.
    serving   1, 32 and 128 requests at a time: the engine's vLLM (`tunesmith engine install vllm`,
              or `--vllm-command`) and its own process, both with default settings. Generated
              tokens per second, everything but HTTP included.

Each case runs in a process of its own. A case for which the rest of the budget does not suffice is
not begun, one that takes too long is ended, one that fails is reported with its message, and the
figures so far are written after each: `gpu.json` and `gpu.md` in the output folder. `--smoke` runs
every case with a tiny model, on a processor, too; its figures mean nothing.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

HERE = Path(__file__).parent
if str(HERE) not in sys.path:
    sys.path.append(str(HERE))  # last: a script beside this one is called datasets

from gpu_inputs import SHAPES, Bench, Case, prepare  # noqa: E402
from gpu_serving import serve  # noqa: E402
from gpu_training import train  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TRAINERS = (
    *("tunesmith-lora", "trl-lora", "tunesmith-qlora", "trl-qlora"),
    *("peft-lora", "trl-plain"),
)
SERVERS = ("vllm", "engine", "vllm-adapter", "engine-adapter", "transformers")
SECONDS = {"prepare": 45.0, "training": 40.0, "vllm": 120.0, "serving": 60.0}
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - models are written there and removed
MODELS_BYTES = 40 << 30


# The parent process


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--smoke", action="store_true", help="every case, with a tiny model")
    parser.add_argument("--shapes", nargs="*", default=["8B"], choices=SHAPES)
    parser.add_argument("--trainers", nargs="*", default=TRAINERS[:4], choices=TRAINERS)
    parser.add_argument(
        "--training",
        nargs="*",
        default=["2048x8", "8192x2"],
        help="tokens of a row x rows of a step; with = at the end all rows have one length",
    )
    parser.add_argument("--servers", nargs="*", default=SERVERS[:2], choices=SERVERS)
    parser.add_argument("--serving", nargs="*", type=int, default=[1, 32, 128])
    parser.add_argument("--new-tokens", type=int, default=64, help="generated for each request")
    parser.add_argument("--seconds", type=float, default=8.0, help="measured of each training")
    parser.add_argument("--limit", type=float, default=150.0, help="most seconds of a case")
    parser.add_argument("--budget", type=float, default=570.0, help="most seconds of all cases")
    parser.add_argument("--profile", action="store_true", help="also sum the GPU's own time")
    parser.add_argument("--vllm-command", default=None, help="what starts vLLM")
    parser.add_argument("--folder", type=Path, default=None, help="where to write the models")
    parser.add_argument("--output", type=Path, default=Path("build/gpu"), help="for the figures")
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.shapes, arguments.training = ["tiny"], ["64x2"]
        arguments.trainers, arguments.servers = list(TRAINERS), list(SERVERS)
        arguments.serving, arguments.new_tokens, arguments.seconds = [1, 4], 4, 0.1
        arguments.limit = arguments.budget  # a busy processor is slow
    arguments.output.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="gpu-", dir=arguments.folder or models_folder()))
    try:
        run_all(arguments, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def models_folder() -> Path | None:
    """Return a folder in memory, if the models fit there; None for the default one."""
    is_large = SHARED_MEMORY.is_dir() and shutil.disk_usage(SHARED_MEMORY).free > MODELS_BYTES
    return SHARED_MEMORY if is_large else None


def vllm_command(arguments: argparse.Namespace) -> tuple[str, ...]:
    from tunesmith.engine.home import Home
    from tunesmith.engine.serving.vllm_environment import installed_program

    if arguments.vllm_command is not None:
        return tuple(shlex.split(arguments.vllm_command))
    return installed_program(Home.from_environment().vllm) or ()


def run_all(arguments: argparse.Namespace, folder: Path) -> None:
    deadline = time.monotonic() + arguments.budget
    options = {
        "folder": str(folder),
        "seconds": arguments.seconds,
        "profile": arguments.profile,
        "vllm": vllm_command(arguments),
    }
    planned = list(cases(arguments))
    expected = sum(case.seconds for case in planned)
    print(f"{len(planned)} cases, about {expected:.0f} s; the budget is {arguments.budget:.0f} s")
    results: list[dict[str, Any]] = []
    broken: set[str] = set()  # shapes without a model
    spare: subprocess.Popen[str] | None = start_worker(options)
    try:
        for case in planned:
            left = deadline - time.monotonic()
            reason = obstacle(case, left, options, broken, is_smoke=arguments.smoke)
            if reason is not None:
                result = {"status": "not run", "message": reason}
            elif arguments.smoke and case.kind != "prepare":
                result = measure(case, options)  # here: libraries are imported once
            else:
                worker = spare or start_worker(options)
                # The next process imports its libraries while this one loads its model.
                spare = None if arguments.smoke else start_worker(options)
                result = finish(worker, case, min(arguments.limit, left))
            if case.kind == "prepare" and result["status"] != "ok":
                broken.add(case.shape)
            results.append(asdict(case) | result)
            print(lines_of(results[-1:]), flush=True)
            write_report(arguments.output, results)
    finally:
        if spare is not None:
            spare.kill()
            spare.communicate()


def obstacle(
    case: Case, left: float, options: dict[str, Any], broken: set[str], *, is_smoke: bool
) -> str | None:
    """Return why a case is not run; None if it is."""
    if case.shape in broken:
        return "the model was not written"
    if case.name.startswith("vllm") and not options["vllm"]:
        return "vLLM is not installed"
    if left < (5.0 if is_smoke else case.seconds):
        return f"{left:.0f} s are left of the budget, and it takes about {case.seconds:.0f} s"
    return None


def cases(arguments: argparse.Namespace) -> Iterator[Case]:
    """Yield the cases, those first that matter most: a run that is cut has them."""
    counts = tuple(arguments.serving)
    for shape in arguments.shapes:
        yield Case("prepare", shape, "model", seconds=SECONDS["prepare"])
        servers = iter(arguments.servers if counts else ())
        for size in arguments.training:
            length, batch = map(int, size.removesuffix("=").split("x"))
            spread = 0.0 if size.endswith("=") else 0.1
            for trainer in arguments.trainers:
                yield Case(
                    *("training", shape, trainer, length, batch),
                    spread=spread,
                    seconds=SECONDS["training"],
                )
            for server in servers:
                yield serving_case(shape, server, arguments.new_tokens, counts)
        for server in servers:
            yield serving_case(shape, server, arguments.new_tokens, counts)


def serving_case(shape: str, server: str, new_tokens: int, counts: tuple[int, ...]) -> Case:
    seconds = SECONDS["vllm" if server.startswith("vllm") else "serving"]
    return Case("serving", shape, server, new_tokens, counts=counts, seconds=seconds)


def start_worker(options: dict[str, Any]) -> subprocess.Popen[str]:
    """Start a process that imports the libraries and waits for its case."""
    from tunesmith.engine.training.environment import worker_environment

    code = f"import sys; sys.path.append({str(HERE)!r}); import gpu; gpu.work(sys.argv[1])"
    return subprocess.Popen(
        # -P, or `import datasets` would find the script beside this one.
        [sys.executable, "-P", "-c", code, json.dumps(options)],
        env=worker_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(worker: subprocess.Popen[str], case: Case, limit: float) -> dict[str, Any]:
    """Give a process its case; return what it measured, or how it failed."""
    started = time.monotonic()
    try:
        out, errors = worker.communicate(json.dumps(asdict(case)) + "\n", timeout=limit)
    except subprocess.TimeoutExpired:
        worker.kill()
        _, errors = worker.communicate()
        return {
            "status": "timeout",
            "message": f"no result in {limit:.0f} s",
            "log": errors[-2000:],
        }
    seconds = round(time.monotonic() - started, 1)
    lines = [line for line in out.splitlines() if line.startswith("{")]
    if not lines:
        message = f"the process ended with {worker.returncode}"
        return {"status": "error", "message": message, "log": errors[-2000:], "took": seconds}
    return json.loads(lines[-1]) | {"took": seconds}


def write_report(output: Path, results: list[dict[str, Any]]) -> None:
    """Write all figures so far."""
    report = {"command": sys.argv[1:], "results": results}
    (output / "gpu.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    (output / "gpu.md").write_text(lines_of(results) + "\n", encoding="utf-8")


def lines_of(results: list[dict[str, Any]]) -> str:
    """Return results as lines of a Markdown table, with its head where there are several."""
    head = ["| case | requests | tokens/s | ms/step | GPU ms | peak GB | s |", "|---" * 7 + "|"]
    lines = head if len(results) > 1 else []
    for result in results:
        fields = {field.name: result[field.name] for field in dataclasses.fields(Case)}
        case = str(Case(**fields))
        if result["status"] != "ok":
            message = str(result.get("message", "")).replace("\n", " ").replace("|", "/")[:200]
            lines.append(f"| {case} | | {result['status']}: {message} | | | | |")
        for row in result.get("measurements", [result] if result["status"] == "ok" else []):
            shown = [
                "" if (value := row.get(name, result.get(name))) is None else f"{value:,.1f}"
                for name in ("tokens_per_second", "step_ms", "gpu_ms", "peak_gb", "took")
            ]
            lines.append(f"| {case} | {row.get('requests', '')} | {' | '.join(shown)} |")
    return "\n".join(lines)


# A process with one case


def work(text: str) -> None:
    """Import, read a case from standard input, measure it, print the result as JSON."""
    options = json.loads(text)
    report = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever a library prints
    import peft  # noqa: F401
    import transformers  # noqa: F401

    import tunesmith.engine.training.run  # noqa: F401

    line = sys.stdin.readline()
    if not line:
        return
    result = measure(Case(**json.loads(line)), options)
    report.write(json.dumps(result) + "\n")
    report.flush()


def measure(case: Case, options: dict[str, Any]) -> dict[str, Any]:
    """Return what a case measures, or how it failed."""
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    measures: dict[str, Callable[[Case, Bench], dict[str, Any]]] = {
        "prepare": prepare,
        "training": train,
        "serving": serve,
    }
    bench = Bench(
        Path(options["folder"]),
        options["seconds"],
        profile=options["profile"],
        vllm=tuple(options["vllm"]),
    )
    try:
        result = {"status": "ok"} | measures[case.kind](case, bench)
    except Exception as error:  # noqa: BLE001 - how a case fails is its result
        result = failure(error)
    if torch.cuda.is_available() and "reserved_gb" not in result:
        result["reserved_gb"] = torch.cuda.max_memory_reserved() / 1e9
    return result


def failure(error: BaseException) -> dict[str, Any]:
    """Return an error as a result: whether memory ran out or a library lacks, and the causes."""
    import torch

    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) and cause not in chain:
        chain.append(cause)
    message = " <- ".join(f"{type(link).__name__}: {link}" for link in chain)
    log = "".join(traceback.format_exception(error))[-3000:]
    status = "error"
    if any(isinstance(link, torch.OutOfMemoryError) for link in chain):
        status = "out of memory"
    elif any(isinstance(link, ImportError) for link in chain):
        status = "not installed"
    return {"status": status, "message": message[:1500], "log": log}


if __name__ == "__main__":
    main()
