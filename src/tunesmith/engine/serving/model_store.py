"""The models in memory: each base model once, its adapters beside it, least recently used first."""

from __future__ import annotations

import gc
import logging
import tempfile
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from tunesmith.engine.domain.errors import ErrorKind
from tunesmith.engine.models.memory_table import give_host_memory_back
from tunesmith.engine.models.model_info import weights_bytes
from tunesmith.engine.models.peft_adapters import AdapterError, merge_adapter, save_model

from .generation_errors import GenerationError
from .lora import UnsupportedAdapterError, load_adapter
from .model_loader import load_base

if TYPE_CHECKING:
    from collections.abc import Callable

    from tunesmith.engine.models.model_info import ServableModel

    from .loaded_base import LoadedBase
    from .lora import LoraAdapter

__all__ = ["ModelStore"]

logger: logging.Logger = logging.getLogger("tunesmith.serving")


@dataclass(slots=True)
class ModelStore:
    """Loads models where needed and evicts the least recently used ones.

    Args:
        budget: Most bytes of weights; one base is kept in any case.
        device: Where to load models.
        dtype: The type to load them in.
        is_busy: Returns whether a base is generating; such a base is never evicted.
        on_unload: Called with a base that was unloaded.
        weights: How to keep the weights; see `ServingConfig.weights`.
    """

    budget: int
    device: torch.device
    dtype: torch.dtype
    is_busy: Callable[[LoadedBase], bool]
    on_unload: Callable[[LoadedBase], object]
    weights: str = "unquantized"
    bases: OrderedDict[Path, LoadedBase] = field(default_factory=OrderedDict)

    def get(self, model: ServableModel) -> tuple[LoadedBase, LoraAdapter | None]:
        """Return the base and the adapter of a model, loading what is not in memory.

        Raises:
            GenerationError: The files are missing, broken, or do not fit each other.
        """
        folder = model.adapter_path
        if folder is None:
            return self._base(model.base_path), None
        if not (folder / "adapter_config.json").is_file():
            return self._base(folder, tokenizer_path=model.base_path), None
        if folder in self.bases:  # an adapter that had to be merged
            return self._base(folder), None
        base = self._base(model.base_path)
        adapter = base.adapters.get(folder)
        if adapter is None:
            try:
                adapter = load_adapter(folder, base.model)
            except UnsupportedAdapterError:
                return self._merged(folder, model.base_path), None
            base.adapters[folder] = adapter
            self._evict(keep=base)
        base.adapters.move_to_end(folder)
        return base, adapter

    def unload(self, folder: Path) -> None:
        """Unload a model that has been deleted; a base that is generating stays for now."""
        if folder in self.bases and not self.is_busy(self.bases[folder]):
            self._unload_base(folder)
        for base in self.bases.values():
            adapter = base.adapters.pop(folder, None)
            if adapter is not None:
                base.lora.unload(adapter)

    def loaded(self) -> dict[Path, int]:
        """Return the folders of the bases and adapters in memory and the bytes of each."""
        sizes: dict[Path, int] = {}
        for path, base in self.bases.items():
            adapters = {folder: adapter.nbytes for folder, adapter in base.adapters.items()}
            sizes |= {path: base.nbytes - sum(adapters.values())} | adapters
        return sizes

    def _base(self, path: Path, tokenizer_path: Path | None = None) -> LoadedBase:
        base = self.bases.get(path)
        if base is None:
            self._evict(incoming=weights_bytes(path))
            base = load_base(path, tokenizer_path or path, self.device, self.dtype, self.weights)
            self._keep(path, base)
        self.bases.move_to_end(path)
        return base

    def _merged(self, folder: Path, base_path: Path) -> LoadedBase:
        """Load an adapter that a batch cannot share: merged into a copy of its base."""
        self._evict(incoming=weights_bytes(base_path))
        with tempfile.TemporaryDirectory(prefix="tunesmith-merge-") as merged_folder:
            try:
                merged = merge_adapter(base_path, folder, torch.float32)
            except AdapterError as error:
                raise GenerationError(
                    f"The adapter in {folder.name} does not fit its base model: {error}.",
                    kind=ErrorKind.INTERNAL,
                    code="model_broken",
                ) from error
            save_model(merged, Path(merged_folder))
            base = load_base(Path(merged_folder), base_path, self.device, self.dtype, self.weights)
        base.path = folder
        self._keep(folder, base)
        return base

    def _keep(self, path: Path, base: LoadedBase) -> None:
        self.bases[path] = base
        self._evict(keep=base)
        _freeze()

    def _evict(self, *, incoming: int = 0, keep: LoadedBase | None = None) -> None:
        """Unload idle bases, then idle adapters of `keep`, until everything fits the budget."""
        while sum(base.nbytes for base in self.bases.values()) + incoming > self.budget:
            idle = [
                base for base in self.bases.values() if base is not keep and not self.is_busy(base)
            ]
            if idle:
                self._unload_base(idle.pop(0).path)
            elif keep is not None and len(keep.adapters) > 1 and not self.is_busy(keep):
                _, adapter = keep.adapters.popitem(last=False)
                keep.lora.unload(adapter)
            else:
                return

    def _unload_base(self, path: Path) -> None:
        logger.info("unloading %s", path.name)
        self.on_unload(self.bases.pop(path))
        gc.unfreeze()  # it was frozen when it was loaded
        _freeze()


def _freeze() -> None:
    """Free what is in use no more; later collections pass over what is.

    A collection stops all answers. One that looks at every object of torch and transformers
    takes tenths of a second.
    """
    give_host_memory_back()
    gc.freeze()
