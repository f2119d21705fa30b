"""What was proven of a base model: by which path it trains and is served, or why it does not.

A proof runs the model, so it is kept: one file for each content of a model's folder and each
version of the libraries that compute. The server reads it without loading any of them.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, TypeAlias

from tunesmith.atomic import write_atomically

__all__ = ["ModelPath", "Verdict", "read_verdict", "static_fault", "write_verdict"]

ModelPath: TypeAlias = Literal["fast", "general"]
"""How a model is run: by the engine's own layers, or by plain transformers and PEFT."""

_TABLES = ("MODEL_FOR_CAUSAL_LM_MAPPING_NAMES", "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES")
_TABLE_KEY = re.compile(r"^\s+\(\"([\w.-]+)\",", re.MULTILINE)
_LIBRARIES = ("tunesmith", "torch", "transformers", "peft")
_HEADER_LENGTH = 8  # bytes, at the start of a file of weights
_LARGEST_HEADER = 100 << 20


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was proven of a base model.

    Attributes:
        training: By which path it is trained.
        serving: By which path it is served.
        reason: Why one of them is not the fast one; empty if both are.
        refused: Why it can be neither trained nor served; None if it can.
    """

    training: ModelPath = "fast"
    serving: ModelPath = "fast"
    reason: str = ""
    refused: str | None = None


def read_verdict(proofs: Path, model: Path) -> Verdict | None:
    """Return what was proven of the model in a folder as it is now; None if nothing was.

    Args:
        proofs: Folder of the proofs.
        model: Folder of the model.
    """
    try:
        text = (proofs / f"{_fingerprint(model)}.json").read_text(encoding="utf-8")
        return Verdict(**json.loads(text))
    except (OSError, ValueError, TypeError):
        return None


def write_verdict(proofs: Path, model: Path, verdict: Verdict) -> None:
    """Keep what was proven of the model in a folder.

    Args:
        proofs: Folder of the proofs, created where needed.
        model: Folder of the model.
        verdict: The result.
    """
    proofs.mkdir(parents=True, exist_ok=True)
    with write_atomically(proofs / f"{_fingerprint(model)}.json") as file:
        file.write(json.dumps(asdict(verdict), indent=2).encode() + b"\n")


def static_fault(model: Path) -> str | None:
    """Return why the model in a folder can be neither trained nor served, from its settings alone.

    Takes milliseconds and loads no library, so it says less than a proof.

    Args:
        model: Folder of the model.
    """
    try:
        config = json.loads((model / "config.json").read_text(encoding="utf-8"))
        kind = config.get("model_type")
    except (OSError, ValueError, AttributeError):
        return "its config.json cannot be read"
    if config.get("is_encoder_decoder"):
        return "it has an encoder and a decoder; causal language models have no encoder"
    known = _text_model_types()
    if kind is None or not known or kind in known:
        return None
    if config.get("auto_map"):
        return "it comes with code of its own, which is never run"
    return (
        f"transformers {_version('transformers')} has no causal language model of the type {kind!r}"
    )


@cache
def _text_model_types() -> frozenset[str]:
    """Return the model types that transformers has causal language models of.

    Read from the text of its table: importing that would load PyTorch. Empty where the table is
    not found, in which case nothing is known.
    """
    spec = find_spec("transformers")
    if spec is None or spec.origin is None:
        return frozenset()
    table = Path(spec.origin).parent / "models/auto/modeling_auto.py"
    try:
        text = table.read_text(encoding="utf-8")
    except OSError:
        return frozenset()
    types: set[str] = set()
    for name in _TABLES:
        _, found, rest = text.partition(f"{name} = OrderedDict(")
        if not found:
            return frozenset()
        types.update(_TABLE_KEY.findall(rest.partition("\n)\n")[0]))
    return frozenset(types)


def _fingerprint(model: Path) -> str:
    """Return a hash of what decides how a model computes: its settings, the form of its weights.

    Of the weights the names, shapes and sizes are read, not the gigabytes.
    """
    digest = hashlib.sha256(repr(_versions()).encode())
    digest.update((model / "config.json").read_bytes())
    for path in sorted(model.glob("token*")):
        digest.update(f"{path.name} {path.stat().st_size}".encode())
    for path in sorted(model.glob("*.safetensors")):
        status = path.stat()
        digest.update(f"{path.name} {status.st_size} {status.st_mtime_ns}".encode())
        with path.open("rb") as file:
            length = int.from_bytes(file.read(_HEADER_LENGTH), "little")
            digest.update(file.read(min(length, _LARGEST_HEADER)))
    return digest.hexdigest()


@cache
def _versions() -> tuple[str, ...]:
    return tuple(map(_version, _LIBRARIES))


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return ""
