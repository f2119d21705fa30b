"""Models: base models and those that were fine-tuned from them."""

from __future__ import annotations

from typing import ClassVar, Literal

from tunesmith._lazy import set_public_module

from .base import WireModel

__all__ = ["Model", "ModelDeleted"]


class Model(WireModel):
    """A model that completions can name. Fields that the engine adds are in `model_extra`."""

    list_columns: ClassVar[tuple[str, ...]] = ("id", "owned_by", "created")
    _essential: ClassVar[frozenset[str] | None] = frozenset({"id"})

    id: str
    created: int = 0
    object: Literal["model"] | str = "model"
    owned_by: str = ""


class ModelDeleted(WireModel):
    """The answer to a deletion."""

    _essential: ClassVar[frozenset[str] | None] = frozenset({"id", "deleted"})

    id: str
    deleted: bool = True
    object: Literal["model"] | str = "model"


set_public_module(globals(), "tunesmith.types")
