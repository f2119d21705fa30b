"""Every model that a request may name: base models, fine-tuned ones, and other names for them.

The one place that turns a name into folders on disk, for serving and for new jobs. Another name
leads to a model and never to a further name, so there are no circles.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tunesmith.engine.models.catalog import load_catalog
from tunesmith.engine.models.model_errors import UnknownModelError, UnsupportedModelError
from tunesmith.engine.models.model_info import ServableModel
from tunesmith.engine.models.verdicts import read_verdict, static_fault
from tunesmith.engine.store import model_queries

if TYPE_CHECKING:
    from pathlib import Path

    from tunesmith.engine.home import Home
    from tunesmith.engine.models.catalog import Catalog
    from tunesmith.engine.models.model_info import BaseModel
    from tunesmith.engine.models.verdicts import Verdict
    from tunesmith.engine.routing.route_table import RouteTable
    from tunesmith.engine.store.database import Database
    from tunesmith.engine.store.records import ModelRow

__all__ = ["ModelRegistry", "TrainableModel"]


@dataclass(frozen=True, slots=True)
class TrainableModel:
    """A model that a job can start from.

    Attributes:
        base_model: Id of the base model.
        family: The base name in the names of models trained from it.
        parent: Name of the fine-tuned model that is trained further; None for a base model.
    """

    base_model: str
    family: str
    parent: str | None = None


class ModelRegistry:
    """Looks models up by name. Safe to use from several threads.

    Args:
        home: The state folder.
        database: Where the fine-tuned models are listed.
        routes: The other names of models; None if there are none.
    """

    def __init__(self, home: Home, database: Database, routes: RouteTable | None = None) -> None:
        self._home = home
        self._database = database
        self._routes = routes

    @property
    def catalog(self) -> Catalog:
        """The table of base models as it is now; the user may edit it while the server runs."""
        return load_catalog(self._home)

    def resolve(self, name: str, organization: str) -> ServableModel:
        """Return what serving needs to load the model `name`.

        Raises:
            UnknownModelError: The organisation may use no model of this name.
            ModelNotInstalledError: The base model is not on this machine.
        """
        target = self.alias_target(name, organization)
        if target is not None:
            return replace(self._target(name, target, organization), alias=name)
        return self.resolve_model(name, organization)

    def alias_target(self, name: str, organization: str) -> str | None:
        """Return the model that another name stands for; None if it is not another name.

        Raises:
            UnknownModelError: All requests to the name go to another service.
        """
        route = None if self._routes is None else self._routes.get(organization, name)
        if route is None:
            return None
        if route.target is None:
            raise UnknownModelError(
                f"{name!r} leads to the other service {route.upstream!r}; no model of this engine "
                "stands behind it yet. `tunesmith migrate serve NAME --to MODEL` names one."
            )
        return route.target

    def _target(self, name: str, target: str, organization: str) -> ServableModel:
        try:
            return self.resolve_model(target, organization)
        except UnknownModelError:
            raise UnknownModelError(
                f"{name!r} stands for the model {target!r}, which no longer exists or which you no "
                "longer have access to."
            ) from None

    def resolve_model(self, name: str, organization: str) -> ServableModel:
        """Return what serving needs to load the model whose own name is `name`.

        Raises:
            UnknownModelError: The organisation may use no model of this name.
            ModelNotInstalledError: The base model is not on this machine.
        """
        row = self.usable(name, organization)
        if row is None:
            base = self.base(name)
            return ServableModel(
                name,
                base.id,
                base.path,
                thinking_syntax=base.thinking_syntax,
                call_syntax=base.call_syntax,
            )
        base = self.base(row.base_model)
        return ServableModel(
            name=row.name,
            base_model=row.base_model,
            base_path=base.path,
            adapter_path=self.folder(row),
            prompt_format=row.prompt_format,
            thinking_syntax=base.thinking_syntax,
            call_syntax=base.call_syntax,
        )

    def trainable(self, name: str, organization: str) -> TrainableModel:
        """Return what a new job needs to know about the model `name`.

        Raises:
            UnknownModelError: The organisation has no model of this name.
            ModelNotInstalledError: The base model is not on this machine.
            UnsupportedModelError: It can be neither trained nor served.
        """
        name = self.alias_target(name, organization) or name
        row = self.fine_tuned(name, organization)
        if row is not None:
            self._require_usable(self.base(row.base_model))
            return TrainableModel(row.base_model, row.family, row.name)
        if self.usable(name, organization) is not None:
            raise UnknownModelError(
                f"The model {name!r} belongs to another organisation: you may send it requests, "
                "but not continue its training."
            )
        base = self.base(name)
        self._require_usable(base)
        return TrainableModel(base.id, self.catalog.canonical_name(name))

    def verdict(self, base: BaseModel) -> Verdict | None:
        """Return what was proven of an installed base model; None if nothing was yet."""
        return read_verdict(self._home.proofs, base.path)

    def _require_usable(self, base: BaseModel) -> None:
        verdict = self.verdict(base)
        fault = static_fault(base.path) if verdict is None else verdict.refused
        if fault is not None:
            raise UnsupportedModelError(
                f"The base model {base.id} can be neither trained nor served: {fault}."
            )

    def fine_tuned(self, name: str, organization: str) -> ModelRow | None:
        """Return the organisation's fine-tuned model of this name."""
        with self._database.read() as connection:
            return model_queries.get(connection, organization, name)

    def usable(self, name: str, organization: str) -> ModelRow | None:
        """Return the fine-tuned model of this name if the organisation may send it requests."""
        with self._database.read() as connection:
            return model_queries.get_usable(connection, organization, name)

    def folder(self, row: ModelRow) -> Path:
        """Return the folder of a fine-tuned model."""
        return self._home.root / row.path

    def base(self, name: str) -> BaseModel:
        """Return an installed base model.

        Raises:
            UnknownModelError: The organisation has no model of this name.
            ModelNotInstalledError: The base model is not on this machine.
        """
        try:
            return self.catalog.resolve(name)
        except UnknownModelError as error:
            message = f"The model {name!r} does not exist or you do not have access to it. {error}"
            raise UnknownModelError(message) from None

    def installed_names(self) -> dict[str, str]:
        """Return every name that leads to an installed base model → that model's id."""
        catalog = self.catalog
        installed = {base.id: base.id for base in catalog.bases() if base.installed}
        for name in catalog.names:
            base_id = catalog.find(name).id
            if base_id in installed:
                installed[name] = base_id
        return installed
