"""Top-ups: a purchase at Discord pays into a wallet once, is then consumed, and a refund takes back what is left."""

from __future__ import annotations

from typing import Any

import discord
import pytest
import simcord

from bot.domain.errors import StoreError
from bot.domain.money.quota import LimitSubject, Period, Quota
from bot.store.admin.verify import verify_location
from cogs.alerts import top_ups
from cogs.text import limits_left, spending
from tests.support.discord_stage import Card, Stage
from tests.support.fakes import until
from tests.support.transport_double import POSTED, TransportDouble, refused

FIFTY_CENTS = 500_000


@pytest.fixture
def sku(stage: Stage) -> simcord.SKUHandle:
    """Return a consumable that the operator sells; it counts from the next start on."""
    sku = stage.env.create_sku("Fifty cents", type=discord.SKUType.consumable)
    stage.core.settings = stage.core.settings.model_copy(update={"topup_skus": {sku.id: FIFTY_CENTS}})
    return sku


def premium_buttons(card: Card) -> list[str]:
    return [part["sku_id"] for part in card.components if part["type"] == 2 and part["style"] == 6]


def is_consumed(stage: Stage, entitlement: simcord.EntitlementHandle) -> bool:
    return bool(stage.env.backend.get_entitlement(entitlement.id).consumed)


async def wallet(stage: Stage) -> tuple[int, int]:
    found = await stage.core.store.wallet_of(stage.ada.id)
    return found.available_usd_micros, found.set_aside_usd_micros


async def without_quota(stage: Stage) -> None:
    nothing = Quota(amount_usd_micros=0, period=Period.DAY)
    await stage.core.store.set_limit(
        stage.guild.id, LimitSubject.DEFAULT, None, nothing, actor_id=1, reason=None, now=stage.core.service.now()
    )


async def test_a_purchase_is_credited_consumed_and_spent_after_the_quota(stage: Stage, sku: simcord.SKUHandle) -> None:
    await stage.restart()
    bought = await stage.env.grant_entitlement(sku, user=stage.ada)
    assert is_consumed(stage, bought)
    assert await wallet(stage) == (FIFTY_CENTS, 0)
    await without_quota(stage)
    card = await stage.imagine()
    await stage.until_says(card, "Completed", "$0.42 left")
    usage = stage.said(await stage.ada.slash(stage.channel, "usage"))
    assert spending.WALLET(left="$0.42", set_aside="$0.00") in usage.text
    await stage.quiet()
    erasing = stage.said(await stage.ada.slash(stage.channel, "privacy delete"))
    *_, stays, hint = erasing.text.splitlines()
    assert stays == f"- {spending.WALLET(left='$0.42', set_aside='$0.00')}"
    assert "/privacy export" in hint
    assert premium_buttons(usage) == [str(sku.id)]
    shown = await stage.quota("show", member=stage.ada)
    assert spending.WALLET(left="$0.42", set_aside="$0.00") in shown.text
    assert premium_buttons(shown) == []
    report = await stage.quota("report")
    assert "Members paid **$0.08** of it from their own wallets." in report.text
    assert verify_location(stage.core.settings.database_url) == []


async def test_news_that_comes_twice_and_a_list_credit_nothing_twice(stage: Stage, sku: simcord.SKUHandle) -> None:
    await stage.restart()
    bought = await stage.env.grant_entitlement(sku, user=stage.ada)
    await bought.replay_create()
    await stage.restart()
    await stage.core.bot.top_ups._read(newest_only=True)
    assert await wallet(stage) == (FIFTY_CENTS, 0)


async def test_what_was_bought_while_the_bot_was_away_is_credited_at_the_start(
    stage: Stage, sku: simcord.SKUHandle
) -> None:
    bought = stage.env.seed_entitlement(sku, user=stage.ada)
    for_a_server = stage.env.seed_entitlement(sku, guild=stage.guild)
    await stage.restart()
    await stage.until(lambda: is_consumed(stage, bought))
    assert await wallet(stage) == (FIFTY_CENTS, 0)
    assert not is_consumed(stage, for_a_server)


@pytest.mark.parametrize("step", ["credit", "consume", "mark_consumed"])
@pytest.mark.parametrize("is_done", [False, True])
async def test_a_process_that_ends_in_any_place_credits_once_and_consumes(
    stage: Stage, sku: simcord.SKUHandle, monkeypatch: pytest.MonkeyPatch, step: str, is_done: bool
) -> None:
    """The step has or has not happened when the process ends."""
    bot, store = stage.core.bot, stage.core.store
    bot.top_ups._skus = stage.core.settings.topup_skus
    owner: Any = bot.http if step == "consume" else store
    name = "consume_entitlement" if step == "consume" else step
    real = getattr(owner, name)

    async def ends(*arguments: Any, **named: Any) -> Any:
        if is_done:
            await real(*arguments, **named)
        raise StoreError("the process ends here")

    bought = stage.env.seed_entitlement(sku, user=stage.ada)
    with monkeypatch.context() as patched:
        patched.setattr(owner, name, ends)
        with pytest.raises(StoreError):
            await bot.top_ups.changed(bought.snapshot())
    await stage.restart()
    await stage.until(lambda: is_consumed(stage, bought))
    await stage.core.bot.top_ups._read(newest_only=False)
    assert await wallet(stage) == (FIFTY_CENTS, 0)
    assert await store.to_consume() == []


async def test_a_purchase_is_committed_before_it_is_consumed_and_tried_again(
    stage: Stage, sku: simcord.SKUHandle, monkeypatch: pytest.MonkeyPatch
) -> None:
    bot = stage.core.bot
    bot.top_ups._skus = stage.core.settings.topup_skus
    bought = stage.env.seed_entitlement(sku, user=stage.ada)
    seen: list[tuple[int, int]] = []

    async def refuses(*_: Any) -> None:
        seen.append(await wallet(stage))
        raise OSError("unreachable")

    with monkeypatch.context() as patched:
        patched.setattr(bot.http, "consume_entitlement", refuses)
        assert not await bot.top_ups.changed(bought.snapshot())
    assert seen == [(FIFTY_CENTS, 0)]
    monkeypatch.setattr(top_ups, "TRY_AGAIN_SECONDS", 0.01)
    await stage.restart()
    await stage.until(lambda: is_consumed(stage, bought))
    assert await wallet(stage) == (FIFTY_CENTS, 0)


def an_operator(stage: Stage) -> Any:
    """Give the application an owner who takes direct messages."""
    person = stage.env.create_user("olga")
    application: Any = stage.core.bot.application
    application.team, application.owner = None, person
    stage.core.bot.operator_alerts.set_owner(application)
    stage.env.backend.get_dm_channel(person.id)
    return person


async def test_a_refund_takes_back_what_is_left_and_tells_the_operator(stage: Stage, sku: simcord.SKUHandle) -> None:
    await stage.restart()
    person = an_operator(stage)
    bought = await stage.env.grant_entitlement(sku, user=stage.ada)
    await without_quota(stage)
    await stage.until_says(await stage.imagine(), "Completed")
    await bought.revoke()
    await stage.until(lambda: stage.cards(person.dm_channel))
    assert await wallet(stage) == (0, 0)
    [card] = stage.cards(person.dm_channel)
    assert "$0.42 of $0.50 were taken back" in card.text
    assert "$0.08 of it are spent or set aside" in card.text
    await stage.restart()
    await bought.replay_create()
    assert await wallet(stage) == (0, 0)


async def test_a_refund_is_told_once_the_operator_can_be_reached_also_after_a_restart(
    stage: Stage, sku: simcord.SKUHandle
) -> None:
    await stage.restart()
    transport = TransportDouble(stage.core.bot)

    async def closed(method: str, path: str, has_files: bool) -> None:
        if path == POSTED:
            raise refused(403, 50007)

    transport.on_call = closed
    for _ in range(2):
        await (await stage.env.grant_entitlement(sku, user=stage.ada)).revoke()
    await stage.until(lambda: transport.count("POST", POSTED))
    await stage.restart()
    person = an_operator(stage)
    stage.core.bot.top_ups._untold.set()

    async def all_are_recorded_as_told() -> bool:
        return await stage.core.store.untold_refunds() == []

    await until(all_are_recorded_as_told)
    assert len(stage.cards(person.dm_channel)) == 2
    assert all("Discord refunded or deleted purchase" in card.text for card in stage.cards(person.dm_channel))
    await stage.core.bot.top_ups._tell()
    assert len(stage.cards(person.dm_channel)) == 2


async def test_a_refund_that_came_while_the_bot_was_away_is_found_at_the_start(
    stage: Stage, sku: simcord.SKUHandle
) -> None:
    await stage.restart()
    bought = await stage.env.grant_entitlement(sku, user=stage.ada)
    stage.env.backend.get_entitlement(bought.id).deleted = True
    await stage.restart()
    await stage.core.bot.top_ups._read(newest_only=False)
    assert await wallet(stage) == (0, 0)


@pytest.mark.parametrize("is_another_sold", [True, False])
async def test_a_refund_of_what_is_not_sold_any_more_is_found_at_the_start(
    stage: Stage, sku: simcord.SKUHandle, is_another_sold: bool
) -> None:
    await stage.restart()
    bought = await stage.env.grant_entitlement(sku, user=stage.ada)
    assert await wallet(stage) == (FIFTY_CENTS, 0)
    stage.env.backend.get_entitlement(bought.id).deleted = True
    another = {stage.env.create_sku("Another", type=discord.SKUType.consumable).id: 2 * FIFTY_CENTS}
    topup_skus = another if is_another_sold else {}
    stage.core.settings = stage.core.settings.model_copy(update={"topup_skus": topup_skus})
    await stage.restart()
    await stage.core.bot.top_ups._read(newest_only=False)
    assert await wallet(stage) == (0, 0)


async def test_a_consumed_purchase_that_the_ledger_does_not_know_is_not_credited(
    stage: Stage, sku: simcord.SKUHandle, caplog: pytest.LogCaptureFixture
) -> None:
    stage.env.seed_entitlement(sku, user=stage.ada, consumed=True)
    await stage.restart()
    await stage.core.bot.top_ups._read(newest_only=False)
    assert await wallet(stage) == (0, 0)
    assert "were consumed at Discord, but they are not in this ledger" in caplog.text


async def test_the_operator_is_told_once_of_a_purchase_that_the_ledger_does_not_know(
    stage: Stage, sku: simcord.SKUHandle
) -> None:
    await stage.restart()
    person = an_operator(stage)
    stage.env.seed_entitlement(sku, user=stage.ada, consumed=True)
    await stage.core.bot.top_ups._read(newest_only=False)
    await stage.until(lambda: stage.cards(person.dm_channel) and not stage.core.bot.top_ups._unknown)
    for _ in range(2):
        await stage.core.bot.top_ups._read(newest_only=True)
    assert stage.core.bot.top_ups._unknown == {}
    await stage.restart()
    await stage.core.bot.top_ups._read(newest_only=False)
    assert stage.core.bot.top_ups._unknown == {}
    [card] = stage.cards(person.dm_channel)
    assert "they are not in this ledger" in card.text


async def test_a_refusal_for_lack_of_quota_offers_purchases_and_another_does_not(
    stage: Stage, sku: simcord.SKUHandle
) -> None:
    await stage.restart()
    refused = await stage.imagine(model="no/such-model")
    assert premium_buttons(refused) == []
    await without_quota(stage)
    refused = await stage.imagine()
    assert premium_buttons(refused) == [str(sku.id)]
    assert refused.private
    await stage.env.grant_entitlement(sku, user=stage.ada)
    refused = await stage.imagine(model="krea/google/nano-banana-pro", count=4)
    assert "you have $0.50 left, all of it in your wallet" in refused.text


async def test_usage_offers_purchases_only_where_they_would_help(stage: Stage, sku: simcord.SKUHandle) -> None:
    await stage.restart()

    async def page() -> Card:
        return stage.said(await stage.ada.slash(stage.channel, "usage"))

    assert premium_buttons(await page()) == [str(sku.id)]
    await without_quota(stage)
    assert limits_left.NO_QUOTA_BUT_CREDIT() in (await page()).text
    assert premium_buttons(await page()) == [str(sku.id)]
    await stage.quota("server", amount="0")
    assert premium_buttons(await page()) == [], "the cap of moderators binds the wallet, too"
    await stage.quota("server", amount="5")
    await stage.quota("block", member=stage.ada)
    assert premium_buttons(await page()) == []


async def test_nothing_is_sold_unless_the_operator_says_so(stage: Stage) -> None:
    await without_quota(stage)
    assert premium_buttons(await stage.imagine()) == []
    assert premium_buttons(stage.said(await stage.ada.slash(stage.channel, "usage"))) == []
    sku = stage.env.create_sku("Something else", type=discord.SKUType.consumable)
    bought = await stage.env.grant_entitlement(sku, user=stage.ada)
    assert not is_consumed(stage, bought)
    assert await wallet(stage) == (0, 0)
