"""Converts a GGUF file of a Llama model to a folder that transformers reads.

GGUF is llama.cpp's format (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md).
Weights are dequantised and written as bf16 safetensors; the tokenizer is rebuilt with its
control tokens, its splitting of digits and its chat template.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import gguf
import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from .model_errors import PullError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["import_gguf"]

_LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_CONTROL_TOKEN = 3  # in tokenizer.ggml.token_type


def import_gguf(source: Path, folder: Path, progress: Callable[[int, int], None]) -> dict[str, Any]:
    """Convert the model in `source` and write it to `folder`.

    Args:
        source: A GGUF file of the llama architecture.
        folder: An existing, empty folder.
        progress: Called with the number of converted tensors and of all tensors.

    Returns:
        The name, licence and quantisation in the file's metadata.

    Raises:
        PullError: The file is not a GGUF file, or contains another kind of model.
    """
    try:
        reader = gguf.GGUFReader(source)
    except (ValueError, KeyError, IndexError) as error:
        msg = f"{source.name} is not a readable GGUF file: {error}"
        raise PullError(msg) from error
    metadata = _Metadata(reader)
    if metadata["general.architecture"] != "llama" or metadata["tokenizer.ggml.model"] != "gpt2":
        msg = (
            f"{source.name} contains a model of the kind {metadata['general.architecture']!r} with "
            f"a tokenizer of the kind {metadata['tokenizer.ggml.model']!r}; only llama with a "
            "byte-level tokenizer can be converted."
        )
        raise PullError(msg)
    config = _config(metadata, tied=all(t.name != "output.weight" for t in reader.tensors))
    _write_tokenizer(metadata, folder)
    _write_json(folder / "config.json", config)
    _write_json(
        folder / "generation_config.json",
        {key: config[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")},
    )
    save_file(
        _weights(reader, config, progress), folder / "model.safetensors", metadata={"format": "pt"}
    )
    return {
        "name": metadata.get("general.name"),
        "license": metadata.get("general.license"),
        "quantisation": gguf.LlamaFileType(metadata["general.file_type"]).name,
    }


class _Metadata:
    """The metadata of a GGUF file: its key-value pairs."""

    def __init__(self, reader: Any) -> None:
        self._fields = reader.fields

    def __getitem__(self, key: str) -> Any:
        return self._fields[key].contents()

    def get(self, key: str, default: Any = None) -> Any:
        return self[key] if key in self._fields else default


def _config(metadata: _Metadata, *, tied: bool) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "bfloat16",
        "vocab_size": len(metadata["tokenizer.ggml.tokens"]),
        "hidden_size": metadata["llama.embedding_length"],
        "intermediate_size": metadata["llama.feed_forward_length"],
        "num_hidden_layers": metadata["llama.block_count"],
        "num_attention_heads": metadata["llama.attention.head_count"],
        "num_key_value_heads": metadata["llama.attention.head_count_kv"],
        "max_position_embeddings": metadata["llama.context_length"],
        "rms_norm_eps": round(metadata["llama.attention.layer_norm_rms_epsilon"], 9),
        "rope_theta": metadata["llama.rope.freq_base"],
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": tied,
        "bos_token_id": metadata["tokenizer.ggml.bos_token_id"],
        "eos_token_id": metadata["tokenizer.ggml.eos_token_id"],
        "pad_token_id": metadata["tokenizer.ggml.padding_token_id"],
    }


def _weights(
    reader: Any, config: dict[str, Any], progress: Callable[[int, int], None]
) -> dict[str, torch.Tensor]:
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    weights = {}
    for done, tensor in enumerate(reader.tensors, start=1):
        values = torch.from_numpy(gguf.dequantize(tensor.data, tensor.tensor_type).copy())
        part = tensor.name.split(".")[-2]
        if part in heads:
            values = _unpermute(values, heads[part])
        weights[_name(tensor.name)] = values.to(torch.bfloat16).contiguous()
        progress(done, len(reader.tensors))
    return weights


def _unpermute(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Restore the row order of a (heads * D, hidden) projection for rotary embeddings.

    llama.cpp rotates pairs of neighbouring rows, transformers row i with row i + D / 2.
    """
    rows, columns = weight.shape
    return weight.view(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def _name(name: str) -> str:
    whole = {
        "token_embd.weight": "model.embed_tokens.weight",
        "output_norm.weight": "model.norm.weight",
        "output.weight": "lm_head.weight",
    }
    if name in whole:
        return whole[name]
    _, layer, part, kind = name.split(".")
    return f"model.layers.{layer}.{_LAYER_NAMES[part]}.{kind}"


def _write_tokenizer(metadata: _Metadata, folder: Path) -> None:
    tokens: list[str] = metadata["tokenizer.ggml.tokens"]
    kinds: list[int] = metadata["tokenizer.ggml.token_type"]
    merges = [tuple(merge.split(" ")) for merge in metadata["tokenizer.ggml.merges"]]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    # The "smollm" family splits numbers into single digits before anything else.
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    control = [token for token, kind in zip(tokens, kinds, strict=True) if kind == _CONTROL_TOKEN]
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in control]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    _write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": tokens[metadata["tokenizer.ggml.bos_token_id"]],
            "eos_token": tokens[metadata["tokenizer.ggml.eos_token_id"]],
            "pad_token": tokens[metadata["tokenizer.ggml.padding_token_id"]],
            "unk_token": tokens[metadata["tokenizer.ggml.unknown_token_id"]],
            "model_max_length": metadata["llama.context_length"],
            "clean_up_tokenization_spaces": False,
            "add_prefix_space": False,
            "chat_template": metadata["tokenizer.chat_template"],
        },
    )


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
