"""Each export is loaded by the program that it is for, and answers as the engine's model does."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import pytest
import torch
from peft import AutoPeftModelForCausalLM, PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from exportable_model import CHAT, FULL, PLAIN
from tunesmith.cli import main
from tunesmith.engine.models.model_errors import UnknownModelError
from tunesmith.engine.transfer import ExportError, export_model, find_model
from tunesmith.engine.transfer import export as export_module
from tunesmith.engine.transfer.comparison import difference
from tunesmith.engine.transfer.gguf_export import quantize_gguf

pytestmark = [
    pytest.mark.slow,
    # PEFT uses transformers' old names.
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning"),
]

TOKENS = torch.tensor([[15496, 995, 11, 340, 338, 1160]])


def logits(model):
    model.eval()
    with torch.inference_mode():
        return model(input_ids=TOKENS).logits.float()


def served(known_base, adapter):
    return logits(
        PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(known_base), adapter)
    )


def export(engine, name, target, export_format, **options):
    source = find_model(name, engine.home, engine.database)
    return export_model(source, target, export_format, engine.home, **options)


def test_an_adapter_is_loaded_by_peft_through_its_own_reference_to_the_base(
    engine, tmp_path, known_base, adapter
):
    report = export(engine, CHAT, tmp_path / "out", "peft")
    loaded = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "out")
    assert torch.equal(logits(loaded), served(known_base, adapter))
    assert report.difference.divergence < 1e-6
    assert report.effect > 1e-3
    assert "config.json" not in report.files


def test_an_adapter_travels_with_its_base(engine, tmp_path, known_base, adapter, monkeypatch):
    export(engine, CHAT, tmp_path / "out", "peft", with_base=True)
    monkeypatch.chdir(tmp_path / "out")
    loaded = AutoPeftModelForCausalLM.from_pretrained(".")
    assert (
        json.loads((tmp_path / "out/adapter_config.json").read_text())["base_model_name_or_path"]
        == "base"
    )
    assert torch.equal(logits(loaded), served(known_base, adapter))


def test_an_adapter_of_a_hub_model_names_repository_and_revision(engine, tmp_path):
    table = engine.home.base_model_table
    base = find_model("tiny", engine.home, engine.database).base.path
    (engine.home.base_models).mkdir()
    (engine.home.base_models / "tiny").symlink_to(base)
    table.write_text(
        f'default = "tiny"\n\n[base.tiny]\nhub = "org/tiny"\nrevision = "{"a" * 40}"\n'
    )
    export(engine, CHAT, tmp_path / "out", "peft")
    config = json.loads((tmp_path / "out/adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["revision"]) == ("org/tiny", "a" * 40)


@pytest.mark.parametrize("name", [CHAT, FULL])
def test_merged_weights_are_loaded_by_transformers(engine, tmp_path, known_base, adapter, name):
    report = export(engine, name, tmp_path / "out", "merged", quantization="f32")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert torch.allclose(logits(loaded), served(known_base, adapter), atol=1e-4)
    assert report.difference.divergence < 1e-5
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer.chat_template == AutoTokenizer.from_pretrained(known_base).chat_template


def test_the_model_card_has_base_licence_data_and_hyperparameters_but_no_rows(engine, tmp_path):
    export(engine, PLAIN, tmp_path / "out", "merged")
    card = (tmp_path / "out/README.md").read_text()
    assert 'license: "mit"' in card
    assert "library_name: transformers" in card
    assert "rows.jsonl" in card
    assert "n_epochs: 3" in card
    assert "nats a token" in card
    assert "Good?" not in card


def test_gguf_and_modelfile_answer_in_llama_cpp_as_the_served_model(
    engine, tmp_path, known_base, adapter
):
    report = export(engine, CHAT, tmp_path / "out", "ollama")
    assert set(report.files) == {"Modelfile", "README.md", "model-bf16.gguf"}
    expected = served(known_base, adapter)[0, -1].log_softmax(-1)
    path = tmp_path / "out/model-bf16.gguf"
    for file, limit in ((path, 0.05), (quantized(path), 1.5)):
        found = llama_cpp_log_probabilities(file, TOKENS[0].tolist())
        assert max(abs(expected[token].item() - value) for token, value in found.items()) < limit
    lines = (tmp_path / "out/Modelfile").read_text().splitlines()
    assert lines[0] == "FROM ./model-bf16.gguf"
    assert 'PARAMETER stop "<|im_end|>"' in lines
    assert "PARAMETER num_ctx 256" in lines


def quantized(path):
    target = path.with_name("model-q4_1.gguf")
    quantize_gguf(path, target, "q4_1")
    assert target.stat().st_size < path.stat().st_size
    return target


def llama_cpp_log_probabilities(path, tokens):
    """Return the five most likely next tokens with their log probabilities, from llama.cpp."""
    script = (
        "import json, sys, xllamacpp as x\n"
        "p = x.CommonParams(); p.model.path = sys.argv[1]; p.n_ctx = 256; p.n_parallel = 1\n"
        "p.cpuparams.n_threads = 1\n"
        "s = x.Server(p)\n"
        "r = s.handle_completions({'prompt': json.loads(sys.argv[2]), 'n_predict': 1, 'n_probs': 5,"
        " 'temperature': 0})\n"
        "top = r['choices'][0]['logprobs']['content'][0]['top_logprobs']\n"
        "print(json.dumps({one['id']: one['logprob'] for one in top}))\n"
    )
    command = [sys.executable, "-c", script, str(path), json.dumps(tokens)]
    output = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    return {int(token): value for token, value in json.loads(output.splitlines()[-1]).items()}


def test_a_copy_that_differs_by_more_than_rounding_is_refused_and_leaves_nothing(
    engine, tmp_path, monkeypatch
):
    monkeypatch.setitem(export_module._LIMITS, "bf16", 0.0)
    with pytest.raises(ExportError, match="does not answer as the served model does"):
        export(engine, CHAT, tmp_path / "out", "merged")
    assert [entry.name for entry in tmp_path.iterdir()] == ["home"]


def test_the_difference_of_two_models_is_a_divergence_in_nats():
    reference = torch.tensor([[0.0, 0.0], [2.0, 0.0]])
    other = torch.tensor([[1.0, 0.0], [2.0, 0.0]])
    found = difference(reference, other)
    expected = 0.5 * (2 * math.log(0.5) - math.log(math.e / (1 + math.e) ** 2))
    assert found.divergence == pytest.approx(expected / 2)
    assert (found.largest, found.same_top, found.positions) == (1.0, 1.0, 2)


def test_a_folder_that_exists_is_never_written_to(engine, tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(ExportError, match="exists already"):
        export(engine, CHAT, tmp_path / "out", "peft")
    assert not list((tmp_path / "out").iterdir())


def test_whole_weights_have_no_adapter(engine, tmp_path):
    with pytest.raises(ExportError, match="whole weights"):
        export(engine, FULL, tmp_path / "out", "peft")


def test_merged_weights_have_no_quantised_form(engine, tmp_path):
    with pytest.raises(ExportError, match="choose f32, f16 or bf16"):
        export(engine, CHAT, tmp_path / "out", "merged", quantization="q8_0")


def test_an_unknown_name_lists_the_known_ones(engine):
    with pytest.raises(UnknownModelError, match=CHAT):
        find_model("ft:nothing", engine.home, engine.database)


def test_the_command_exports_and_says_what_was_compared(engine, tmp_path, capsys):
    home = ["--home", str(engine.home.root)]
    assert main(["export", CHAT, "--to", "peft", "-O", str(tmp_path / "out"), *home]) == 0
    assert "compared with the served model" in capsys.readouterr().out
    main(["export", CHAT, "--to", "merged", "-O", str(tmp_path / "two"), "--json", *home])
    assert json.loads(capsys.readouterr().out)["comparison"]["divergence"] < 0.03


def test_the_command_names_a_folder_after_the_model_and_overwrites_none(
    engine, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    command = ["export", CHAT, "--to", "peft", "--no-compare", "--home", str(engine.home.root)]
    assert main(command) == 0
    assert (tmp_path / "ft-tiny-local-chat-abc12345-peft/adapter_config.json").is_file()
    assert main(command) == 1
    assert "exists already" in capsys.readouterr().err


def test_an_upload_needs_a_repository(engine, capsys):
    assert main(["export", CHAT, "--to", "hub", "--home", str(engine.home.root)]) == 1
    assert "--repo ORGANISATION/NAME" in capsys.readouterr().err
