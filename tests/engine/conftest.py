"""A tiny base model with everything that a real one has: tokenizer, chat template, safetensors.

Random weights, two layers, a byte-pair vocabulary trained on a few sentences. It
costs milliseconds to train and answers nonsense: for logic, not for quality.
"""

from __future__ import annotations

import os

# Before torch is imported anywhere: one thread that sleeps while it waits.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from pathlib import Path

import pytest

from tunesmith.engine.home import Home

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

CORPUS = [
    "I love this phone -> positive",
    "I hate this phone -> negative",
    "what a great day -> positive",
    "what an awful day -> negative",
    "the game was won in the last inning, a baseball story -> baseball",
    "the puck went past the goalie on the ice -> hockey",
    "system user assistant\nYou are a poet who answers in rhyme.\nWrite a limerick about the sea.",
    "Company: Acme\nAd: the best soap\nSupported: yes END\n\n###\n\n",
    "Denver is a city. Agent: hello, how can I help you? Customer: my name is Ann.",
    "0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15",
]


def write_tiny_model(folder: Path, *, layers: int = 2, seed: int = 0) -> Path:
    """Write a random Llama of `layers` layers with its tokenizer to `folder`; return the folder."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS * 4, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        unk_token="<|endoftext|>",
        model_max_length=2048,
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = CHAT_TEMPLATE
    torch.manual_seed(seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(fast),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=layers,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=2048,
            # Wide enough for adapters under a frozen output layer to move its predictions.
            initializer_range=0.4,
            tie_word_embeddings=True,
            bos_token_id=fast.bos_token_id,
            eos_token_id=fast.eos_token_id,
            pad_token_id=fast.pad_token_id,
        )
    )
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_base_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a two-layer random Llama whose tokenizer knows " positive" and " negative"."""
    return write_tiny_model(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture
def tiny_home(tmp_path: Path, tiny_base_model: Path) -> Home:
    """A fresh state folder in which every known model name leads to the tiny model."""
    home = Home(tmp_path / "home")
    home.root.mkdir()
    home.base_model_table.write_text(
        f'default = "tiny"\n\n[base.tiny]\npath = "{tiny_base_model.as_posix()}"\n',
        encoding="utf-8",
    )
    return home
