"""Operator alerts: a direct message about each problem that only the operator can repair."""

from __future__ import annotations

from typing import Any

import discord
import pytest

from bot.catalogue.provider_description.changes import RecordedChange
from bot.domain.errors import ProviderDenied
from cogs.alerts import operator_alerts
from cogs.ui.card import note
from cogs.ui.components import View
from cogs.ui.discord_api.message_api import MessageApi
from sandbox.contracts import as_openapi
from tests.support.catalogue_samples import FLUX
from tests.support.discord_stage import Card, Stage
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


async def test_two_alerts_of_one_second_are_two_messages_for_discord(stage: Stage, owner: Any) -> None:
    for model_id in ("krea/bfl/flux-1-dev", "krea/bfl/flux-1.1-pro"):
        stage.core.bot.operator_alerts.send(f"model {model_id}", f"{model_id} is not offered any more")
    await stage.quiet()
    assert len(stage.cards(owner.dm_channel)) == 2
    sent = [call.json for call in stage.env.http_requests if call.method == "POST" and isinstance(call.json, dict)]
    assert len({body["nonce"] for body in sent if "nonce" in body}) == 2


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


async def test_an_alert_that_discord_does_not_take_yet_arrives_later_and_once(
    stage: Stage, owner: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operator_alerts, "FIRST_RETRY_SECONDS", 0.01)
    transport = TransportDouble(stage.core.bot)
    troubles: list[Exception] = [refused(503), OSError("no network"), TimeoutError()]

    async def away(method: str, path: str, files: bool) -> None:
        if path == POSTED and troubles:
            raise troubles.pop()

    transport.on_call = away
    for topic in ("disk", "key", "disk"):
        stage.core.bot.operator_alerts.send(topic, f"the {topic}")
    await stage.until(lambda: transport.count("POST", POSTED) == 5)
    await stage.quiet()
    shown = [card.text for card in stage.cards(owner.dm_channel)]
    assert ["the disk" in text for text in shown] == [True, False]


async def test_alerts_from_before_the_login_are_sent_after_it_as_many_as_are_kept(
    stage: Stage, owner: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(operator_alerts, "MAX_WAITING", 2)
    bot = stage.core.bot
    messages = MessageApi(bot, stage.core.service.sealer)
    alerts = operator_alerts.OperatorAlerts(messages=messages, supervisor=stage.core.supervisor)
    for topic in ("bill", "disk", "key"):
        alerts.send(topic, f"the {topic}")
    assert "the one about key is dropped: the key" in caplog.text
    application: Any = bot.application
    alerts.set_owner(application)
    await stage.quiet()
    shown = [card.text for card in stage.cards(owner.dm_channel)]
    assert len(shown) == 2
    assert "the bill" in shown[0]
    assert "the disk" in shown[1]


def set_owner(stage: Stage, person: Any) -> None:
    application: Any = stage.core.bot.application
    application.owner = discord.Object(person.id)
    stage.core.bot.operator_alerts.set_owner(application)


async def asked_about(stage: Stage, owner: Any, amount: float) -> Card:
    """Have the price of a model held, and return the message about it to the operator."""
    document = as_openapi()
    flux = document["paths"]["/generate/image/bfl/flux-1-dev"]["post"]
    flux["x-krea-pricing"]["price_points"] = [{"amount": amount, "dimensions": {}}]
    await stage.core.catalogue_keeper.read(document)
    assert await stage.core.catalogue_keeper.tell()
    return stage.cards(owner.dm_channel)[-1]


@pytest.mark.parametrize(
    ("label", "decision", "price"),
    [("Accept", "accepted: the changes are in force now", "$0.50"), ("Keep", "kept as they were", "$0.007")],
)
async def test_the_operator_decides_about_held_changes_by_a_button_once(
    stage: Stage, owner: Any, label: str, decision: str, price: str
) -> None:
    message = await asked_about(stage, owner, 0.5)
    buttons = message.buttons
    assert "$0.50 is more than twice what it was" in message.text
    assert list(buttons) == ["Accept", "Keep"]
    assert "takes no orders for now" in (await stage.imagine(model=FLUX)).text
    await owner.click(message.message, custom_id=buttons[label])
    assert f"`{FLUX}`: {decision}" in message.text
    assert f"(<@{owner.id}>)" in message.text
    assert message.buttons == {}
    assert f"**{price}**" in await stage.until_says(await stage.imagine(model=FLUX), "Completed")


async def test_a_second_decision_changes_nothing_and_is_answered(
    stage: Stage, owner: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await asked_about(stage, owner, 0.5)
    await stage.core.catalogue_keeper.decide_between(1, 99, accept=False, decided_by="command line")
    await owner.click(first.message, custom_id=first.buttons["Accept"])
    assert "Nothing of this waits for a decision any more." in first.text
    assert first.buttons == {}
    second = await asked_about(stage, owner, 0.6)
    decide_between = stage.core.catalogue_keeper.decide_between

    async def overtaken(first_id: int, last_id: int, *, accept: bool, decided_by: str) -> list[RecordedChange]:
        """Decide after another member of the operator's team did, whose decision is shown by now."""
        await decide_between(first_id, last_id, accept=False, decided_by="18")
        shown = stage.core.bot.get_partial_messageable(owner.dm_channel.id).get_partial_message(second.message.id)
        await shown.edit(view=View(note("kept by another")), allowed_mentions=discord.AllowedMentions.none())
        return await decide_between(first_id, last_id, accept=accept, decided_by=decided_by)

    monkeypatch.setattr(stage.core.catalogue_keeper, "decide_between", overtaken)
    late = stage.said(await owner.click(second.message, custom_id=second.buttons["Accept"]))
    assert "Nothing of this waits for a decision any more." in late.text
    assert late.private
    assert second.text == "kept by another"
    assert "$0.007" in (await stage.imagine(model=FLUX)).text


async def test_only_who_runs_the_bot_decides(stage: Stage, owner: Any) -> None:
    message = await asked_about(stage, owner, 0.5)
    set_owner(stage, stage.bob)
    said = stage.said(await owner.click(message.message, custom_id=message.buttons["Accept"]))
    assert "Only the operator of this bot may decide that." in said.text
    assert said.private
    assert "takes no orders for now" in (await stage.imagine(model=FLUX)).text
    assert list(message.buttons) == ["Accept", "Keep"]
