"""Models: base models and those that were fine-tuned from them."""

from __future__ import annotations

from typing import ClassVar, Literal

from tunesmith._lazy import set_public_module

from .base import WireModel

__all__ = ["Model", "ModelDeleted"]


class Model(WireModel):
    """A model that completions can name. Fields that the engine adds are in `model_extra`.

    Attributes:
        shutdown_date: The day on which the service ends the model, "2027-01-14"; null or absent
            where none is known. `tunesmith.migrate.shutdown_of` knows announced ones as well.
    """

    list_columns: ClassVar[tuple[str, ...]] = ("id", "owned_by", "created")
    _essential: ClassVar[frozenset[str] | None] = frozenset({"id"})

    id: str
    created: int = 0
    object: Literal["model"] | str = "model"
    owned_by: str = ""
    shutdown_date: str | None = None


class ModelDeleted(WireModel):
    """The answer to a deletion."""

    _essential: ClassVar[frozenset[str] | None] = frozenset({"id", "deleted"})

    id: str
    deleted: bool = True
    object: Literal["model"] | str = "model"


set_public_module(globals(), "tunesmith.types")
