"""The rules about DEFAULT_MODEL: whether members can order it with /imagine, and what the operator is told if not."""

from __future__ import annotations

from bot.catalogue.catalogue import OVERRIDE_FILE, Catalogue
from bot.catalogue.models import Model
from bot.domain.errors import SettingsError
from bot.domain.jobs import JobKind
from bot.settings import Settings

_NO_KEY = "cannot be ordered: there is no key for its provider"
_MAX_NAMED = 10


def require_default_model(settings: Settings, catalogue: Catalogue) -> None:
    """Raise SettingsError when the default model cannot be ordered for a reason that only the operator can change.

    A default model that its provider withdrew, or that waits for a decision, is replaced while the bot runs.
    """
    model = catalogue.find(settings.default_model)
    if model is None:
        raise SettingsError(
            f"DEFAULT_MODEL must be the id of a model in the catalogue. {orderable_models(settings, catalogue)}"
        )
    why = why_not_default(settings, model)
    is_chosen = "default_model" in settings.model_fields_set
    if why and not (model.stopped or model.retired or (not is_chosen and why == _NO_KEY)):
        raise SettingsError(f"DEFAULT_MODEL: {model.id} {why}. {orderable_models(settings, catalogue)}")


def why_not_default(settings: Settings, model: Model) -> str:
    """Say why members cannot order the model with /imagine; '' if they can."""
    if model.provider not in settings.provider_keys:
        return _NO_KEY
    if model.hidden:
        return f"cannot be ordered: it is hidden in {OVERRIDE_FILE}"
    if model.retired or model.stopped == "gone":
        return "cannot be ordered: its provider has withdrawn it"
    if model.stopped:
        return "cannot be ordered: a change of it waits for your decision (python -m bot catalogue --refresh)"
    if not model.orderable:
        return f"cannot be ordered: its price is not known (you can set it in {OVERRIDE_FILE})"
    return "" if model.supports(JobKind.IMAGINE) else "makes no image from a prompt alone"


def orderable_models(settings: Settings, catalogue: Catalogue) -> str:
    """Name the models that can be the default, least expensive first."""
    found = catalogue.search("", kind=JobKind.IMAGINE, providers=settings.provider_keys)
    ids = [model.id for model in sorted(found, key=lambda model: model.starting_usd_micros or 0)]
    if not ids:
        return "No model can be ordered (see: python -m bot catalogue)"
    more = f" and {len(ids) - _MAX_NAMED} more" if len(ids) > _MAX_NAMED else ""
    return f"These can be ordered: {', '.join(ids[:_MAX_NAMED])}{more} (see: python -m bot catalogue)"
