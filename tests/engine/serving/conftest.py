"""A base in memory, adapters that really change it, and the plain model to compare with."""

from __future__ import annotations

import contextlib
import json
import shutil
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tunesmith.engine.config import EngineConfig
from tunesmith.engine.home import Home
from tunesmith.engine.models.model_info import ServableModel
from tunesmith.engine.serving.generation import GenerationDelta, GenerationRequest


def write_adapter(base: Path, folder: Path, *, seed: int, rank: int = 4, **options: Any) -> Path:
    """Write a LoRA adapter with random weights, large enough to change every answer."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(base)
    targets = options.pop("target_modules", ["q_proj", "v_proj", "down_proj"])
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=targets, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PEFT asks transformers for an old name
        adapted = get_peft_model(model, config)
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    adapted.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session", name="write_adapter")
def write_adapter_fixture() -> Callable[..., Path]:
    """The function `write_adapter`."""
    return write_adapter


@pytest.fixture(scope="session")
def adapters(tiny_base_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Three adapters of one base: two kinds of rank and of target, one that must be merged."""
    folder = tmp_path_factory.mktemp("adapters")
    top = {"target_modules": ["o_proj", "q_proj"], "layers_to_transform": [1]}
    return {
        "red": write_adapter(tiny_base_model, folder / "red", seed=1),
        "blue": write_adapter(tiny_base_model, folder / "blue", seed=2, rank=8, **top),
        "dora": write_adapter(tiny_base_model, folder / "dora", seed=3, use_dora=True),
    }


@pytest.fixture(scope="session")
def models(tiny_base_model: Path, adapters: dict[str, Path]) -> dict[str, ServableModel]:
    """The base and its fine-tuned models, as the server would name them."""
    folders: dict[str, Path | None] = {"tiny": None, **adapters}
    return {
        name: ServableModel(name, "tiny", tiny_base_model, folder)
        for name, folder in folders.items()
    }


@pytest.fixture
def loaded() -> Any:
    """Models loaded in float32 in this process, so that results can be compared exactly."""
    import torch

    from tunesmith.engine.serving.model_store import ModelStore

    return ModelStore(
        budget=1 << 40,
        device=torch.device("cpu"),
        dtype=torch.float32,
        is_busy=lambda _base: False,
        on_unload=lambda _base: None,
    )


Ask = Callable[..., list[GenerationDelta]]


@pytest.fixture
def ask(loaded: Any, models: dict[str, ServableModel]) -> Ask:
    """Answer requests in this process, all of them in one batch."""
    from tunesmith.engine.serving.scheduler import Scheduler, SchedulerLimits, create_sequence_group

    def run(
        *requests: tuple[str, dict[str, Any]], limits: SchedulerLimits | None = None
    ) -> list[list[GenerationDelta]]:
        schedulers: dict[Any, Scheduler] = {}
        deltas: list[list[GenerationDelta]] = [[] for _ in requests]
        for number, (name, fields) in enumerate(requests):
            base, adapter = loaded.get(models[name])
            scheduler = schedulers.setdefault(base, Scheduler(base, limits or SchedulerLimits()))
            group = create_sequence_group(number, GenerationRequest(**fields), base, adapter)
            deltas[number] += scheduler.add(group)
        for scheduler in schedulers.values():
            while scheduler.busy:
                for number, delta in scheduler.step():
                    deltas[number].append(delta)
        return deltas

    return run


@pytest.fixture
def plain(models: dict[str, ServableModel]) -> Iterator[Callable[[str, list[int]], Any]]:
    """Return the log probabilities of plain transformers (and PEFT) after each token."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    known: dict[str, Any] = {}

    def logprobs(name: str, tokens: list[int]) -> Any:
        if name not in known:
            model = AutoModelForCausalLM.from_pretrained(models[name].base_path)
            if models[name].adapter_path is not None:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", FutureWarning)
                    model = PeftModel.from_pretrained(model, models[name].adapter_path)
            known[name] = model.eval()
        with torch.inference_mode():
            logits = known[name](input_ids=torch.tensor([tokens])).logits[0]
        return torch.log_softmax(logits.float(), dim=-1)

    return logprobs


@dataclass(frozen=True)
class Engine:
    """A served engine: its HTTP client, and its application for looking inside."""

    http: httpx.Client
    app: Any

    def post(self, path: str, **body: Any) -> httpx.Response:
        # ASCII, so that lone surrogates can be sent, too.
        headers = {"content-type": "application/json"}
        return self.http.post(path, content=json.dumps(body), headers=headers)

    def stream(self, path: str, **body: Any) -> list[dict[str, Any]]:
        """Return the chunks of a stream, having checked its frames."""
        with self.http.stream("POST", path, json=dict(body, stream=True)) as response:
            response.read()
        assert response.status_code == 200, response.text
        assert response.headers["content-type"].startswith("text/event-stream")
        frames = response.text.split("\n\n")
        assert frames.pop() == ""
        assert frames.pop() == "data: [DONE]"
        assert all(frame.startswith("data: ") and "\n" not in frame for frame in frames)
        return [json.loads(frame.removeprefix("data: ")) for frame in frames]


TOOL_TEMPLATE = (
    "{% if tools %}{% for tool in tools %}{{ tool | tojson }}{% endfor %}"
    "Answer with <tool_call>name and arguments</tool_call>\n{% endif %}"
    "{% for message in messages %}{{ message['role'] + ': ' + message['content'] }}"
    "{% for call in message['tool_calls'] or [] %}"
    "{{ call['function']['name'] }}({{ call['function']['arguments']['place'] }})"
    "{% endfor %}\n{% endfor %}"
)


def write_tool_base(base: Path, folder: Path) -> Path:
    """Write a copy of the base whose chat template supports tools."""
    shutil.copytree(base, folder)
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    settings = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
    settings["chat_template"] = TOOL_TEMPLATE
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
    return folder


@contextlib.contextmanager
def served(home: Home, tuned: dict[str, Path], **settings: Any) -> Iterator[Engine]:
    """Serve the application on a real socket, with fine-tuned models of the base "tiny".

    Each is called `ada:ft-local:NAME-2026-11-21-10-00-00`.
    """
    import uvicorn

    from tunesmith.engine.app import create_app, with_context
    from tunesmith.engine.store import model_queries
    from tunesmith.engine.store.database import Database
    from tunesmith.engine.store.records import ModelRow

    config = EngineConfig(home=home, port=0, serving_threads=1, **settings)
    database = Database(config.database)
    database.migrate()
    with database.write() as connection:
        for name, folder in tuned.items():
            shutil.copytree(folder, home.models / name)
            row = ModelRow(
                name=f"ada:ft-local:{name}-2026-11-21-10-00-00",
                organization="local",
                created_at=0.0,
                job_id=f"ft-{name}",
                base_model="tiny",
                family="ada",
                path=f"models/{name}",
            )
            model_queries.insert_model(connection, row)
    app = create_app(config, database)
    server = uvicorn.Server(
        uvicorn.Config(with_context(app, config), port=0, log_level="warning", lifespan="on")
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}/v1", timeout=300) as http:
            yield Engine(http, app)
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="session")
def serve() -> Callable[..., contextlib.AbstractContextManager[Engine]]:
    """The function `served`, for tests that need an engine with other settings."""
    return served


@pytest.fixture(scope="session")
def engine(
    tiny_base_model: Path, adapters: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Engine]:
    """The whole application on a real socket: two bases, two fine-tuned models.

    The chat template of the base "tools" supports tools, that of all other names does not.
    """
    folder = tmp_path_factory.mktemp("serving")
    home = Home(folder / "home")
    home.root.mkdir()
    tool_base = write_tool_base(tiny_base_model, folder / "tools")
    home.base_model_table.write_text(
        'default = "tiny"\n'
        f'[base.tiny]\npath = "{tiny_base_model.as_posix()}"\n'
        f'[base.tools]\npath = "{tool_base.as_posix()}"\n',
        "utf-8",
    )
    with served(home, {name: adapters[name] for name in ("red", "blue")}) as engine:
        yield engine
