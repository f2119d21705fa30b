"""llama.cpp's server from a wheel, for `serving.py`; needs xllamacpp and nothing of tunesmith.

    PYTHON benchmarks/llama_server.py --gguf FILE --port PORT [--threads 1] [--slots 32]
    python benchmarks/llama_server.py --make bf16 SOURCE TARGET

The second form, in tunesmith's environment, writes a GGUF file anew in another type.
"""

from __future__ import annotations

import argparse
import threading
from pathlib import Path


def make(kind: str, source: str, target: str) -> None:
    """Write a GGUF file with all matrices in another type."""
    from tunesmith.engine.transfer.gguf_export import quantize_gguf

    quantize_gguf(Path(source), Path(target), kind)


def main() -> None:
    """Serve one model until the process is ended, or make a file."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--make", nargs=3, metavar=("TYPE", "SOURCE", "TARGET"))
    parser.add_argument("--gguf")
    parser.add_argument("--port", type=int)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--slots", type=int, default=32)
    options = parser.parse_args()
    if options.make:
        make(*options.make)
        return
    from xllamacpp import CommonParams, Server

    params = CommonParams()
    params.model.path = options.gguf
    params.port = options.port
    params.n_parallel = options.slots
    params.n_ctx = 512 * options.slots
    params.cpuparams.n_threads = options.threads
    params.cpuparams_batch.n_threads = options.threads
    params.n_threads_http = 2
    server = Server(params)
    print(server.listening_address, flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
