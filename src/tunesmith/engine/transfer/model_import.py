"""Brings a PEFT adapter that was trained elsewhere into the engine, under a name of its own.

The adapter is loaded by PEFT on its base model first, so one that does not fit, or that PEFT would
load in part only, is refused and never served; so is one that would be served as something else
than PEFT computes.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open

from tunesmith.atomic import publish_folder
from tunesmith.engine.models.catalog import load_catalog
from tunesmith.engine.models.loading import load_plain_model
from tunesmith.engine.models.model_errors import UnknownModelError
from tunesmith.engine.models.peft_adapters import (
    AdapterError,
    adapter_keys,
    changes_embeddings,
    is_plain_lora,
    load_with_adapter,
    merge,
    save_model,
)
from tunesmith.engine.store import model_queries
from tunesmith.engine.store.records import ModelRow, new_token

from .comparison import difference, logits_of
from .model_source import text_tokens
from .transfer_errors import ImportModelError

if TYPE_CHECKING:
    from tunesmith.engine.home import Home
    from tunesmith.engine.models.model_info import BaseModel
    from tunesmith.engine.store.database import Database

__all__ = ["import_adapter"]

_FILES = ("adapter_config.json", "adapter_model.safetensors")
_ID_LENGTH = 8
_LARGEST_DIVERGENCE = 1e-4  # rounding of float32; nats a token
_NOT_SERVED = {
    "alora_invocation_tokens": "it acts from certain tokens on only, which cannot be served here.",
    "layer_replication": "it changes the number of layers. Merge it into its base model with PEFT "
    "and add the result: tunesmith models add DIR --as NAME.",
    "megatron_config": "it was made for layers of Megatron, which this engine does not have.",
    "arrow_config": "it chooses among several adapters, which cannot be served here.",
}


def import_adapter(
    folder: Path,
    home: Home,
    database: Database,
    *,
    base: str | None = None,
    suffix: str = "",
    organization: str = "local",
) -> ModelRow:
    """Copy the adapter in `folder` into the engine; return the model that it has become.

    Args:
        folder: A folder of PEFT: `adapter_config.json` and `adapter_model.safetensors`.
        home: The state folder of the engine.
        database: Its database.
        base: The base model, as a name of `tunesmith models list`; default: the one that the
            adapter's configuration names.
        suffix: Part of the model's name, in lower case.
        organization: Who may use the model.

    Raises:
        ImportModelError: The folder has no adapter, or it does not fit the base model.
        UnknownModelError: The base model is unknown.
        ModelNotInstalledError: It is not on this machine.
    """
    config = _config(folder)
    _check_kind(folder, config)
    found = _base(config, base, home)
    _check_fit(folder, found, config)
    token = new_token()
    target = home.models / token
    temporary = home.models / f".{token}.partial"
    try:
        temporary.mkdir(parents=True)
        for name in _FILES:
            shutil.copyfile(folder / name, temporary / name)
        publish_folder(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    row = ModelRow(
        name=f"ft:{found.id}:{organization}:{suffix}:{token[:_ID_LENGTH]}",
        organization=organization,
        created_at=time.time(),
        job_id="",
        base_model=found.id,
        family=found.id,
        path=target.relative_to(home.root).as_posix(),
    )
    with database.write() as connection:
        model_queries.insert_model(connection, row)
    return row


def _config(folder: Path) -> dict[str, Any]:
    if (folder / "config.json").is_file() and not (folder / _FILES[0]).is_file():
        raise ImportModelError(
            f"{folder} is a whole model, not an adapter. Name it as a base model, with its path, "
            "in models.toml of the state folder."
        )
    for name in _FILES:
        if not (folder / name).is_file():
            raise ImportModelError(
                f"{folder} has no {name}. An adapter of PEFT consists of {' and '.join(_FILES)}; "
                "weights in pickles (.bin) are not read, since they can contain code."
            )
    try:
        config = json.loads((folder / _FILES[0]).read_text(encoding="utf-8"))
        config["peft_type"]
    except (ValueError, KeyError, TypeError) as error:
        raise ImportModelError(
            f"{folder / _FILES[0]} is no configuration of PEFT: {error}."
        ) from None
    return dict(config)


def _base(config: dict[str, Any], name: str | None, home: Home) -> BaseModel:
    catalog = load_catalog(home)
    if name is not None:
        return catalog.resolve(name)
    named = str(config.get("base_model_name_or_path") or "")
    for base in catalog.bases():
        if named in {base.id, base.hub_id, str(base.path), str(base.path.resolve())}:
            return catalog.resolve(base.id)
    try:
        return catalog.resolve(named)
    except UnknownModelError as error:
        raise UnknownModelError(
            f"The adapter names {named!r} as its base model, which is unknown here. Name it with "
            f"--base. {error}"
        ) from None


def _check_kind(folder: Path, config: dict[str, Any]) -> None:
    """Refuse what cannot be served, or not as it was trained, by what the configuration says."""
    if config["peft_type"] != "LORA":
        raise ImportModelError(
            f"The adapter is of the kind {config['peft_type']}; only LORA can be served."
        )
    task = config.get("task_type")
    if task not in {None, "CAUSAL_LM"}:
        raise ImportModelError(
            f"The adapter was trained for the task {task}; only CAUSAL_LM answers requests here."
        )
    for name, reason in _NOT_SERVED.items():
        if config.get(name):
            raise ImportModelError(f"The adapter has {name}: {reason}")
    from peft import LoraConfig  # noqa: PLC0415 - slow to import

    known = {field.name for field in dataclasses.fields(LoraConfig)}
    unknown = sorted(name for name in config.keys() - known if config[name])
    if unknown:
        raise ImportModelError(
            f"{folder / _FILES[0]} has {', '.join(unknown)}, which the installed PEFT does not "
            "know: a newer one has written it. Upgrade peft; or remove what has no meaning for "
            "the adapter's answers."
        )


def _check_fit(folder: Path, base: BaseModel, config: dict[str, Any]) -> None:
    """Check that PEFT loads the whole adapter, and that what is served will answer as PEFT does."""
    from transformers import AutoTokenizer  # noqa: PLC0415 - slow to import

    _check_embeddings(folder, base)
    try:
        model = load_with_adapter(base.path, folder, torch.float32)
    except AdapterError as error:
        raise ImportModelError(
            f"The adapter does not fit {base.id}: {error}. Name the base model that it was trained "
            "on with --base."
        ) from error
    tokenizer = AutoTokenizer.from_pretrained(base.path, local_files_only=True)
    samples = [tokens for tokens in text_tokens(tokenizer) if tokens]
    reference = logits_of(model, samples)
    if not bool(torch.isfinite(reference).all()):
        raise ImportModelError(
            "The adapter's answers are no numbers (NaN or infinite): its weights are damaged."
        )
    if is_plain_lora(config) and not changes_embeddings(adapter_keys(folder)):
        return  # served as its low-rank products, as they are
    with tempfile.TemporaryDirectory(prefix="tunesmith-import-") as merged:
        try:
            save_model(merge(model), Path(merged))
        except AdapterError as error:
            raise ImportModelError(
                f"The adapter can be served only once it is merged, and {error}."
            ) from error
        served = load_plain_model(Path(merged), torch.float32)
        found = difference(reference, logits_of(served, samples))
    if not found.divergence <= _LARGEST_DIVERGENCE:
        raise ImportModelError(
            "The adapter can be served only once it is merged into its base model, and merged it "
            f"answers otherwise: {found.divergence:.2g} nats a token. It cannot be served."
        )


def _check_embeddings(folder: Path, base: BaseModel) -> None:
    """Refuse an adapter whose vocabulary is larger than that of its base model."""
    config = json.loads((base.path / "config.json").read_text(encoding="utf-8"))
    size = config.get("vocab_size") or (config.get("text_config") or {}).get("vocab_size")
    try:
        with safe_open(folder / _FILES[1], framework="pt") as file:
            for key in file.keys():  # noqa: SIM118 - it cannot be iterated
                if not key.endswith(("embed_tokens.weight", "lm_head.weight", "wte.weight")):
                    continue
                rows = file.get_slice(key).get_shape()[0]
                if rows != size:
                    raise ImportModelError(
                        f"The adapter comes with {key} for {rows:,} tokens, and {base.id} has "
                        f"{size:,}: its tokenizer was extended. Merge it into its base model with "
                        "PEFT, save that with the tokenizer, and add the result as a base model: "
                        "tunesmith models add DIR --as NAME."
                    )
    except (OSError, SafetensorError) as error:
        raise ImportModelError(f"{folder / _FILES[1]} cannot be read: {error}.") from error
