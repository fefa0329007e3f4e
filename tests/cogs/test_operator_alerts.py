"""Operator alerts: a direct message about each problem that only the operator can repair."""

from __future__ import annotations

from typing import Any

import discord
import pytest

from bot.domain.errors import ProviderDenied
from cogs.alerts import operator_alerts
from sandbox.contracts import as_openapi
from tests.support.discord_stage import Stage
from tests.support.transport_double import POSTED, TransportDouble, refused


@pytest.fixture
def owner(stage: Stage) -> Any:
    """Return the owner of the application."""
    person = stage.env.create_user("olga")
    application: Any = stage.core.bot.application
    application.team = None
    application.owner = discord.Object(person.id)
    stage.core.bot.operator_alerts.set_owner(application)
    stage.env.backend.get_dm_channel(person.id)
    return person


@pytest.mark.f21
async def test_a_refused_key_is_told_once_and_never_shown_to_members(stage: Stage, owner: Any) -> None:
    stage.core.krea.troubles.extend([ProviderDenied("the key `abc` was refused", status=401)] * 2)
    stage.core.krea.door.clear()  # both orders are on their way before the first is refused
    cards = [await stage.imagine(), await stage.imagine(stage.bob)]
    stage.core.krea.door.set()
    for card in cards:
        assert "key" not in await stage.until_says(card, "Failed")
    await stage.quiet()
    (message,) = stage.cards(owner.dm_channel)
    assert "Your image bot needs you" in message.text
    assert "krea takes no jobs (denied): the key ˋabcˋ was refused" in message.text


async def test_another_matter_is_told_as_well_and_the_same_one_again_after_an_hour(
    stage: Stage, owner: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    alerts = stage.core.bot.operator_alerts
    for matter in ("disk", "disk", "key"):
        alerts.send(matter, f"the {matter}")
        await stage.quiet()
    assert len(stage.cards(owner.dm_channel)) == 2
    monkeypatch.setattr(operator_alerts, "REPEAT_SECONDS", 0.0)
    alerts.send("disk", "the disk")
    await stage.quiet()
    assert len(stage.cards(owner.dm_channel)) == 3


async def test_the_longest_notice_fits(stage: Stage, owner: Any) -> None:
    stage.core.bot.operator_alerts.send("long", "word " * 5_000)
    await stage.quiet()
    assert len(stage.cards(owner.dm_channel)) == 1


async def test_a_team_is_told_through_its_owner(stage: Stage) -> None:
    person = stage.env.create_user("tea")
    application: Any = stage.core.bot.application
    application.team = type("Team", (), {"owner_id": person.id, "members": []})()
    stage.core.bot.operator_alerts.set_owner(application)
    stage.core.bot.operator_alerts.send("disk", "the disk is full")
    await stage.quiet()
    assert "the disk is full" in stage.cards(person.dm_channel)[0].text


async def test_an_operator_who_takes_no_messages_stops_nothing(stage: Stage, owner: Any) -> None:
    transport = TransportDouble(stage.core.bot)

    async def closed(method: str, path: str, files: bool) -> None:
        if path == POSTED:
            raise refused(403, 50007)

    transport.on_call = closed
    stage.core.bot.operator_alerts.send("disk", "the disk is full")
    await stage.quiet()
    assert transport.count("POST", POSTED) == 1
    await stage.until_says(await stage.imagine(), "Completed")


async def test_the_operator_is_asked_about_held_changes_with_buttons(stage: Stage, owner: Any) -> None:
    keeper = stage.core.catalogue_keeper
    document = as_openapi()
    flux = document["paths"]["/generate/image/bfl/flux-1-dev"]["post"]
    flux["x-krea-pricing"]["price_points"] = [{"amount": 7.0, "dimensions": {}}]
    await keeper.read(document)
    assert await keeper.tell()
    (message,) = stage.cards(owner.dm_channel)
    assert "$7.00 is more than twice what it was" in message.text
    assert list(message.buttons) == ["Accept", "Keep"]
    held = await stage.imagine(model="krea/bfl/flux-1-dev")
    assert "takes no orders for now" in held.text
    alerts = stage.core.bot.operator_alerts
    assert (alerts.is_operator(owner.id), alerts.is_operator(stage.bob.id)) == (True, False)
    first, last = map(int, message.buttons["Keep"].split(":")[2:])
    await keeper.decide_between(first, last, accept=False, decided_by=str(owner.id))
    assert "$0.007" in (await stage.imagine(model="krea/bfl/flux-1-dev")).text
