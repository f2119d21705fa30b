"""A program with vLLM's command line and HTTP API that computes nothing.

    python vllm_stand_in.py serve MODEL --served-model-name NAME --port PORT …

Tests of the engine's vLLM start it as a real process. It answers with token ids that follow from
the prompt and the adapter. The folder STAND_IN_FOLDER controls it: `behaviour.json` is read at each
start, and again for each request; `starts.jsonl` records each start, `calls.jsonl` each call.

Keys of `behaviour.json`: `start_seconds`, `fail_starts` (how many starts end with an error),
`port_conflicts` (how many starts find their port taken), `token_seconds`, `without_effect`,
`crash_at_token`, `health`.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

FOLDER = Path(os.environ.get("STAND_IN_FOLDER", "."))
LOCK = threading.Lock()


def behaviour():
    path = FOLDER / "behaviour.json"
    return json.loads(path.read_text("utf-8")) if path.exists() else {}


def record(name, entry):
    with LOCK, (FOLDER / name).open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")


def count(name):
    path = FOLDER / name
    return len(path.read_text("utf-8").splitlines()) if path.exists() else 0


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    options = None
    adapters: dict[str, str] = {}  # noqa: RUF012 - one server in the process

    def do_GET(self):
        if self.path == "/health":
            self.answer(behaviour().get("health", 200), {})
        elif self.allowed():
            base = {
                "id": self.options.served_model_name,
                "root": self.options.model,
                "parent": None,
                "max_model_len": 4096,
            }
            adapters = [
                {"id": name, "root": path, "parent": base["id"], "max_model_len": 4096}
                for name, path in self.adapters.items()
            ]
            self.answer(200, {"data": [base, *adapters]})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if not self.allowed():
            return
        record("calls.jsonl", {"path": self.path, "body": body})
        if self.path == "/v1/load_lora_adapter":
            config = json.loads(Path(body["lora_path"], "adapter_config.json").read_text("utf-8"))
            if config["r"] > self.options.max_lora_rank:
                message = f"LoRA rank {config['r']} is greater than max_lora_rank"
                self.answer(400, {"error": {"message": message}})
                return
            self.adapters[body["lora_name"]] = body["lora_path"]
            self.answer(200, "Success: LoRA adapter added successfully.")
        elif self.path == "/v1/unload_lora_adapter":
            found = self.adapters.pop(body["lora_name"], None)
            self.answer(200 if found else 404, "Success")
        elif body["model"] not in {self.options.served_model_name, *self.adapters}:
            self.answer(404, {"error": {"message": f"The model {body['model']} does not exist."}})
        else:
            self.complete(body)

    def complete(self, body):
        rules = behaviour()
        adapter = "" if rules.get("without_effect") else self.adapters.get(body["model"], "")
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        prompts = body["prompt"] if isinstance(body["prompt"][0], list) else [body["prompt"]]
        for position in range(body["max_tokens"]):
            time.sleep(rules.get("token_seconds", 0.0))
            if rules.get("crash_at_token") == position and body["max_tokens"] > 4:  # no probe
                (FOLDER / "behaviour.json").unlink()
                sys.stderr.write("RuntimeError: CUDA error: an illegal memory access\n")
                sys.stderr.flush()
                os.kill(os.getpid(), signal.SIGKILL)
            last = position == body["max_tokens"] - 1
            choices = [
                self.choice(body, index, prompt, position, adapter, last=last)
                for index, prompt in enumerate(prompts)
            ]
            self.write_chunk(f"data: {json.dumps({'choices': choices})}\n\n".encode())
        self.write_chunk(b"data: [DONE]\n\n")
        self.write_chunk(b"")

    def write_chunk(self, data):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def choice(self, body, index, prompt, position, adapter, *, last):
        token = zlib.crc32(json.dumps([prompt, position, adapter]).encode()) % 200 + 20
        choice = {
            "index": index,
            "text": "",
            "token_ids": [token],
            "finish_reason": "length" if last else None,
        }
        if body.get("logprobs") is not None:
            value = -0.1 - token / 1000
            name = f"token_id:{token}"
            choice["logprobs"] = {
                "tokens": [name],
                "token_logprobs": [value],
                "top_logprobs": [{name: value}],
            }
        return choice

    def allowed(self):
        key = os.environ.get("VLLM_API_KEY")
        if key and self.headers["authorization"] != f"Bearer {key}":
            self.answer(401, {"error": "Unauthorized"})
            return False
        return True

    def answer(self, status, body):
        data = (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_arguments):
        pass


def parsed(arguments):
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("command", choices=["serve"])
    parser.add_argument("model")
    parser.add_argument("--served-model-name", required=True)
    parser.add_argument("--host", default="0.0.0.0")  # noqa: S104 - as vLLM's own default
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--tokenizer")
    parser.add_argument("--load-format")
    parser.add_argument("--generation-config")
    parser.add_argument("--enable-lora", action="store_true")
    parser.add_argument("--max-lora-rank", type=int, default=16)
    parser.add_argument("--max-loras", type=int, default=1)
    parser.add_argument("--max-cpu-loras", type=int)
    parser.add_argument("--tensor-parallel-size", type=int, default=1)
    parser.add_argument("--max-model-len")
    return parser.parse_args(arguments)


def main():
    if sys.argv[1:] == ["--version"]:
        sys.stdout.write("0.33.0\n")
        return
    options = Handler.options = parsed(sys.argv[1:])
    rules = behaviour()
    number = count("starts.jsonl")
    # As vLLM's engine, which outlives a server that is killed, in a session of its own.
    engine = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True
    )
    record(
        "starts.jsonl",
        {
            "pid": os.getpid(),
            "engine": engine.pid,
            "arguments": sys.argv[1:],
            "gpus": os.environ.get("CUDA_VISIBLE_DEVICES"),
            "adapters": os.environ.get("VLLM_ALLOW_RUNTIME_LORA_UPDATING"),
            "port": options.port,
            "at": time.time(),
        },
    )
    for step in range(int(rules.get("start_seconds", 0) / 0.1)):
        sys.stderr.write(f"Loading safetensors checkpoint shards: {step + 1}0% Completed\n")
        sys.stderr.flush()
        time.sleep(0.1)
    if number < rules.get("fail_starts", 0):
        sys.stderr.write("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB.\n")
        sys.exit(1)
    if number < rules.get("port_conflicts", 0):
        sys.stderr.write("OSError: [Errno 98] Address already in use\n")
        sys.exit(1)

    def stop(*_arguments):
        engine.kill()
        os._exit(0)

    signal.signal(signal.SIGTERM, stop)
    server = ThreadingHTTPServer((options.host, options.port), Handler)
    sys.stderr.write("Application startup complete.\n")
    sys.stderr.flush()
    server.serve_forever()


if __name__ == "__main__":
    main()
