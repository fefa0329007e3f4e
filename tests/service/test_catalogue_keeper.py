"""The keeper of the catalogue: what the provider describes is applied or held, told once, decided once, everywhere."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from bot.catalogue.catalogue import Catalogue
from bot.catalogue.provider_description.changes import ChangeState
from bot.domain.deployment.database_url import Location
from bot.domain.errors import ModelUnavailable, StoreError
from bot.service.context import ServiceContext
from bot.service.maintenance.catalogue_keeper import CatalogueKeeper
from bot.store.store import Store
from sandbox.contracts import as_openapi
from tests.support.catalogue_samples import FLUX, NANO_BANANA_2, a_request
from tests.support.databases import execute
from tests.support.fakes import FakeClock, FakePresenter
from tests.support.store_samples import everything_kept


class Process:
    """One process: its own catalogue over the shared database."""

    def __init__(self, store: Store, presenter: FakePresenter, clock: FakeClock, overrides: Path | None = None) -> None:
        context: Any = type("Context", (), {})()
        context.store, context.presenter, context.clock, context.supervisor = store, presenter, clock, None
        self.catalogue = Catalogue.load(overrides)
        self.keeper = CatalogueKeeper(
            cast("ServiceContext", context),
            catalogue=self.catalogue,
            overrides=overrides,
            default_model=NANO_BANANA_2,
            providers=("krea",),
        )

    def price_of(self, model_id: str) -> int | None:
        return self.catalogue.get(model_id).starting_usd_micros


class World:
    def __init__(self, store: Store) -> None:
        self.store = store
        self.clock = FakeClock()
        self.presenter = FakePresenter()
        self.one = Process(store, self.presenter, self.clock)
        self.other = Process(store, self.presenter, self.clock)


@pytest.fixture
async def world(location: Location) -> AsyncIterator[World]:
    async with await Store.open(location) as store:
        yield World(store)


def described(amount: float | None = None, *, model: str = "bfl/flux-1-dev") -> dict[str, Any]:
    document = as_openapi()
    path = f"/generate/image/{model}"
    if amount is None:
        del document["paths"][path]
    else:
        points = [{"amount": amount, "dimensions": {}}]
        document["paths"][path]["post"]["x-krea-pricing"]["price_points"] = points
    return document


async def test_a_harmless_price_is_in_force_in_every_process_and_told_to_nobody(world: World):
    await world.one.keeper.read(described(0.0072))
    await world.other.keeper.load()
    assert world.one.price_of(FLUX) == world.other.price_of(FLUX) == 7_200
    assert await world.one.keeper.tell()
    assert world.presenter.questions == []


async def test_a_suspicious_price_stops_the_model_is_told_once_and_goes_on_when_it_is_accepted(world: World):
    await world.one.keeper.read(described(7.0))
    await world.other.keeper.load()
    for process in (world.one, world.other):
        with pytest.raises(ModelUnavailable) as refused:
            process.catalogue.quote(a_request(FLUX))
        assert refused.value.reason == "held"
    await world.one.keeper.read(described(7.0))  # the next day
    for process in (world.one, world.other, world.one):
        await process.keeper.tell()
    ((text, ids),) = world.presenter.questions
    assert f"{FLUX}: $7.00 is more than twice what it was" in text
    await world.other.keeper.decide_between(min(ids), max(ids), accept=True, decided_by="17")
    assert await world.one.keeper.decide_between(min(ids), max(ids), accept=False, decided_by="18") == []
    assert world.one.price_of(FLUX) == world.other.price_of(FLUX) == 7_000_000
    (change,) = await world.store.catalogue_changes()
    assert (change.state, change.decided_by) == (ChangeState.ACCEPTED, "17")
    await world.one.keeper.read(described(7.0))
    assert len(await world.store.catalogue_changes()) == 1


async def test_what_is_kept_takes_orders_at_the_former_price_and_is_not_asked_again(world: World):
    (change,) = await world.one.keeper.read(described(7.0))
    await world.one.keeper.decide([change.id], accept=False, decided_by="17")
    assert await world.one.keeper.read(described(7.0)) == []
    assert world.one.catalogue.quote(a_request(FLUX)).amount_usd_micros == 7_000
    (another,) = await world.one.keeper.read(described(8.0))
    assert another.state is ChangeState.HELD


async def test_what_the_provider_takes_back_waits_for_nobody(world: World):
    await world.one.keeper.read(described(7.0))
    await world.one.keeper.read(described(0.007))
    assert world.one.catalogue.quote(a_request(FLUX)).amount_usd_micros == 7_000
    assert await world.store.catalogue_changes() == []


async def test_a_message_that_does_not_arrive_is_sent_again(world: World):
    await world.one.keeper.read(described(7.0))
    world.presenter.operator_can_be_reached = False
    assert not await world.one.keeper.tell()
    world.presenter.operator_can_be_reached = True
    assert await world.other.keeper.tell()
    assert len(world.presenter.questions) == 2


async def test_a_default_model_that_is_gone_is_held_and_the_message_names_what_takes_its_place(world: World):
    await world.one.keeper.read(described(model="google/nano-banana-2"))
    await world.one.keeper.tell()
    ((text, _),) = world.presenter.questions
    instead = world.one.keeper.instead_of_default()
    assert instead is not None
    assert 0 < (instead.starting_usd_micros or 0) <= 80_000
    assert f"The default model {NANO_BANANA_2} cannot be ordered now; {instead.id} takes its place." in text


async def test_a_model_that_is_gone_is_told_without_a_question_and_comes_back(world: World):
    await world.one.keeper.read(described())
    await world.one.keeper.tell()
    ((text, ids),) = world.presenter.questions
    assert "bfl/flux-1-dev: no longer described; it cannot be ordered any more" in text
    assert ids == []
    assert not world.one.catalogue.get(FLUX).orderable
    await world.one.keeper.read(described(0.007))
    assert world.one.catalogue.get(FLUX).orderable


async def test_the_operators_own_price_holds_whatever_the_provider_publishes(world: World, tmp_path: Path):
    overrides = tmp_path / "catalogue.override.json"
    overrides.write_text(f'{{"prices": {{"{FLUX}": "0.01"}}}}')
    own = Process(world.store, world.presenter, world.clock, overrides)
    await own.keeper.read(described(7.0))
    assert own.catalogue.quote(a_request(FLUX)).amount_usd_micros == 10_000


async def test_one_process_of_a_cluster_reads_in_an_interval(world: World):
    day = timedelta(hours=24)
    now = world.clock()
    assert await world.store.claim_turn("x", now=now, pause=day)
    assert not await world.store.claim_turn("x", now=now, pause=day)
    assert await world.store.claim_turn("x", now=now + day, pause=day)


async def test_a_decision_is_never_changed(world: World, location: Location):
    await world.one.keeper.read(described(0.0072))
    with pytest.raises(Exception, match="decided once"):
        execute(location, "UPDATE catalogue_changes SET edits = '[]'")
    with pytest.raises(StoreError):
        await world.store.database.write(
            lambda connection: connection.execute("UPDATE catalogue_changes SET state = 'kept'")
        )


async def test_the_operator_who_decided_is_forgotten_on_request(world: World):
    (change,) = await world.one.keeper.read(described(7.0))
    await world.one.keeper.decide([change.id], accept=True, decided_by="17")
    assert (await everything_kept(world.store, 17))["catalogue_decisions"][0]["model"] == FLUX
    await world.store.forget_member(17, now=world.clock())
    (change,) = await world.store.catalogue_changes()
    assert change.decided_by == "a former operator"
