"""Orders while the provider's description changes: sent as quoted or not at all, and no second one for a bad reason."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from bot.catalogue.models import PricePoint
from bot.catalogue.provider_description.model_notices import ModelNotice, NoticeKind
from bot.domain.errors import ModelUnavailable
from bot.domain.jobs import FailureReason, Job, JobStatus
from sandbox.contracts import as_openapi
from sandbox.plans import Ending, Plan, Trouble
from tests.support.catalogue_samples import FLUX
from tests.support.core import PRICE, Core, a_core, until

Edit = Callable[[dict[str, Any], dict[str, Any]], None]


@pytest.fixture
async def narrow(tmp_path: Path) -> AsyncIterator[Core]:
    """Yield a core that has one order at its provider at a time."""
    async with a_core(tmp_path, max_concurrency=1) as core:
        yield core


def described(edit: Edit, *, model: str = "bfl/flux-1-dev") -> dict[str, Any]:
    """Return the description with one model edited: its request schema and its price."""
    document = as_openapi()
    operation = document["paths"][f"/generate/image/{model}"]["post"]
    edit(operation["requestBody"]["content"]["application/json"]["schema"], operation["x-krea-pricing"])
    return document


async def two_orders(core: Core) -> tuple[Job, Job]:
    """Order twice: the first is at the provider, the second waits for its turn."""
    core.sandbox.next_order(Plan(words=(("processing", 0.01),), ending=Ending.NEVER))
    first = await core.order(options={"steps": 80})
    await core.reached(first, JobStatus.RUNNING)
    return first, await core.order(options={"steps": 80})


def dearer(_: dict[str, Any], pricing: dict[str, Any]) -> None:
    pricing["price_points"] = [{"amount": 7.0, "dimensions": {}}]


def a_little_dearer(_: dict[str, Any], pricing: dict[str, Any]) -> None:
    pricing["price_points"] = [{"amount": 0.0075, "dimensions": {}}]


def cheaper(_: dict[str, Any], pricing: dict[str, Any]) -> None:
    pricing["price_points"] = [{"amount": 0.0065, "dimensions": {}}]


def in_yen(_: dict[str, Any], pricing: dict[str, Any]) -> None:
    pricing["currency"] = "JPY"


def needs_consent(schema: dict[str, Any], _: dict[str, Any]) -> None:
    schema["properties"]["consent"] = {"type": "string"}
    schema["required"] = [*schema["required"], "consent"]


def fewer_steps(schema: dict[str, Any], _: dict[str, Any]) -> None:
    schema["properties"]["steps"]["maximum"] = 50


def without_steps(schema: dict[str, Any], _: dict[str, Any]) -> None:
    del schema["properties"]["steps"]


def with_a_new_field(schema: dict[str, Any], _: dict[str, Any]) -> None:
    schema["properties"]["mood"] = {"type": "string", "enum": ["calm", "wild"]}


@pytest.mark.parametrize(
    "edit", [dearer, a_little_dearer, cheaper, in_yen, needs_consent, fewer_steps, without_steps]
)  # fmt: skip
async def test_an_order_that_waits_is_not_sent_when_its_model_changed_and_one_under_way_goes_on(
    narrow: Core, edit: Edit
):
    first, second = await two_orders(narrow)
    await narrow.parts.catalogue_keeper.read(described(edit))
    narrow.sandbox.complete_all()
    assert (await narrow.ended(first)).charged_usd_micros == PRICE
    refused = await narrow.ended(second)
    assert refused.failure is not None
    assert refused.failure.reason is FailureReason.MODEL_CHANGED
    assert narrow.submissions == 1
    assert await narrow.money() == (PRICE, 0, 0)


async def test_an_order_that_waits_for_a_model_that_is_gone_is_not_sent(narrow: Core):
    first, second = await two_orders(narrow)
    notice = ModelNotice(
        model_id=FLUX, kind=NoticeKind.GONE, noticed_at=narrow.clock(), heir="bfl/flux-1.1-pro"
    )  # fmt: skip
    await narrow.store.note_model(notice)
    await narrow.parts.catalogue_keeper.load()
    narrow.sandbox.complete_all()
    await narrow.ended(first)
    refused = (await narrow.ended(second)).failure
    assert refused is not None
    assert (refused.reason, refused.hint) == (FailureReason.MODEL_RETIRED, "krea/bfl/flux-1.1-pro")
    assert narrow.submissions == 1


async def test_a_change_that_leaves_an_order_right_is_no_reason_to_refuse_it(narrow: Core):
    first, second = await two_orders(narrow)
    document = described(with_a_new_field)
    document["paths"]["/generate/image/google/nano-banana-2"]["post"]["x-krea-pricing"]["currency"] = "EUR"
    await narrow.parts.catalogue_keeper.read(document)
    narrow.sandbox.complete_all()
    await until(lambda: narrow.submissions == 2)
    assert (await narrow.ended(first, second)).status is JobStatus.SUCCEEDED


async def test_an_order_that_another_process_quoted_by_another_file_is_sent_as_quoted(narrow: Core):
    model = narrow.service.catalogue.get(FLUX)
    ours = narrow.service.catalogue.all_models
    quoting = [each.priced((PricePoint(when={}, usd_micros=9_000),)) if each is model else each for each in ours]
    narrow.service.catalogue.replace(quoting)
    job = await narrow.ask("a fox")
    narrow.service.catalogue.replace(ours)
    await narrow.service.accept(job.reply, message_id=99)
    assert (await narrow.ended(*job.reply.jobs)).charged_usd_micros == 9_000


async def test_an_order_that_is_refused_as_malformed_has_the_description_read_out_of_turn(core: Core):
    documents = [as_openapi()]
    readings: list[int] = []

    async def fetch() -> dict[str, Any]:
        readings.append(len(documents))
        return documents[-1]

    core.supervisor.start("reading", core.parts.catalogue_keeper.read_forever(fetch, every=timedelta(days=1)))
    await until(lambda: readings == [1])
    documents.append(described(needs_consent))
    refusal = Plan(trouble=Trouble(status=400, body={"error": "consent: Required"}))
    core.sandbox.next_order(refusal, refusal)
    await core.ended(await core.order())
    assert readings == [1], "not again within a minute"
    core.clock.move(minutes=2)
    failure = (await core.ended(await core.order())).failure
    assert failure is not None
    assert failure.reason is FailureReason.REJECTED
    await until(lambda: core.service.catalogue.get(FLUX).stopped == "held")
    assert readings == [1, 2]
    with pytest.raises(ModelUnavailable):
        await core.order()
    assert await core.money() == (0, 0, 0)
