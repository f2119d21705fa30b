"""Writes the model card of an export: the README.md with metadata that the hub reads.

The metadata are those of https://huggingface.co/docs/hub/model-cards. Rows of the training data
are never in it, only the names, sizes and hashes of the files.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tunesmith.engine.models.model_pins import commit_of, origin_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .comparison import Difference
    from .model_source import ModelSource

__all__ = ["model_card"]

_LIBRARIES = {"peft": "peft", "merged": "transformers", "gguf": "llama.cpp", "ollama": "llama.cpp"}
_USE = {
    "peft": (
        "from peft import AutoPeftModelForCausalLM\n\n"
        'model = AutoPeftModelForCausalLM.from_pretrained(".")'
    ),
    "merged": (
        "from transformers import AutoModelForCausalLM\n\n"
        'model = AutoModelForCausalLM.from_pretrained(".")'
    ),
}
_COMMANDS = {
    "gguf": "llama-server -m model-{quantization}.gguf",
    "ollama": "ollama create my-model -f Modelfile && ollama run my-model",
}


def model_card(
    source: ModelSource,
    export_format: str,
    quantization: str,
    found: Difference | None,
    *,
    with_base: bool,
) -> str:
    """Return the model card as Markdown with YAML front matter.

    Args:
        source: The model.
        export_format: The format of the export.
        quantization: The type of its weights.
        found: Its difference from the served model; None if it was not compared.
        with_base: Whether the base model is in the folder.
    """
    lines = ["---", *_metadata(source, export_format), "---", "", f"# {source.name}", ""]
    base = source.base
    named = base.hub_id or base.id
    what = "A copy" if source.folder == base.path else "A fine-tuned version"
    lines += [f"{what} of `{named}`, exported from tunesmith as {export_format}.", ""]
    lines += ["## Use", "", *_use(export_format, quantization, with_base=with_base), ""]
    lines += ["## Base model", "", *_base(source), ""]
    if source.job is not None:
        lines += ["## Training", "", *_training(source), ""]
    lines += ["## This copy", "", _copy(export_format, quantization, found), ""]
    return "\n".join(lines)


def _metadata(source: ModelSource, export_format: str) -> Iterator[str]:
    base = source.base
    if base.hub_id is not None:
        yield f"base_model: {_yaml(base.hub_id)}"
    if base.license is not None:
        yield f"license: {_yaml(base.license)}"
    yield f"library_name: {_LIBRARIES[export_format]}"
    yield "pipeline_tag: text-generation"
    yield "tags:"
    yield "  - tunesmith"
    yield "  - lora" if source.is_adapter else "  - full-fine-tuning"


def _use(export_format: str, quantization: str, *, with_base: bool) -> Iterator[str]:
    if export_format in _USE:
        yield f"```python\n{_USE[export_format]}\n```"
    else:
        yield f"```console\n{_COMMANDS[export_format].format(quantization=quantization)}\n```"
    if with_base and export_format == "peft":
        yield ""
        yield "The base model is in `base`; run this in the folder of this file."


def _base(source: ModelSource) -> Iterator[str]:
    base = source.base
    yield f"- Model: `{base.hub_id or base.id}`"
    revision = commit_of(base)
    if revision is not None:
        yield f"- Revision: `{revision}`"
    yield f"- Licence: {base.license or 'not recorded; see the base model'}"
    quantised = _quantised_origin(source)
    if quantised is not None:
        yield (
            f"- It was trained on weights from a file quantised to {quantised}, since the hub was "
            "out of reach; the hub's own weights differ from them by that rounding."
        )


def _quantised_origin(source: ModelSource) -> str | None:
    quantisation = origin_of(source.base.path).get("quantisation")
    return None if quantisation is None else str(quantisation).removeprefix("MOSTLY_")


def _training(source: ModelSource) -> Iterator[str]:
    job = source.job
    if job is None:
        return
    yield f"- Job: `{job.id}`, method {job.method}, seed {job.seed}"
    for kind, file in source.files.items():
        what = f"{_code(file.filename)}, {file.bytes:,} bytes, sha256 `{file.sha256}`"
        yield f"- {kind.capitalize()} data: {what}"
    values: dict[str, Any] = job.resolved_hyperparameters or job.requested_hyperparameters
    for name, value in values.items():
        yield f"- {name}: {value}"
    if job.trained_tokens is not None:
        yield f"- Trained tokens: {job.trained_tokens:,}"
    for name, value in source.metrics.items():
        yield f"- {name}: {value:.4g}" if isinstance(value, float) else f"- {name}: {value}"


def _copy(export_format: str, quantization: str, found: Difference | None) -> str:
    kind = "f32" if export_format == "peft" else quantization
    if found is None:
        return f"Weights in {kind}. Its answers were not compared with the served model's."
    return (
        f"Weights in {kind}. Compared with the served model over {found.positions} positions: "
        f"{found.divergence:.2g} nats a token between the next-token distributions, the same most "
        f"likely token at {found.same_top:.1%} of them."
    )


def _code(text: str) -> str:
    return "`" + text.replace("`", "'") + "`"


def _yaml(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)  # a JSON string is a YAML string
