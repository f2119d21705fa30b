"""Finds out whether an adapter that vLLM has loaded has any effect on its answers.

vLLM loads adapters whose modules it does not know by the names in the file, reports success and
answers as the base model does (vllm-project/vllm#34186, #34591, #48019). So a few tokens are
generated with and without the adapter: log probabilities that are equal to the last bit come from
the same model.
"""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from .vllm_client import VllmClient

__all__ = ["adapter_rank", "changes_answers", "is_blank_adapter"]

PROBE_TOKENS = 4
PROBE_PROMPT = 12
TOP_LOGPROBS = 5
BLANK = 1e-3  # a matrix B whose values are all below this may vanish in the rounding of bfloat16

_NUMPY_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}


async def changes_answers(client: VllmClient, base: str, adapter: str, vocabulary: int) -> bool:
    """Return whether an adapter's log probabilities differ from those of its base.

    Args:
        client: The vLLM server.
        base: Its name of the base model.
        adapter: Its name of the adapter.
        vocabulary: Number of token ids.
    """
    step = max(1, vocabulary // (PROBE_PROMPT + 1))
    prompt = [step * (index + 1) % vocabulary for index in range(PROBE_PROMPT)]
    plain = await _scores(client, base, prompt)
    return not plain or await _scores(client, adapter, prompt) != plain


async def _scores(client: VllmClient, name: str, prompt: list[int]) -> list[Any]:
    """Return tokens and log probabilities of a short greedy answer; none if it has none."""
    body = {
        "model": name,
        "prompt": prompt,
        "max_tokens": PROBE_TOKENS,
        "min_tokens": PROBE_TOKENS,
        "temperature": 0.0,
        "logprobs": TOP_LOGPROBS,
        "return_tokens_as_token_ids": True,
    }
    scores: list[Any] = []
    async for chunk in client.complete(body):
        for choice in chunk["choices"]:
            if logprobs := choice.get("logprobs"):
                scores.append([logprobs["tokens"], logprobs["token_logprobs"]])
                scores.append(logprobs["top_logprobs"])
    return scores


def is_blank_adapter(folder: Path) -> bool:
    """Return whether an adapter's own weights change next to nothing: its matrices B are about 0.

    Such an adapter is no fault of the server's. One that cannot be read is not called blank.
    """
    file = folder / "adapter_model.safetensors"
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            header: dict[str, Any] = json.loads(stream.read(length))
            for name, entry in header.items():
                if "lora_B" not in name and "lora_embedding_B" not in name:
                    continue
                start, stop = entry["data_offsets"]
                stream.seek(8 + length + start)
                if _largest(stream.read(stop - start), entry["dtype"]) >= BLANK:
                    return False
    except (OSError, ValueError, KeyError, TypeError, struct.error):
        return False
    return True


def _largest(data: bytes, dtype: str) -> float:
    import numpy as np  # noqa: PLC0415 - the simulated engine does without

    values = np.frombuffer(data, _NUMPY_TYPES[dtype])
    if dtype == "BF16":
        values = (values.astype(np.uint32) << 16).view(np.float32)
    return float(np.abs(values).max(initial=0.0))


def adapter_rank(folder: Path) -> int:
    """Return the highest rank of an adapter's matrices, as its configuration says.

    Raises:
        OSError: The configuration cannot be read.
        ValueError: It is no adapter's.
    """
    try:
        values = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        return max(int(values["r"]), *map(int, (values.get("rank_pattern") or {}).values()), 1)
    except (KeyError, TypeError, AttributeError) as error:
        msg = f"{folder.name}/adapter_config.json is no adapter's configuration"
        raise ValueError(msg) from error
