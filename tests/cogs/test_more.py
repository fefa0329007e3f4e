"""What `more` offers while a member types: nothing that cannot be given."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from bot.catalogue.models import Model
from bot.catalogue.order_text import expand
from bot.catalogue.parameters import attachment_names, parameters_of
from bot.catalogue.styles import Styles
from bot.domain.errors import BadOption, ModelUnavailable
from bot.domain.jobs import ImageRole, JobKind, JobRequest
from cogs.generate.ordering.more import suggestions
from tests.support.catalogue_samples import ALL_PRICED, a_request, an_image


def offered_texts(model: Model, kind: JobKind, attached: Sequence[str]) -> set[str]:
    """Return what `more` can be completed to: with nothing typed, with a name begun, and with a name alone."""
    names = [each.name for each in parameters_of(model, kind)]
    typed = ["", *(name[:3] for name in names), *(f"{name}=" for name in names)]
    found = (suggestions(model, kind, text, attached=attached, styles=Styles()) for text in typed)
    return {each.text for offers in found for each in offers}


def refusal_of(model: Model, request: JobRequest, more: str) -> BadOption | ModelUnavailable | None:
    try:
        ALL_PRICED.quote(expand(model, request, more=more))
    except (BadOption, ModelUnavailable) as error:
        return error
    return None


@pytest.mark.parametrize("kind", [JobKind.IMAGINE, JobKind.EDIT])
@pytest.mark.parametrize("images", [0, 1, 2, 4])
def test_what_is_offered_for_more_is_accepted_or_lacks_only_what_it_is_about(kind: JobKind, images: int):
    attached = attachment_names(kind)[:images]
    role = ImageRole.SOURCE if kind is JobKind.EDIT else ImageRole.REFERENCE
    tried = 0
    for model in ALL_PRICED.models:
        plain = a_request(model.id, kind=kind, images=tuple(an_image(role) for _ in attached))
        if refusal_of(model, plain, "") is not None:
            continue
        for text in offered_texts(model, kind, attached):
            if text.endswith("="):
                continue  # a name alone waits for a value that only the member knows
            tried += 1
            refused = refusal_of(model, plain, text)
            if isinstance(refused, BadOption):
                lacks = refused.reason in ("missing", "not_without") and refused.option not in attached
                assert lacks, (model.id, text, refused.option, refused.reason)
            else:
                assert refused is None
    assert tried > 100 or (kind, images) == (JobKind.EDIT, 0)
