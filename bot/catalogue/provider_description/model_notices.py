"""What a provider says about one of its models while it answers an order: it is gone, or it will be."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from bot.catalogue.models import Model


class NoticeKind(StrEnum):
    """What the provider said."""

    GONE = "gone"
    """It takes no orders for the model (410, 'Model not found')."""
    ENDING = "ending"
    """It takes orders, and says that it will not for long (`Deprecation`, `Sunset`)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Withdrawal:
    """A provider's word, beside an order that it accepted, that the model will be withdrawn; None for no date."""

    ends_at: datetime | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelNotice:
    """The latest word about one model. `heir` is the provider's name of the model that takes its place."""

    model_id: str
    kind: NoticeKind
    noticed_at: datetime
    heir: str = ""
    ends_at: datetime | None = None

    def applied_to(self, model: Model, heir_id: str) -> Model:
        """Return the model as it is offered after this notice."""
        if self.kind is NoticeKind.GONE:
            return replace(model, stopped="gone", heir=heir_id)
        return replace(model, deprecated=True, heir=heir_id, ends_at=self.ends_at)
