"""An adapter from elsewhere is served under a name of its own, or refused."""

from __future__ import annotations

import json
import shutil
import warnings

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from family_truth import TEXTS, TOLERANCE, difference, plain_model, serve
from tunesmith import Client
from tunesmith.cli import main
from tunesmith.engine import start
from tunesmith.engine.home import Home
from tunesmith.engine.models.model_errors import UnknownModelError
from tunesmith.engine.models.model_info import ServableModel
from tunesmith.engine.store.database import Database
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


def make_adapter(base, folder, **options):
    """Write an adapter with PEFT, all of whose weights are random."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(2)
    model = AutoModelForCausalLM.from_pretrained(base)
    settings = {
        "r": 4,
        "target_modules": ["q_proj", "down_proj"],
        "init_lora_weights": False,
        "task_type": "CAUSAL_LM",
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrapped = get_peft_model(model, LoraConfig(**settings | options))
        with torch.no_grad():
            for parameter in wrapped.parameters():
                if parameter.requires_grad:
                    parameter.add_(torch.randn_like(parameter) * 0.05)
        wrapped.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("options", "is_shared"),
    [
        ({"use_rslora": True}, True),
        ({"rank_pattern": {"down_proj": 7}, "alpha_pattern": {"q_proj": 3}}, True),
        ({"r": 512, "lora_alpha": 1}, True),
        ({"init_lora_weights": "gaussian"}, True),
        ({"layers_to_transform": [1]}, True),
        ({"use_dora": True}, False),
        ({"init_lora_weights": "pissa"}, False),
        ({"init_lora_weights": "olora"}, False),
        ({"modules_to_save": ["lm_head"]}, False),
        ({"modules_to_save": ["embed_tokens", "lm_head"]}, False),
        ({"modules_to_save": ["norm"]}, False),
        ({"target_modules": ["q_proj", "lm_head"]}, False),
        ({"target_modules": ["q_proj", "embed_tokens"]}, False),
        ({"trainable_token_indices": [5, 7]}, False),
    ],
    ids=str,
)
def test_an_adapter_of_any_kind_is_served_as_peft_computes_it(
    engine, known_base, tmp_path, options, is_shared
):
    folder = make_adapter(known_base, tmp_path / "made", **options)
    row = import_adapter(folder, engine.home, engine.database, base="tiny")
    model = ServableModel(row.name, "tiny", known_base, engine.home.root / row.path)
    base = ServableModel("base", "tiny", known_base)
    group, other = serve([(model, TEXTS), (base, TEXTS)])
    tuned, plain = plain_model(known_base, folder), plain_model(known_base)
    assert difference(group, tuned) <= TOLERANCE
    assert difference(other, plain) <= TOLERANCE
    assert difference(group, plain) > 100 * TOLERANCE, "the adapter changes nothing"
    assert (group.sequences[0].adapter is not None) is is_shared


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"task_type": "SEQ_CLS"}, "only CAUSAL_LM answers"),
        ({"alora_invocation_tokens": [1, 2]}, "acts from certain tokens on"),
        ({"layer_replication": [[0, 1], [0, 2]]}, "changes the number of layers"),
        ({"megatron_config": {"a": 1}, "megatron_core": "os"}, "layers of Megatron"),
        ({"use_lora_of_2031": True}, "does not know"),
        ({"target_modules": ["no_such_layer"]}, "does not fit tiny"),
        ({"r": 8}, "does not fit tiny"),
    ],
    ids=str,
)
def test_a_configuration_that_means_something_else_is_refused(engine, folder, values, message):
    change_config(folder, **values)
    with pytest.raises(ImportModelError, match=message):
        import_adapter(folder, engine.home, engine.database, base="tiny")


def test_weights_that_are_no_numbers_are_refused(engine, folder):
    path = folder / "adapter_model.safetensors"
    save_file({name: one * torch.nan for name, one in load_file(path).items()}, path)
    with pytest.raises(ImportModelError, match="no numbers"):
        import_adapter(folder, engine.home, engine.database, base="tiny")


def test_an_extended_vocabulary_is_refused_with_the_way_out(engine, folder):
    path = folder / "adapter_model.safetensors"
    key = "base_model.model.model.embed_tokens.weight"
    save_file(load_file(path) | {key: torch.zeros(60_000, 4)}, path)
    with pytest.raises(ImportModelError, match="models add DIR"):
        import_adapter(folder, engine.home, engine.database, base="tiny")


def test_a_pickle_is_refused_and_never_opened(engine, folder):
    (folder / "adapter_model.safetensors").unlink()
    (folder / "adapter_model.bin").write_bytes(b"cos\nsystem\n(S'touch /tmp/x'\ntR.")
    with pytest.raises(ImportModelError, match="can contain code"):
        import_adapter(folder, engine.home, engine.database, base="tiny")


def test_an_adapter_that_cannot_be_merged_is_refused(engine, known_base, tmp_path):
    folder = make_adapter(known_base, tmp_path / "made", lora_bias=True)
    with pytest.raises(ImportModelError, match="served only once it is merged"):
        import_adapter(folder, engine.home, engine.database, base="tiny")


@pytest.mark.parametrize("kind", ["MixtralConfig", "Qwen3MoeConfig"])
def test_an_adapter_on_experts_is_served_as_peft_computes_it(tmp_path, known_base, kind):
    import transformers

    base = tmp_path / "experts"
    shutil.copytree(known_base, base, ignore=shutil.ignore_patterns("*.safetensors", "config.json"))
    size = AutoConfig.from_pretrained(known_base).vocab_size
    torch.manual_seed(0)
    config = getattr(transformers, kind)(
        vocab_size=size,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        max_position_embeddings=256,
        initializer_range=0.2,
        num_experts_per_tok=2,
        **{"num_local_experts" if kind == "MixtralConfig" else "num_experts": 4},
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(base)
    names = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
    options = {"target_modules": ["q_proj"], "target_parameters": names}
    folder = make_adapter(base, tmp_path / "made", **options)
    home = Home(tmp_path / "home")
    home.root.mkdir()
    home.base_model_table.write_text(f'default = "moe"\n[base.moe]\npath = "{base.as_posix()}"\n')
    database = Database(f"sqlite:///{home.database}")
    database.migrate()
    row = import_adapter(folder, home, database, base="moe")
    database.close()
    (group,) = serve([(ServableModel(row.name, "moe", base, home.root / row.path), TEXTS)])
    assert difference(group, plain_model(base, folder)) <= TOLERANCE
    assert difference(group, plain_model(base)) > 100 * TOLERANCE
