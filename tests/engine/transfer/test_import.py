"""An adapter from elsewhere is served under a name of its own, or refused."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from tunesmith import Client
from tunesmith.cli import main
from tunesmith.engine import start
from tunesmith.engine.models.model_errors import UnknownModelError
from tunesmith.engine.transfer import ImportModelError, import_adapter

pytestmark = [
    pytest.mark.slow,
    # PEFT uses transformers' old names.
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning"),
]


@pytest.fixture
def folder(adapter, tmp_path):
    return shutil.copytree(adapter, tmp_path / "adapter")


def change_config(folder, **values):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_an_imported_adapter_answers_under_its_own_name(engine, folder, capsys):
    command = ["import", str(folder), "--suffix", "My Tweets", "--home", str(engine.home.root)]
    assert main(command) == 0
    name = capsys.readouterr().out.strip()
    assert name.startswith("ft:tiny:local:my-tweets:")
    with start(home=engine.home.root) as running, Client(base_url=running.base_url) as client:
        assert client.models.retrieve(name).id == name
        answer = client.completions.create(model=name, prompt="Hello", max_tokens=3, temperature=0)
        base = client.completions.create(model="tiny", prompt="Hello", max_tokens=3, temperature=0)
    assert answer.choices[0].text != base.choices[0].text


def test_the_base_model_is_found_by_what_the_adapter_names(engine, folder, known_base):
    change_config(folder, base_model_name_or_path=str(known_base))
    assert import_adapter(folder, engine.home, engine.database).base_model == "tiny"
    change_config(folder, base_model_name_or_path="some model")
    with pytest.raises(UnknownModelError, match="--base"):
        import_adapter(folder, engine.home, engine.database)
    assert import_adapter(folder, engine.home, engine.database, base="tiny").base_model == "tiny"


def remove_weights(folder):
    (folder / "adapter_model.safetensors").unlink()


def truncate_weights(folder):
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def lose_a_tensor(folder):
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    tensors.pop(min(tensors))
    save_file(tensors, path)


def change_a_shape(folder):
    path = folder / "adapter_model.safetensors"
    save_file({name: torch.cat([one, one]) for name, one in load_file(path).items()}, path)


def change_the_kind(folder):
    change_config(folder, peft_type="IA3")


def make_it_a_whole_model(folder):
    (folder / "adapter_config.json").rename(folder / "config.json")


def spoil_the_configuration(folder):
    (folder / "adapter_config.json").write_text("{")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (remove_weights, "has no adapter_model.safetensors"),
        (truncate_weights, "cannot be read"),
        (lose_a_tensor, "not in the file"),
        (change_a_shape, "does not fit tiny"),
        (change_the_kind, "only LORA can be served"),
        (make_it_a_whole_model, "is a whole model"),
        (spoil_the_configuration, "is no configuration of PEFT"),
    ],
)
def test_what_cannot_be_served_is_refused_and_nothing_is_stored(engine, folder, damage, message):
    before = sorted(engine.home.models.iterdir())
    damage(folder)
    with pytest.raises(ImportModelError, match=message):
        import_adapter(folder, engine.home, engine.database, base="tiny")
    assert sorted(engine.home.models.iterdir()) == before
