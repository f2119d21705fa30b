"""When a service ends a model: the announced dates, with their sources.

A service may send `shutdown_date` with a model; that date wins. Fine-tuned models do not always
carry one, so the base in their name is looked up here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Literal

from tunesmith._lazy import set_public_module

__all__ = ["SHUTDOWNS", "Shutdown", "base_model", "shutdown_of"]

_OPENAI = "https://platform.openai.com/docs/deprecations"
_AZURE = "https://learn.microsoft.com/azure/ai-foundry/openai/concepts/model-retirements"

Service = Literal["openai", "azure"]


@dataclass(frozen=True, slots=True)
class Shutdown:
    """The last day of a model.

    Attributes:
        on: The day from which it no longer answers.
        source: Where that was announced; "the service" if the service itself sent it.
    """

    on: date
    source: str

    def days_left(self, today: date | None = None) -> int:
        """Return the days until then; 0 or less if it has passed.

        Args:
            today: The day to count from; default: today in UTC.
        """
        return (self.on - (today or datetime.now(UTC).date())).days


# Base model (a regular expression for the whole name) → the last day of its fine-tunes.
# As announced by November 2026; a service's own `shutdown_date` comes before this table.
SHUTDOWNS: dict[Service, tuple[tuple[str, date], ...]] = {
    "openai": (
        (r"gpt-4\.1-nano(-.*)?", date(2026, 10, 23)),
        (r"gpt-4\.1(-mini)?(-\d.*)?", date(2027, 1, 14)),
        (r"gpt-4o-2024-05-13", date(2026, 10, 23)),
        (r"gpt-4o(-mini)?(-\d.*)?", date(2027, 1, 14)),
        (r"gpt-3\.5-turbo.*|gpt-4(-turbo.*|-\d{4}.*)?|o4-mini.*", date(2026, 10, 23)),
    ),
    "azure": (
        (r"gpt-4o(-mini)?(-\d.*)?", date(2027, 10, 1)),
        (r"gpt-4\.1(-mini|-nano)?(-\d.*)?", date(2027, 10, 14)),
    ),
}


def base_model(model: str) -> str:
    """Return the base that a fine-tuned model's name holds, the name itself if it holds none.

    "ft:gpt-4o-mini-2024-07-18:acme::AbC123" gives "gpt-4o-mini-2024-07-18",
    "curie:ft-acme-2023-01-31" gives "curie", Azure's "gpt-4.1-2025-04-14.ft-0a1b" gives
    "gpt-4.1-2025-04-14".
    """
    if model.startswith("ft:"):
        return model.split(":")[1]
    if found := re.match(r"(.+?)(?::ft-|\.ft-)", model):
        return found[1]
    return model


def shutdown_of(
    model: str, *, service: Service = "openai", announced: str | None = None
) -> Shutdown | None:
    """Return when a model ends; None if no date is known.

    Args:
        model: Its name, fine-tuned or not.
        service: Whose model it is: Azure keeps fine-tuned models longer.
        announced: The `shutdown_date` that the service sent with the model.
    """
    if announced:
        try:
            return Shutdown(date.fromisoformat(announced[:10]), "the service")
        except ValueError:
            pass
    base = base_model(model)
    for pattern, day in SHUTDOWNS[service]:
        if re.fullmatch(pattern, base):
            return Shutdown(day, _AZURE if service == "azure" else _OPENAI)
    return None


set_public_module(globals(), "tunesmith.migrate")
