"""What the GPU benchmark's cases share: models of random weights, rows, the clock, the memory.

Models have the architecture and the shapes of Qwen3 with random weights and a byte-level tokenizer,
rows have random text of given lengths: nothing is downloaded, and speed and memory are those of
trained weights.
"""

from __future__ import annotations

import contextlib
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# hidden size, size of the MLP, layers, attention heads, key-value heads, size of a head,
# whether input and output embeddings are the same, size of the vocabulary
SHAPES: dict[str, tuple[int, int, int, int, int, int, bool, int]] = {
    "tiny": (64, 128, 2, 4, 2, 16, True, 512),
    "0.6B": (1024, 3072, 28, 16, 8, 128, True, 151936),
    "1.7B": (2048, 6144, 28, 16, 8, 128, True, 151936),
    "4B": (2560, 9728, 36, 32, 8, 128, True, 151936),
    "8B": (4096, 12288, 36, 32, 8, 128, False, 151936),
}
CONTEXT = 40960
RANK, ALPHA = 16, 32
RATE = 1e-3
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@dataclass(frozen=True, slots=True)
class Case:
    """One measurement.

    Attributes:
        kind: "prepare", "training" or "serving".
        shape: The model's shape, a key of SHAPES.
        name: The trainer or the server.
        size: Training: tokens of a row. Serving: tokens to generate for each request.
        batch: Training: rows of a step.
        counts: Serving: requests at a time, one measurement after another.
        spread: Training: share by which rows are longer or shorter.
        seconds: About how long it takes, on an H100; a case that does not fit is not begun.
    """

    kind: str
    shape: str
    name: str
    size: int = 0
    batch: int = 0
    counts: tuple[int, ...] = ()
    spread: float = 0.1
    seconds: float = 40.0

    def __str__(self) -> str:
        if self.kind == "training":
            mark = "" if self.spread else "="
            return f"{self.shape} training {self.name} {self.size}x{self.batch}{mark}"
        if self.kind == "serving":
            return f"{self.shape} serving {self.name}"
        return f"{self.shape} {self.kind}"


class Bench:
    """What the cases share: folders, the clock, memory and the profiler.

    Args:
        folder: Where models and rows are.
        seconds: How long to measure a training.
        profile: Whether to sum the GPU's time of some steps.
        vllm: The command that starts vLLM; empty if there is none.
    """

    def __init__(
        self, folder: Path, seconds: float, *, profile: bool, vllm: tuple[str, ...] = ()
    ) -> None:
        import torch

        self.folder = folder
        self.vllm = vllm
        self.seconds = seconds
        self.profile = profile and torch.cuda.is_available()
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    @property
    def is_gpu(self) -> bool:
        return self.device.type == "cuda"

    def model_folder(self, shape: str) -> Path:
        return self.folder / f"qwen3-{shape}"

    def clock(self) -> float:
        """Return the time when the device has done all that it was given."""
        import torch

        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def reset_peak(self) -> None:
        import torch

        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()

    def peak(self) -> float | None:
        """Return the most bytes in use since `reset_peak`, in GB."""
        import torch

        return torch.cuda.max_memory_allocated() / 1e9 if self.device.type == "cuda" else None

    @contextlib.contextmanager
    def gpu_time(self, result: dict[str, Any], steps: int) -> Iterator[None]:
        """Add the GPU's own time of one of the `steps` within the block, if profiling."""
        if not self.profile:
            yield
            return
        from torch.profiler import ProfilerActivity, profile

        with profile(activities=[ProfilerActivity.CUDA]) as profiler:
            yield
            self.clock()
        events = [event for event in profiler.key_averages() if event.self_device_time_total > 0]
        result["gpu_ms"] = sum(event.self_device_time_total for event in events) / 1e3 / steps
        result["kernels"] = sum(event.count for event in events) // steps
        top = sorted(events, key=lambda event: -event.self_device_time_total)[:8]
        result["top"] = [
            [event.key[:90], round(event.self_device_time_total / 1e3 / steps, 2)] for event in top
        ]


def prepare(case: Case, bench: Bench) -> dict[str, Any]:
    """Write a model with random weights, its tokenizer and an adapter."""
    import torch
    import transformers
    from transformers import AutoModelForCausalLM

    from tunesmith.engine.training.lora import AdapterConfig, add_adapter
    from tunesmith.engine.training.split_model import SplitModel

    torch.manual_seed(0)
    with bench.device:
        model = AutoModelForCausalLM.from_config(configuration(case.shape), dtype=torch.bfloat16)
    folder = bench.model_folder(case.shape)
    model.save_pretrained(folder)
    write_tokenizer(folder, SHAPES[case.shape][-1])
    adapter = add_adapter(SplitModel(model), AdapterConfig(RANK, ALPHA, tuple(TARGETS)))
    (folder / "adapter").mkdir()
    adapter.save(folder / "adapter")
    # Also reads the GPU's libraries from the disk, which would slow the first case.
    tokens = torch.arange(64, device=bench.device)[None]
    model(input_ids=tokens, labels=tokens).loss.backward()
    return {
        "card": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }


def configuration(shape: str) -> Any:
    from transformers import Qwen3Config

    hidden, mlp, layers, heads, kv_heads, head_dim, tied, vocabulary = SHAPES[shape]
    return Qwen3Config(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=mlp,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=head_dim,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=tied,
        bos_token_id=256,
        eos_token_id=257,
        pad_token_id=256,
    )


def write_tokenizer(folder: Path, size: int) -> None:
    """Write a byte-level tokenizer: one token a byte, and the rest of the vocabulary unused."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    names = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "<|endoftext|>", "<|im_end|>"]
    names += [f"unused{index}" for index in range(len(names), size)]
    vocabulary = {name: index for index, name in enumerate(names)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast: Any = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # it has no types
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",  # noqa: S106 - a special token
        pad_token="<|endoftext|>",  # noqa: S106 - a special token
        model_max_length=CONTEXT,
    )
    fast.save_pretrained(folder)


def rows_of(case: Case, count: int) -> list[dict[str, str]]:
    """Return rows of about the case's length; half of each is completion."""
    least, most = round(case.size * (1 - case.spread)), round(case.size * (1 + case.spread))
    generator = random.Random(0)  # noqa: S311 - the same rows every time
    rows = []
    for _ in range(count):
        tokens = generator.randint(least, most)
        text = "".join(generator.choices("abcdefghijklmnopqrstuvwxyz ", k=tokens))
        rows.append({"prompt": text[: tokens // 2], "completion": text[tokens // 2 :]})
    return rows
