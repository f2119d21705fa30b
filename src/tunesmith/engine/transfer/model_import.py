"""Brings a PEFT adapter that was trained elsewhere into the engine, under a name of its own.

The adapter is loaded by PEFT on its base model first, so one that does not fit, or that PEFT would
load in part only, is refused and never served.
"""

from __future__ import annotations

import json
import shutil
import time
import warnings
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open

from tunesmith.atomic import publish_folder
from tunesmith.engine.models.catalog import load_catalog
from tunesmith.engine.models.loading import load_plain_model
from tunesmith.engine.models.model_errors import UnknownModelError
from tunesmith.engine.store import model_queries
from tunesmith.engine.store.records import ModelRow, new_token

from .transfer_errors import ImportModelError

if TYPE_CHECKING:
    from pathlib import Path

    from tunesmith.engine.home import Home
    from tunesmith.engine.models.model_info import BaseModel
    from tunesmith.engine.store.database import Database

__all__ = ["import_adapter"]

_FILES = ("adapter_config.json", "adapter_model.safetensors")
_ID_LENGTH = 8


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
    found = _base(config, base, home)
    _check_fit(folder, found)
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
        is_lora = config["peft_type"] == "LORA"
    except (ValueError, KeyError, TypeError) as error:
        raise ImportModelError(
            f"{folder / _FILES[0]} is no configuration of PEFT: {error}."
        ) from None
    if not is_lora:
        raise ImportModelError(
            f"The adapter is of the kind {config['peft_type']}; only LORA can be served."
        )
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


def _check_fit(folder: Path, base: BaseModel) -> None:
    from peft import PeftModel, get_peft_model_state_dict  # noqa: PLC0415 - slow to import

    try:
        with safe_open(folder / _FILES[1], framework="pt") as file:
            saved = set(file.keys())
    except (OSError, SafetensorError) as error:
        raise ImportModelError(f"{folder / _FILES[1]} cannot be read: {error}.") from error
    model = load_plain_model(base.path, torch.float32)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what would be missing is compared below
            loaded = set(get_peft_model_state_dict(PeftModel.from_pretrained(model, folder)))
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise ImportModelError(f"The adapter does not fit {base.id}: {reason}") from error
    if different := sorted(saved ^ loaded):
        raise ImportModelError(
            f"The adapter does not fit {base.id}: {different[0]} is "
            f"{'not in the file' if different[0] in loaded else 'not in the model'}, one of "
            f"{len(different)} that differ. Name the base model that it was trained on with --base."
        )
