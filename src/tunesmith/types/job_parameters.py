"""The parameters of fine-tuning jobs, for every place that names them.

Knows neither HTTP nor torch: client, command line, engine and dashboard all import it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["RECIPES", "Recipe", "RecipeChoice"]

Recipe: TypeAlias = Literal["fast", "lora", "full"]
"""How a model is trained."""

RecipeChoice: TypeAlias = Literal["auto", Recipe]
"""What a job may ask for; "auto" leaves the choice to the engine."""

RECIPES: Mapping[RecipeChoice, str] = {
    "auto": "by estimated time",
    "fast": "adapters in the top layers, on cached outputs of the frozen lower layers",
    "lora": "adapters in every layer",
    "full": "all weights",
}
"""One line on each choice."""
