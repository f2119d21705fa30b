"""A tiny model with GPT-2's vocabulary, which other programs know: llama.cpp reads it."""

from __future__ import annotations

import base64
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import TikTokenConverter

from tunesmith.datasets.tokens.vocabulary import load_ranks

# The fine-tuned models that the fixture of tests/engine/transfer records.
CHAT = "ft:tiny:local:chat:abc12345"
PLAIN = "ft:tiny:local:plain:def12345"
FULL = "ft:tiny:local:full:ghi12345"
SPLIT = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def write_model_with_known_tokenizer(folder: Path) -> Path:
    """Write a random Llama of two layers and its tokenizer to `folder`; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    ranks = folder / "ranks.tiktoken"
    ranks.write_bytes(
        b"".join(
            base64.b64encode(token) + b" %d\n" % rank
            for token, rank in load_ranks("r50k_base").items()
        )
    )
    converted = TikTokenConverter(vocab_file=str(ranks), pattern=SPLIT).converted()
    ranks.unlink()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=converted,
        bos_token="<|endoftext|>",
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        additional_special_tokens=["<|im_start|>"],
    )
    tokenizer.chat_template = CHATML
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=256,
        initializer_range=0.2,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder
