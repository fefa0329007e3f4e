"""What a provider says about a model while it answers orders: hidden at once, told once, asked for again, back."""

from __future__ import annotations

from typing import Any

import pytest

from bot.domain.errors import ModelUnavailable
from bot.domain.jobs import FailureReason, JobKind, JobStatus
from bot.providers.parsing import read_withdrawal
from sandbox.plans import Plan, Trouble
from tests.support.catalogue_samples import FLUX, a_request
from tests.support.core import Core, until

GONE = Trouble(status=410, body={"error": "model_unavailable", "replacement": "bfl/flux-1.1-pro"})


def is_hidden(core: Core) -> bool:
    return FLUX not in {model.id for model in core.service.offered()}


@pytest.mark.hostile("G-39")
@pytest.mark.parametrize("body", [GONE, Trouble(status=400, body={"error": "Model not found"})])
async def test_a_model_that_is_gone_costs_nothing_is_hidden_at_once_and_told_once(core: Core, body: Trouble):
    core.sandbox.next_order(Plan(trouble=body), Plan(trouble=body))
    failed = [await core.ended(await core.order(model_id=FLUX)) for _ in range(1)]
    assert [job.failure.reason for job in failed if job.failure] == [FailureReason.MODEL_RETIRED]
    await until(lambda: is_hidden(core))
    with pytest.raises(ModelUnavailable) as refused:
        core.service.quote(a_request(FLUX))
    assert refused.value.reason == "gone"
    assert refused.value.heir == ("Flux 1.1 Pro" if body is GONE else "")
    found = core.service.catalogue.search("", kind=JobKind.IMAGINE, providers=core.service.providers)
    assert FLUX not in {model.id for model in found}
    await until(lambda: [matter for matter, _ in core.presenter.notices] == [f"model {FLUX}"])
    assert "is not offered by its provider any more" in core.presenter.notices[0][1]
    assert await core.money() == (0, 0, 0)


@pytest.mark.hostile("G-39")
async def test_a_model_that_is_gone_is_asked_for_and_offered_again(core: Core):
    core.sandbox.next_order(Plan(trouble=GONE))
    await core.ended(await core.order(model_id=FLUX))
    await until(lambda: is_hidden(core))
    watch = core.parts.model_watch
    await watch.probe()
    assert is_hidden(core), "not due yet"
    core.clock.move(minutes=2)
    core.sandbox.next_order(Plan(trouble=GONE))
    await watch.probe()
    assert is_hidden(core), "the provider says that it is still gone"
    core.clock.move(minutes=5)
    await watch.probe()
    assert not is_hidden(core)
    assert (await core.ended(await core.order(model_id=FLUX))).status is JobStatus.SUCCEEDED


@pytest.mark.hostile("G-39")
@pytest.mark.parametrize(
    ("headers", "ends"),
    [
        ({}, None),
        ({"Deprecation": "false"}, None),
        ({"Deprecation": "true"}, ""),
        ({"Sunset": "Fri, 31 Dec 2027 23:59:59 GMT"}, "2027-12-31"),
        ({"Deprecation": "@1767225600", "Sunset": "soon"}, ""),
        ({"Deprecation": "true", "Sunset": "Fri, 31 Dec 9999 23:59:59 GMT"}, ""),
    ],
)
def test_headers_announce_the_end_of_a_model(headers: dict[str, str], ends: Any):
    said = read_withdrawal(headers)
    assert (None if said is None else "" if said.ends_at is None else f"{said.ends_at:%Y-%m-%d}") == ends


@pytest.mark.hostile("G-39")
async def test_the_end_of_a_model_is_told_once_with_another_model_as_its_successor(core: Core):
    sunset = {"Deprecation": "true", "Sunset": "Fri, 31 Dec 2027 23:59:59 GMT"}
    for _ in range(2):
        core.parts.model_watch.accepted(FLUX, read_withdrawal(sunset))
    await until(lambda: core.presenter.notices)
    ((matter, text),) = core.presenter.notices
    assert matter == f"model {FLUX}"
    assert f"The provider will withdraw {FLUX} on 2027-12-31; it takes orders until then." in text
    assert text.count(FLUX) == 1
    assert "takes its place where it was the default" in text
    assert not is_hidden(core)
