"""The engine starts, watches, feeds and stops a vLLM server of its own.

The server is a program with vLLM's command line and HTTP API (tests/support/vllm_stand_in.py),
started as a real process; what a real vLLM answers is shown in test_vllm.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from tests.engine.serving.conftest import write_adapter

from tunesmith.engine.config import ServingConfig
from tunesmith.engine.home import Home
from tunesmith.engine.serving import vllm_backend, vllm_process

STAND_IN = Path(__file__).parents[2] / "support" / "vllm_stand_in.py"
COMMAND = (sys.executable, str(STAND_IN))
RED, BLUE = (f"ada:ft-local:{name}-2026-11-21-10-00-00" for name in ("red", "blue"))

RANK = "--max-lora-rank"

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="vLLM is made for Linux")


@dataclass(frozen=True)
class StandIn:
    """What the program was told to do, and what it has recorded."""

    folder: Path

    def behave(self, **rules):
        (self.folder / "behaviour.json").write_text(json.dumps(rules), "utf-8")

    @property
    def starts(self):
        return self._records("starts.jsonl")

    def calls(self, path):
        return [call["body"] for call in self._records("calls.jsonl") if call["path"] == path]

    @property
    def living(self):
        """The processes that still run, of all that were started."""
        pids = [pid for start in self.starts for pid in (start["pid"], start["engine"])]
        return [pid for pid in pids if is_alive(pid)]

    def _records(self, name):
        path = self.folder / name
        return (
            [json.loads(line) for line in path.read_text("utf-8").splitlines()]
            if (path.exists())
            else []
        )


def is_alive(pid):
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("ascii")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    folder = tmp_path / "stand-in"
    folder.mkdir()
    monkeypatch.setenv("STAND_IN_FOLDER", str(folder))
    monkeypatch.setattr(vllm_process, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(vllm_process, "WATCH_SECONDS", 0.2)
    monkeypatch.setattr(vllm_process, "FIRST_PAUSE_SECONDS", 0.05)
    stand_in = StandIn(folder)
    yield stand_in
    for pid in stand_in.living:  # only after a test that failed
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def write_home(folder, **bases):
    home = Home(folder)
    home.root.mkdir()
    tables = "".join(f'[base.{name}]\npath = "{path}"\n' for name, path in bases.items())
    home.base_model_table.write_text(f'default = "tiny"\n{tables}', "utf-8")
    return home


@pytest.fixture
def engine(serve, stand_in, tiny_base_model, adapters, tmp_path):
    home = write_home(tmp_path / "home", tiny=tiny_base_model)
    tuned = {name: adapters[name] for name in ("red", "blue")}
    with serve(home, tuned, serving=ServingConfig("vllm", command=COMMAND)) as engine:
        yield engine
    assert not stand_in.living


def text_of(engine, **fields):
    response = engine.post("completions", **{"max_tokens": 6, "prompt": "I love"} | fields)
    assert response.status_code == 200, response.text
    return response.json()["choices"][0]["text"]


def wait_for(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_answers_pass_through_whole_and_as_streams(engine, stand_in):
    assert not stand_in.starts  # nothing is started before it is needed
    plain, red, blue = (text_of(engine, model=model) for model in ("ada", RED, BLUE))
    assert len({plain, red, blue}) == 3
    chunks = engine.stream("completions", model=RED, prompt="I love", max_tokens=6)
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == red
    message = [{"role": "user", "content": "Write a limerick."}]
    chat = engine.post("chat/completions", model=BLUE, messages=message, max_tokens=4)
    assert chat.json()["choices"][0]["message"]["content"]

    [start] = stand_in.starts
    assert start["adapters"] == "True"
    assert "--enable-lora" in start["arguments"]
    assert start["arguments"][start["arguments"].index("--host") + 1] == "127.0.0.1"
    loaded = [body["lora_name"] for body in stand_in.calls("/v1/load_lora_adapter")]
    assert loaded == [RED, BLUE]  # each once


def test_nobody_without_the_key_can_use_the_server(engine, stand_in):
    text_of(engine, model="ada")
    [start] = stand_in.starts
    url = f"http://127.0.0.1:{start['port']}/v1/models"
    assert httpx.get(url).status_code == 401
    environment = Path(f"/proc/{start['pid']}/environ").read_bytes().split(b"\0")
    [key] = [value[13:] for value in environment if value.startswith(b"VLLM_API_KEY=")]
    command = Path(f"/proc/{start['pid']}/cmdline").read_bytes()
    assert len(key) > 30
    assert key not in command
    assert key not in (engine.app.state.config.home.vllm / "vllm.log").read_bytes()


def test_a_slow_start_tells_how_far_it_is(engine, stand_in, monkeypatch, caplog):
    monkeypatch.setattr(vllm_process, "PROGRESS_SECONDS", 0.2)
    stand_in.behave(start_seconds=1.0)
    with caplog.at_level("INFO", "tunesmith.serving"):
        assert text_of(engine, model="ada")
    assert "vLLM is starting with tiny" in caplog.text
    assert "Loading safetensors checkpoint shards:" in caplog.text
    assert "vLLM serves tiny after" in caplog.text


def test_requests_that_come_while_it_starts_wait_for_one_start(engine, stand_in):
    stand_in.behave(start_seconds=0.5)
    texts = []
    threads = [
        threading.Thread(target=lambda: texts.append(text_of(engine, model=RED))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(texts) == 8
    assert len(set(texts)) == 1
    assert len(stand_in.starts) == 1


def test_after_a_crash_it_is_started_again_and_fed_again(engine, stand_in):
    before = text_of(engine, model=RED)
    [first] = stand_in.starts
    os.kill(first["pid"], signal.SIGKILL)
    wait_for(lambda: len(stand_in.starts) == 2)  # without a request
    assert text_of(engine, model=RED) == before
    assert len(stand_in.calls("/v1/load_lora_adapter")) == 2
    assert not is_alive(first["engine"])  # which the server itself would have left behind


def test_a_crash_before_the_first_token_costs_no_request(engine, stand_in):
    expected = text_of(engine, model=RED)
    stand_in.behave(crash_at_token=0)
    assert text_of(engine, model=RED) == expected
    assert len(stand_in.starts) == 2


def test_a_crash_in_the_middle_of_an_answer_ends_it_with_the_reason(engine, stand_in):
    stand_in.behave(crash_at_token=3)
    fields = {"model": "ada", "prompt": "I", "max_tokens": 6, "stream": True}
    with engine.http.stream("POST", "completions", json=fields) as response:
        response.read()
    error = json.loads(response.text.split("data: ")[-1])["error"]
    assert error["code"] == "generator_stopped"
    assert "restarts" in error["message"]
    assert text_of(engine, model="ada")


def test_an_engine_that_has_died_within_vllm_is_noticed(engine, stand_in):
    text_of(engine, model="ada")
    stand_in.behave(health=503)
    wait_for(lambda: not is_alive(stand_in.starts[0]["pid"]))
    stand_in.behave()
    assert text_of(engine, model="ada")


def test_failed_starts_are_repeated_with_longer_and_longer_pauses(engine, stand_in, monkeypatch):
    monkeypatch.setattr(vllm_process, "FIRST_PAUSE_SECONDS", 0.3)
    stand_in.behave(fail_starts=3)
    assert text_of(engine, model="ada")
    times = [start["at"] for start in stand_in.starts]
    pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert len(pauses) == 3
    assert pauses[1] > pauses[0] + 0.2
    assert pauses[2] > pauses[1] + 0.4


def test_a_crash_loop_is_told_with_the_last_lines_of_the_log(engine, stand_in, monkeypatch):
    stand_in.behave(fail_starts=1000)
    answer = engine.post("completions", model="ada", prompt="I")
    assert answer.status_code == 503
    error = answer.json()["error"]
    assert error["code"] == "vllm_failed"
    assert "4 times in a row" in error["message"]
    assert "CUDA out of memory. Tried to allocate 2 GiB." in error["message"]
    assert len(stand_in.starts) == 4
    # It is not tried for every request, but again after a while.
    assert engine.post("completions", model="ada", prompt="I").status_code == 503
    assert len(stand_in.starts) == 4
    monkeypatch.setattr(vllm_process, "COOL_DOWN_SECONDS", 0.0)
    stand_in.behave()
    assert text_of(engine, model="ada")


def test_a_port_that_is_taken_meanwhile_is_no_crash(engine, stand_in, monkeypatch):
    monkeypatch.setattr(vllm_process, "MAX_CRASHES", 1)
    stand_in.behave(port_conflicts=2)
    assert text_of(engine, model="ada")
    assert len({start["port"] for start in stand_in.starts}) == 3


def test_adapters_beyond_the_limit_make_way_for_others(engine, stand_in, monkeypatch):
    monkeypatch.setattr(vllm_backend, "MAX_ADAPTERS", 1)
    first = text_of(engine, model=RED)
    text_of(engine, model=BLUE)
    assert [body["lora_name"] for body in stand_in.calls("/v1/unload_lora_adapter")] == [RED]
    assert text_of(engine, model=RED) == first


def test_a_model_that_is_deleted_is_unloaded(engine, stand_in):
    text_of(engine, model=RED)
    assert engine.http.delete(f"models/{RED}").json()["deleted"] is True
    assert [body["lora_name"] for body in stand_in.calls("/v1/unload_lora_adapter")] == [RED]


def test_an_adapter_without_effect_is_refused_not_served(engine, stand_in):
    stand_in.behave(without_effect=True)
    answer = engine.post("completions", model=RED, prompt="I")
    assert answer.status_code == 502
    error = answer.json()["error"]
    assert error["code"] == "adapter_without_effect"
    assert "embedded" in error["message"]
    assert text_of(engine, model="ada")


def test_an_adapter_whose_weights_are_zero_is_no_fault_of_the_server(
    serve, stand_in, tiny_base_model, tmp_path
):
    from safetensors.torch import load_file, save_file

    blank = write_adapter(tiny_base_model, tmp_path / "blank", seed=1)
    weights = load_file(blank / "adapter_model.safetensors")
    zeros = {name: weight * ("lora_A" in name) for name, weight in weights.items()}
    save_file(zeros, blank / "adapter_model.safetensors")
    stand_in.behave(without_effect=True)
    home = write_home(tmp_path / "home", tiny=tiny_base_model)
    serving = ServingConfig("vllm", command=COMMAND)
    with serve(home, {"red": blank}, serving=serving) as engine:
        assert text_of(engine, model=RED)


def test_another_base_and_a_higher_rank_get_a_server_of_their_own(
    serve, stand_in, tiny_base_model, tmp_path
):
    wide = write_adapter(tiny_base_model, tmp_path / "wide", seed=1, rank=48)
    home = write_home(tmp_path / "home", tiny=tiny_base_model, other=tiny_base_model.resolve())
    (tmp_path / "copy").symlink_to(tiny_base_model)
    home.base_model_table.write_text(
        f'default = "tiny"\n[base.tiny]\npath = "{tiny_base_model}"\n'
        f'[base.other]\npath = "{tmp_path / "copy"}"\n',
        "utf-8",
    )
    serving = ServingConfig("vllm", command=COMMAND)
    stand_in.behave(token_seconds=0.02)
    with serve(home, {"red": wide}, serving=serving) as engine:
        texts = {}

        def ask(model):
            texts[model] = text_of(engine, model=model, max_tokens=20)

        threads = [threading.Thread(target=ask, args=(model,)) for model in ("tiny", "other", RED)]
        for thread in threads:
            thread.start()
            wait_for(lambda: stand_in.starts)  # the first one is served first
        for thread in threads:
            thread.join()
        assert set(texts) == {"tiny", "other", RED}  # none was cut off by a change of servers
    served = [
        tuple(arguments[arguments.index(option) + 1] for option in ("--served-model-name", RANK))
        for arguments in (start["arguments"] for start in stand_in.starts)
    ]
    assert served[0] == ("tiny", "32")
    assert sorted(served) == [("other", "32"), ("tiny", "32"), ("tiny", "64")]
    assert not stand_in.living


def test_without_vllm_a_request_says_how_to_get_it(serve, tiny_base_model, tmp_path):
    home = write_home(tmp_path / "home", tiny=tiny_base_model)
    with serve(home, {}, serving=ServingConfig("vllm")) as engine:
        answer = engine.post("completions", model="ada", prompt="I")
    assert answer.status_code == 503
    assert "tunesmith engine install vllm" in answer.json()["error"]["message"]


def test_nothing_is_left_of_it_when_the_engine_is_killed(stand_in, tiny_base_model, tmp_path):
    home = write_home(tmp_path / "home", tiny=tiny_base_model)
    command = json.dumps(list(COMMAND))
    settings = f'port = 0\n[serving]\nbackend = "vllm"\ncommand = {command}\n'
    (home.root / "engine.toml").write_text(settings, "utf-8")
    ready = tmp_path / "ready.json"
    code = (
        "import sys; from pathlib import Path; from tunesmith.engine.server import serve; "
        "from tunesmith.engine.home import Home; "
        "from tunesmith.engine.config_file import load_config; "
        "serve(load_config(Home(Path(sys.argv[1]))), ready_file=Path(sys.argv[2]))"
    )
    engine = subprocess.Popen(
        [sys.executable, "-c", code, str(home.root), str(ready)], stdin=subprocess.PIPE
    )
    try:
        wait_for(ready.exists, 60)
        url = f"http://127.0.0.1:{json.loads(ready.read_text('utf-8'))['port']}/v1"
        body = {"model": "ada", "prompt": "I", "max_tokens": 3}
        assert httpx.post(f"{url}/completions", json=body, timeout=60).status_code == 200
        assert len(stand_in.living) == 2
    finally:
        engine.kill()
        engine.communicate()
    wait_for(lambda: not stand_in.living)
