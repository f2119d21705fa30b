"""Exports a model to a folder in one of four formats, and proves the copy.

The folder is written under a temporary name and renamed when everything is in it and its logits
have been compared, so it is complete and right, or absent.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import torch

from tunesmith.atomic import publish_folder
from tunesmith.disk_space import require_space
from tunesmith.engine.domain.export_rules import export_fault
from tunesmith.engine.models.loading import load_plain_model
from tunesmith.engine.models.model_info import weights_bytes
from tunesmith.engine.models.model_pins import commit_of
from tunesmith.engine.models.peft_adapters import load_with_adapter, merge_adapter, save_model

from .comparison import Difference, difference, logits_of
from .gguf_export import convert_to_gguf, quantize_gguf, read_gguf
from .model_card import model_card
from .model_source import sample_tokens
from .ollama import modelfile
from .transfer_errors import ExportError

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from tunesmith.engine.home import Home
    from tunesmith.types.model_exports import ExportFormat, Quantization

    from .model_source import ModelSource

__all__ = ["ExportReport", "export_model", "number_of_steps"]

Progress: TypeAlias = Callable[[str], object]
"""Called with what begins now."""

# Most nats a token that rounding to a type may cost. Measured: 0.005 in bf16, on a 135M model that
# was trained until its loss was 0.004. It costs less in larger models.
_LIMITS: dict[Quantization, float] = {
    "f32": 1e-4,
    "f16": 1e-2,
    "bf16": 3e-2,
    "q8_0": 3e-2,
    "q4_1": 0.5,
    "q4_0": 0.5,
}
_FOUR_BITS: tuple[Quantization, ...] = ("q4_0", "q4_1")
_NOT_EXPORTED = ("*.safetensors", "*.safetensors.index.json", "provenance.json", "training.json")


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What was exported.

    Attributes:
        folder: The folder.
        format: Its format.
        files: Its files, with the bytes of each.
        difference: From the model that the engine serves; None if it was not compared.
        effect: What fine-tuning has changed, as a divergence from the base model in nats a token:
            the scale for `difference`. None for a base model, and without a comparison.
    """

    folder: Path
    format: ExportFormat
    files: dict[str, int]
    difference: Difference | None
    effect: float | None


def export_model(
    source: ModelSource,
    target: Path,
    export_format: ExportFormat,
    home: Home,
    *,
    quantization: Quantization = "bf16",
    with_base: bool = False,
    compare: bool = True,
    names_paths: bool = True,
    progress: Progress = lambda _: None,
) -> ExportReport:
    """Export a model to a new folder.

    Args:
        source: The model.
        target: The folder, which must not exist yet.
        export_format: "peft" for the adapter alone; "merged" for whole weights in safetensors;
            "gguf" for llama.cpp; "ollama" for a GGUF file and its Modelfile.
        home: The state folder of the engine.
        quantization: The type of the weights. Merged weights can have the first three only; an
            adapter stays in 32 bits.
        with_base: Put the base model's files into an adapter's folder, and refer to those.
        compare: Compare the logits with those of the served model.
        names_paths: Let an adapter whose base model is a folder of this machine name that folder;
            otherwise, as for a copy that leaves the machine, it names the base model's id here.
        progress: Called with each step's description.

    Raises:
        ExportError: The model has no such form, the copy differs from the served model by more
            than rounding, or the folder exists.
        NotEnoughSpaceError: The disk is too full.
        DownloadError: The converter for GGUF cannot be downloaded.
    """
    _check(source, target, export_format, quantization)
    target.parent.mkdir(parents=True, exist_ok=True)
    require_space(
        target.parent,
        _space_needed(source, export_format, with_base=with_base),
        f"export {source.name}",
    )
    folder = target.parent / f".{target.name}.partial"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        export = _Export(source, folder, home, quantization, progress)
        reference = export.reference() if compare else None
        reload = export.write(export_format, with_base=with_base, names_paths=names_paths)
        found = effect = None
        if reference is not None:
            progress("comparing the logits of the copy with the served model's")
            found = difference(reference, logits_of(reload(), export.samples))
            effect = export.effect(reference)
            _check_difference(found, effect, "f32" if export_format == "peft" else quantization)
        (folder / "README.md").write_text(
            model_card(source, export_format, quantization, found, with_base=with_base),
            encoding="utf-8",
        )
        publish_folder(folder, target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    files = {
        path.relative_to(target).as_posix(): path.stat().st_size
        for path in sorted(target.rglob("*"))
        if path.is_file()
    }
    return ExportReport(target, export_format, files, found, effect)


def number_of_steps(
    export_format: ExportFormat, quantization: Quantization, *, compare: bool
) -> int:
    """Return how often an export calls `progress`."""
    writing = 1 if export_format in {"peft", "merged"} else 2 + (quantization in _FOUR_BITS)
    return writing + 2 * compare


class _Export:
    """One export: the model's parts, loaded when they are needed."""

    def __init__(
        self,
        source: ModelSource,
        folder: Path,
        home: Home,
        quantization: Quantization,
        progress: Progress,
    ) -> None:
        from transformers import AutoTokenizer  # noqa: PLC0415 - slow to import

        self._source = source
        self._folder = folder
        self._home = home
        self._quantization: Quantization = quantization
        self._progress = progress
        self._tokenizer = AutoTokenizer.from_pretrained(source.base.path, local_files_only=True)
        self.samples = [tokens for tokens in sample_tokens(source, self._tokenizer) if tokens]

    def reference(self) -> Tensor:
        """Return the logits of the model that the engine serves, in float32."""
        self._progress("computing the logits of the served model")
        return logits_of(self._served_model(torch.float32), self.samples)

    def effect(self, reference: Tensor) -> float | None:
        """Return how far the base model's distributions are from the served model's."""
        if self._source.folder == self._source.base.path:
            return None
        base = load_plain_model(self._source.base.path, torch.float32)
        return difference(reference, logits_of(base, self.samples)).divergence

    def write(
        self, export_format: ExportFormat, *, with_base: bool, names_paths: bool
    ) -> Callable[[], Any]:
        """Write the export; return the function that loads it again."""
        if export_format == "peft":
            return self._write_adapter(with_base=with_base, names_paths=names_paths)
        if export_format == "merged":
            dtype = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
            self._write_merged(self._folder, dtype[self._quantization])
            return lambda: load_plain_model(self._folder, torch.float32)
        path = self._write_gguf()
        if export_format == "ollama":
            text = modelfile(path.name, self._source, self._tokenizer)
            (self._folder / "Modelfile").write_text(text, encoding="utf-8")
        return lambda: read_gguf(path)

    def _write_adapter(self, *, with_base: bool, names_paths: bool) -> Callable[[], Any]:
        self._progress("copying the adapter")
        source, folder = self._source, self._folder
        shutil.copyfile(
            source.folder / "adapter_model.safetensors", folder / "adapter_model.safetensors"
        )
        config = json.loads((source.folder / "adapter_config.json").read_text(encoding="utf-8"))
        named = str(source.base.path.resolve()) if names_paths else source.base.id
        config |= {"base_model_name_or_path": named, "revision": None}
        if with_base:
            shutil.copytree(source.base.path, folder / "base")
            config["base_model_name_or_path"] = "base"
        elif source.base.hub_id is not None:
            config |= {
                "base_model_name_or_path": source.base.hub_id,
                "revision": commit_of(source.base),
            }
        (folder / "adapter_config.json").write_text(
            json.dumps(config, indent=2) + "\n", encoding="utf-8"
        )
        self._copy_tokenizer(folder)
        base = folder / "base" if with_base else source.base.path
        return lambda: load_with_adapter(base, folder, torch.float32)

    def _write_merged(self, folder: Path, dtype: torch.dtype) -> None:
        self._progress("merging the weights")
        source = self._source
        if source.is_adapter:
            model = merge_adapter(source.base.path, source.folder, torch.float32)
        else:
            model = load_plain_model(source.folder, torch.float32)
        model = model.to(dtype)
        model.config.dtype = dtype
        save_model(model, folder)
        self._copy_tokenizer(folder)

    def _write_gguf(self) -> Path:
        merged = self._folder / "merged"
        merged.mkdir()
        self._write_merged(merged, torch.float32)
        four_bits = self._quantization in _FOUR_BITS
        path = self._folder / f"model-{self._quantization}.gguf"
        self._progress("converting to GGUF")
        tools = self._home.tools
        if four_bits:
            unquantised = merged / "model.gguf"
            convert_to_gguf(merged, unquantised, "f32", tools)
            self._progress("quantising to 4 bits")
            quantize_gguf(unquantised, path, self._quantization)
        else:
            convert_to_gguf(merged, path, self._quantization, tools)
        shutil.rmtree(merged)
        return path

    def _served_model(self, dtype: torch.dtype) -> Any:
        source = self._source
        if source.is_adapter:
            return load_with_adapter(source.base.path, source.folder, dtype)
        return load_plain_model(source.folder, dtype)

    def _copy_tokenizer(self, folder: Path) -> None:
        """Copy the base model's files but its weights; what is there already stays."""
        for path in sorted(self._source.base.path.iterdir()):
            is_model_config = path.name in {"config.json", "generation_config.json"}
            is_adapter = (folder / "adapter_config.json").is_file()
            skipped = any(path.match(pattern) for pattern in _NOT_EXPORTED)
            if path.is_file() and not skipped and not (is_adapter and is_model_config):
                target = folder / path.name
                if not target.exists():
                    shutil.copyfile(path, target)


def _check(
    source: ModelSource, target: Path, export_format: ExportFormat, quantization: Quantization
) -> None:
    if target.exists():
        raise ExportError(f"{target} exists already. Name a folder that does not, or remove it.")
    fault = export_fault(source.name, export_format, quantization, is_adapter=source.is_adapter)
    if fault is not None:
        raise ExportError(fault)


def _check_difference(found: Difference, effect: float | None, kind: Quantization) -> None:
    """Refuse a copy that differs by more than rounding.

    Whatever the type, a copy must be nearer to the fine-tuned model than the base model is: an
    adapter that was lost on the way is no rounding.
    """
    limit = _LIMITS[kind]
    if effect is not None:
        limit = min(limit, max(effect / 4, 1e-4))
    if not found.divergence <= limit:
        raise ExportError(
            f"The copy does not answer as the served model does: its next-token distributions "
            f"differ by {found.divergence:.2g} nats a token, and {limit:.2g} can be rounding to "
            f"{kind}. Nothing was exported. A type of more bits (--quantization) comes nearer; "
            "--no-compare exports the model as it is."
        )


def _space_needed(source: ModelSource, export_format: ExportFormat, *, with_base: bool) -> int:
    """Return the bytes that the export needs at its peak, which is a generous estimate."""
    base = weights_bytes(source.base.path)
    if export_format == "peft":
        return weights_bytes(source.folder) + (base if with_base else 0)
    return 2 * base if export_format == "merged" else 5 * base
