"""The real engine on a tiny base model: it trains in a second and answers nonsense.

The model has all files of a real one (tokenizer, chat template, safetensors), with two
layers of random weights and a byte-pair vocabulary trained on a few sentences.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.errors import MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Generator

    from tunesmith.engine import Engine

__all__ = ["start_tiny", "write_tiny_home", "write_tiny_model"]

_CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

_CORPUS = [
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


@contextlib.contextmanager
def start_tiny() -> Generator[Engine]:
    """Run the real engine on a tiny model, in its own process and temporary folder."""
    from tunesmith import engine

    # One thread that sleeps while it waits, whatever this machine's settings are.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    with tempfile.TemporaryDirectory(prefix="tunesmith-") as folder:
        model = write_tiny_model(Path(folder) / "tiny")
        with engine.start(home=write_tiny_home(Path(folder) / "home", model)) as running:
            yield running


def write_tiny_home(folder: Path, model: Path) -> Path:
    """Write a state folder in which every known model name selects `model`; return it.

    Its engines need not prove first that a Llama, as `write_tiny_model` writes it, can be trained
    and served, which loads PyTorch once more.
    """
    from tunesmith.engine.home import Home
    from tunesmith.engine.models.verdicts import Verdict, write_verdict

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "models.toml").write_text(
        f'default = "tiny"\n\n[base.tiny]\npath = "{model.as_posix()}"\n', encoding="utf-8"
    )
    if json.loads((model / "config.json").read_bytes())["model_type"] == "llama":
        write_verdict(Home(folder).proofs, model, Verdict())
    return folder


def write_tiny_model(folder: Path, *, layers: int = 2, seed: int = 0) -> Path:
    """Write a Llama with random weights and its tokenizer to `folder`; return the folder.

    Args:
        folder: Created if missing.
        layers: Number of layers.
        seed: Seed of the weights.

    Raises:
        MissingExtraError: The extra `engine` is not installed.
    """
    try:
        import torch
    except ImportError:
        raise MissingExtraError("The tiny model", "engine") from None
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
    tokenizer.train_from_iterator(_CORPUS * 4, trainer)
    fast: Any = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call] # it has no types
        tokenizer_object=tokenizer,
        bos_token="<|im_start|>",  # noqa: S106 - a special token
        eos_token="<|im_end|>",  # noqa: S106 - a special token
        pad_token="<|im_end|>",  # noqa: S106 - a special token
        unk_token="<|endoftext|>",  # noqa: S106 - a special token
        model_max_length=2048,
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = _CHAT_TEMPLATE
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
            # Wide enough that adapters below a frozen output layer change the predictions.
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
