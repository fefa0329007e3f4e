"""Orders outside the servers that have the bot: people who installed it themselves, with an account of their own."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import discord
import pytest
import time_machine
from simcord.results import InteractionResult

from bot.domain.jobs import DIRECT_GUILD_ID, Delivery, Progress, Reply
from bot.domain.money.quota import Balance, Member
from cogs.text import job_card, member_pages, refusals
from tests.support.catalogue_samples import FLUX, PIXAZO_LARGE
from tests.support.discord_stage import Card, Stage
from tests.support.image_samples import image
from tests.support.transport_double import POSTED, TransportDouble, refused
from tests.support.user_installs import UserInstalls

QUOTA_USD_MICROS = 200_000
"""Two images of the default model."""


@pytest.fixture
def direct_quota_usd_micros() -> int:
    return QUOTA_USD_MICROS


@pytest.fixture
def installs(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> UserInstalls:
    stage.env.backend.get_dm_channel(stage.ada.id)
    return UserInstalls(stage, monkeypatch)


async def order(stage: Stage, channel: Any, who: Any, prompt: str = "a red fox", **options: Any) -> Card:
    with stage.core.providers_wait():
        return stage.ordered(await who.slash(channel, "imagine", prompt=prompt, **options))


async def order_directly(stage: Stage, who: Any, prompt: str = "a red fox", **options: Any) -> Card:
    """Order in the direct messages between a person and the bot."""
    with stage.core.providers_wait():
        return stage.ordered(await who.user.slash("imagine", prompt=prompt, **options))


async def direct_balance(stage: Stage, who: Any) -> Balance:
    default = stage.core.service.limits.default_quota_of(DIRECT_GUILD_ID)
    member = Member(guild_id=DIRECT_GUILD_ID, user_id=who.id)
    return await stage.core.store.balance(member, default=default, now=datetime.now(UTC))


async def only_reply(stage: Stage, who: Any) -> Reply:
    [job] = await stage.core.store.recent_jobs(guild_id=DIRECT_GUILD_ID, user_id=who.id, limit=9)
    reply = await stage.core.store.reply(job.reply_id)
    assert reply is not None
    return reply


def reason(stage: Stage, result: InteractionResult) -> str:
    return stage.said(result).reason


# -- where commands are offered -----------------------------------------------------------------------------


def registered(stage: Stage) -> dict[str, dict[str, Any]]:
    return {command["name"]: command for command in stage.env.backend.commands[None].values()}


async def test_members_commands_are_offered_to_people_and_moderators_commands_to_servers_alone(stage: Stage) -> None:
    commands = registered(stage)
    for name in ("imagine", "edit", "Edit this image", "compare", "usage", "history", "models", "privacy", "help"):
        assert (commands[name]["contexts"], commands[name]["integration_types"]) == ([0, 1, 2], [0, 1]), name
    for name in ("quota", "settings", "jobs", "preset", "defaults"):
        assert commands[name]["integration_types"] == [0], name
        assert commands[name]["contexts"] == [0] or commands[name]["dm_permission"] is False, name


class TestUnset:
    @pytest.fixture
    def direct_quota_usd_micros(self) -> int:
        return 0

    async def test_nothing_changes(self, stage: Stage) -> None:
        commands = registered(stage)
        assert all(command.get("integration_types") is None for command in commands.values())
        assert commands["imagine"]["contexts"] == [0]

    async def test_an_old_button_in_a_server_without_the_bot_buys_nothing(
        self, stage: Stage, installs: UserInstalls
    ) -> None:
        """What was ordered while the setting was set has buttons that do not expire."""
        card = await stage.imagine()
        await stage.until_says(card, "Completed")
        installs.install(stage.ada)
        installs.leave(stage.guild)
        said = reason(stage, await stage.press(stage.ada, card, "Again"))
        assert said in (refusals.BOT_NOT_IN_SERVER(), job_card.JOB_GONE())
        assert len(await stage.jobs()) == 1

    async def test_a_direct_message_is_refused_as_before(self, stage: Stage, installs: UserInstalls) -> None:
        installs.install(stage.ada)
        help_text = stage.said(await stage.ada.user.slash("help")).text
        assert member_pages.HELP_DIRECT() in help_text
        assert "/imagine" not in help_text


# -- the account ----------------------------------------------------------------------------------------------


async def test_an_order_in_a_server_without_the_bot_is_private_and_uses_only_its_token(
    stage: Stage, installs: UserInstalls
) -> None:
    _, channel, [una] = installs.server_without_bot("una")
    installs.install(una)
    card = await order(stage, channel, una)
    assert card.private
    assert job_card.DIRECT_LATE() in card.text
    text = await stage.until_says(card, "Completed", "$0.12 left")
    await stage.quiet()
    assert job_card.DIRECT_LATE() not in text
    assert card.gallery
    assert card.file()
    assert not any(label.startswith(job_card.SHARE()) for label in card.buttons)
    assert (await direct_balance(stage, una)).spent_usd_micros == 80_000
    reply = await only_reply(stage, una)
    assert (reply.address.guild_id, reply.address.channel_id, reply.role_ids) == (0, 0, ())
    assert installs.rest_calls_in(channel) == []


async def test_an_order_in_direct_messages_comes_from_the_persons_own_account(
    stage: Stage, installs: UserInstalls
) -> None:
    installs.install(stage.ada)
    card = await order_directly(stage, stage.ada)
    await stage.until_says(card, "Completed", "$0.12 left")
    assert card.private
    assert (await direct_balance(stage, stage.ada)).spent_usd_micros == 80_000
    assert (await stage.balance(stage.ada)).spent_usd_micros == 0


async def test_a_group_of_people_is_no_channel_of_the_bot(stage: Stage, installs: UserInstalls) -> None:
    channel = stage.ada.user.dm_channel
    installs.group_channel_ids.add(channel.id)
    installs.install(stage.ada)
    card = await order_directly(stage, stage.ada, private=False)
    await stage.until_says(card, "Completed")
    await stage.quiet()
    assert not card.private
    assert (await only_reply(stage, stage.ada)).address.channel_id == 0
    assert installs.rest_calls_in(channel) == []


async def test_a_thousand_servers_are_one_account(stage: Stage, installs: UserInstalls) -> None:
    """Here three, and direct messages: what is left does not depend on the place."""
    places = [installs.server_without_bot(f"una{number}") for number in range(3)]
    person = stage.ada
    installs.install(person)
    first = await order_directly(stage, person)
    await stage.until_says(first, "Completed", "$0.12 left")
    for guild, channel, _ in places:
        said = await order(stage, channel, guild.add_member(person.user), prompt="three images", count=2)
        assert "you have $0.12 left" in said.text
    assert (await direct_balance(stage, person)).used_usd_micros == 80_000


async def test_where_a_server_has_the_bot_its_rules_and_its_account_win(stage: Stage, installs: UserInstalls) -> None:
    installs.install(stage.ada)
    await stage.settings("channels", action="deny", channel=stage.channel)
    refused = await stage.imagine()
    assert "can't be ordered in this channel" in refused.text
    await stage.settings("channels", action="clear", channel=stage.channel)
    card = await stage.imagine()
    await stage.until_says(card, "Completed")
    assert not card.private
    assert (await stage.balance()).spent_usd_micros == 80_000
    assert (await direct_balance(stage, stage.ada)).spent_usd_micros == 0


async def test_a_member_who_is_blocked_in_a_server_is_blocked_there_with_the_bot_installed_too(
    stage: Stage, installs: UserInstalls
) -> None:
    installs.install(stage.ada)
    await stage.quota("block", member=stage.ada)
    assert (await stage.imagine()).reason == refusals.MEMBER_BLOCKED()


async def test_no_rule_of_a_server_crosses_over(stage: Stage, installs: UserInstalls) -> None:
    installs.install(stage.ada)
    await stage.settings("words", action="add", words="fox")
    await stage.quota("set", member=stage.ada, amount="unlimited")
    card = await order_directly(stage, stage.ada)
    await stage.until_says(card, "Completed", "$0.12 left")


# -- after the 15 minutes of a token -------------------------------------------------------------------------


@pytest.fixture
def transport(stage: Stage) -> TransportDouble:
    return TransportDouble(stage.core.bot)


async def waiting(stage: Stage, channel: Any, who: Any, **options: Any) -> Card:
    """Order an image that takes long, and return its card once it shows the job as processing."""
    stage.core.krea.waits = True
    stage.core.krea.deadline_seconds = 7_200
    card = await order(stage, channel, who, **options)
    await stage.until_says(card, "Processing")
    await stage.quiet_editors()
    return card


@pytest.mark.parametrize("private", [None, False])
async def test_an_image_that_takes_longer_comes_by_direct_message(
    stage: Stage, installs: UserInstalls, private: bool | None
) -> None:
    _, channel, [una] = installs.server_without_bot("una")
    installs.install(una)
    options = {} if private is None else {"private": private}
    await waiting(stage, channel, una, **options)
    with time_machine.travel(stage.env.now() + timedelta(minutes=16)):
        stage.core.krea.goes_on(Progress.SAMPLING)
        stage.core.krea.finishes()
        await stage.quiet()
        [message] = stage.cards(una.user.dm_channel)
        assert "Completed" in message.text
        assert message.files
        reply = await only_reply(stage, una)
        assert reply.delivery is Delivery.DELIVERED
        assert reply.address.channel_id == una.user.dm_channel.id
        assert installs.rest_calls_in(channel) == []
        # Its buttons work there, although Discord names no installation for a message that the bot sent by itself.
        stage.core.krea.waits = False
        with stage.core.providers_wait():
            result = await una.user.click(message.message, custom_id=button(message, "Again"))
        again = stage.ordered(result)
        await stage.until_says(again, "Completed", "$0.04 left")
        question = stage.said(await una.user.click(message.message, custom_id=button(message, "Delete")))
        await una.user.click(question.message, custom_id=button(question, "Delete"))
        assert not message.is_there


async def test_a_late_answer_to_a_command_in_direct_messages_comes_as_a_new_message(
    stage: Stage, installs: UserInstalls
) -> None:
    """The first one is private, and such a message cannot be edited without its token, even there."""
    installs.install(stage.ada)
    stage.core.krea.waits = True
    stage.core.krea.deadline_seconds = 7_200
    await stage.until_says(await order_directly(stage, stage.ada), "Processing")
    await stage.quiet_editors()
    with time_machine.travel(stage.env.now() + timedelta(minutes=16)):
        stage.core.krea.finishes()
        await stage.quiet()
        [message] = stage.cards(stage.ada.user.dm_channel)
        assert "Completed" in message.text
        assert (await only_reply(stage, stage.ada)).delivery is Delivery.DELIVERED


async def test_an_image_that_cannot_be_sent_by_direct_message_is_in_the_history(
    stage: Stage, installs: UserInstalls, transport: TransportDouble
) -> None:
    _, channel, [una] = installs.server_without_bot("una")
    installs.install(una)
    card = await waiting(stage, channel, una)
    assert job_card.DIRECT_LATE() in card.text  # it said so while it could

    async def closed(method: str, path: str, files: bool) -> None:
        if path == POSTED:
            raise refused(403, 50007)

    transport.on_call = closed
    with time_machine.travel(stage.env.now() + timedelta(minutes=16)):
        stage.core.krea.finishes()
        await stage.quiet()
        assert (await only_reply(stage, una)).delivery is Delivery.IMPOSSIBLE
    page = stage.said(await una.slash(channel, "history"))
    assert page.files


async def test_what_was_ordered_in_a_server_is_not_ordered_again_in_direct_messages(
    stage: Stage, installs: UserInstalls
) -> None:
    """Its private image came there late; a click must spend neither the server's money nor get round its rules."""
    installs.install(stage.ada)
    await waiting(stage, stage.channel, stage.ada, private=True)
    with time_machine.travel(stage.env.now() + timedelta(minutes=16)):
        stage.core.krea.finishes()
        await stage.quiet()
        [message] = stage.cards(stage.ada.user.dm_channel)
        for label in ("Again", "Vary", "Edit", "Remix"):
            result = await stage.ada.user.click(message.message, custom_id=button(message, label))
            assert result.modal is None
            assert reason(stage, result) == refusals.SERVER_ORDER(), label
    assert (await direct_balance(stage, stage.ada)).used_usd_micros == 0


def button(card: Card, label: str) -> str:
    """Return the custom id of the button whose label begins with this text."""
    return next(custom_id for name, custom_id in card.buttons.items() if name.startswith(label))


# -- who may not ----------------------------------------------------------------------------------------------


async def test_a_person_who_did_not_install_it_orders_nothing_anywhere(stage: Stage, installs: UserInstalls) -> None:
    _, channel, [una] = installs.server_without_bot("una")
    said = stage.said(await una.slash(channel, "imagine", prompt="a red fox"))
    assert said.reason == refusals.DIRECT_NOT_INSTALLED()
    directly = stage.said(await stage.ada.user.slash("imagine", prompt="a red fox"))
    assert directly.reason == refusals.DIRECT_NOT_INSTALLED()
    assert "a red fox" in directly.text  # what was typed is given back
    assert stage.core.krea.orders == []
    assert await everything_reserved(stage) == 0
    assert len(stage.env.errors) == 2  # refusals of commands


async def everything_reserved(stage: Stage) -> int:
    cap = await stage.core.store.operator_cap(stage.core.service.limits, now=datetime.now(UTC))
    return cap.used_usd_micros


@pytest.mark.parametrize("label", ["Again", "Vary", "Remix", "Edit", "Delete"])
async def test_the_installation_of_another_person_does_not_count(
    stage: Stage, installs: UserInstalls, label: str
) -> None:
    """Una shows everybody what she ordered; Vic, who has the bot or not, clicks below it."""
    _, channel, [una, vic] = installs.server_without_bot("una", "vic")
    installs.install(una, vic)
    card = await order(stage, channel, una, private=False)
    await stage.until_says(card, "Completed")
    await stage.quiet()
    used = await everything_reserved(stage)
    result = await stage.press(vic, card, label)
    assert result.modal is None
    assert reason(stage, result) in (refusals.DIRECT_NOT_INSTALLED(), job_card.NOT_YOURS())
    assert await everything_reserved(stage) == used
    assert card.is_there


async def test_anybody_may_read_the_recipe_of_what_is_shown_to_everybody(stage: Stage, installs: UserInstalls) -> None:
    _, channel, [una, vic] = installs.server_without_bot("una", "vic")
    installs.install(una)
    card = await order(stage, channel, una, private=False)
    await stage.until_says(card, "Completed")
    await stage.quiet()
    said = stage.said(await stage.press(vic, card, "Recipe"))
    assert "a red fox" in said.text
    assert said.private


async def test_a_server_that_is_not_allowed_is_refused_also_to_people_with_the_bot(
    stage: Stage, installs: UserInstalls
) -> None:
    _, channel, [una] = installs.server_without_bot("una")
    installs.install(una, stage.ada)
    stage.core.bot.allowed_servers = frozenset({stage.guild.id})
    assert stage.said(await una.slash(channel, "imagine", prompt="a red fox")).reason == refusals.PRIVATE_BOT()
    assert await una.autocomplete(channel, "imagine", "model", "") == []
    assert len(stage.env.errors) == 1
    await stage.until_says(await order_directly(stage, stage.ada), "Completed")


async def test_managing_a_server_without_the_bot_gives_no_power_over_what_people_ordered(
    stage: Stage, installs: UserInstalls
) -> None:
    guild, channel, [una] = installs.server_without_bot("una")
    keepers = guild.create_role("Keepers", permissions=discord.Permissions(manage_guild=True))
    mia = guild.add_member(stage.env.create_user("mia"), roles=[keepers])
    installs.install(una, mia)
    card = await order(stage, channel, una, private=False)
    await stage.until_says(card, "Completed")
    await stage.quiet()
    assert reason(stage, await stage.press(mia, card, "Delete")) == job_card.NOT_YOURS()
    for command, options in (("quota default", {"amount": "unlimited"}), ("settings show", {}), ("jobs", {})):
        said = stage.said(await mia.slash(channel, command, **options))
        assert said.reason == refusals.BOT_NOT_IN_SERVER(), command
    assert len(stage.env.errors) == 3


async def test_a_model_for_age_restricted_channels_stays_out(stage: Stage, installs: UserInstalls) -> None:
    installs.install(stage.ada)
    catalogue = stage.core.service.catalogue
    model = catalogue.get("krea/bfl/flux-1-dev")
    restricted = replace(model, age_restricted=True)
    catalogue.replace([restricted if each.id == model.id else each for each in catalogue.all_models])
    said = await order_directly(stage, stage.ada, model=model.id)
    assert said.reason == refusals.MODEL_NOT_DIRECT(model=model.label)
    choices = await stage.ada.user.autocomplete("imagine", "model", "flux")
    assert model.id not in [choice["value"] for choice in choices]
    in_server = await stage.imagine(model=model.id)
    assert in_server.reason == refusals.MODEL_AGE_RESTRICTED_EVERYWHERE(model=model.label)
    known: Any = stage.core.bot.get_channel(stage.channel.id)
    known.nsfw = True
    await stage.until_says(await stage.imagine(model=model.id), "Completed")


async def test_the_operators_cap_for_all_people_outside_servers_binds(stage: Stage, installs: UserInstalls) -> None:
    limits = replace(stage.core.service.limits, operator_direct_cap_usd_micros=100_000)
    stage.core.service.limits = limits
    installs.install(stage.ada, stage.bob)
    stage.env.backend.get_dm_channel(stage.bob.id)
    await stage.until_says(await order_directly(stage, stage.ada), "Completed", "$0.02 left of the bot's cap")
    said = await order_directly(stage, stage.bob)
    assert "the bot has $0.02 left today for everybody who orders outside servers" in said.text
    await stage.until_says(await stage.imagine(stage.bob), "Completed")  # servers have caps of their own


# -- buttons, history and one's own data -----------------------------------------------------------------------


async def test_buttons_of_a_card_work_for_its_person(stage: Stage, installs: UserInstalls) -> None:
    _, channel, [una] = installs.server_without_bot("una")
    installs.install(una)
    card = await order(stage, channel, una)
    await stage.until_says(card, "Completed")
    await stage.quiet()
    again = stage.ordered(await stage.press(una, card, "Again"))
    await stage.until_says(again, "Completed", "$0.04 left")
    assert again.private
    assert "a red fox" in stage.said(await stage.press(una, card, "Recipe")).text
    assert (await stage.press(una, card, "Remix")).modal is not None
    assert (await stage.press(una, card, "Edit")).modal is not None
    refused = stage.said(await stage.press(una, card, "Vary"))
    assert "you have $0.04 left" in refused.text
    assert installs.rest_calls_in(channel) == []


async def test_a_remix_is_ordered_with_ones_own_account(stage: Stage, installs: UserInstalls) -> None:
    installs.install(stage.ada)
    card = await order_directly(stage, stage.ada)
    await stage.until_says(card, "Completed")
    shown = await stage.ada.user.click(card.message, custom_id=card.buttons[job_card.REMIX()])
    remixed = stage.ordered(await stage.ada.user.submit_modal(shown, {"prompt": "a blue fox", "more": ""}))
    await stage.until_says(remixed, "Completed", "$0.04 left")
    assert remixed.private


async def test_an_image_of_a_message_is_edited_privately_there(stage: Stage, installs: UserInstalls) -> None:
    _, channel, [una, vic] = installs.server_without_bot("una", "vic")
    installs.install(una)
    message = await vic.send(channel, "look", attachments=[("fox.png", image("PNG"))])
    shown = await una.context_menu(channel, "Edit this image", message)
    edited = stage.ordered(await una.submit_modal(shown, {"prompt": "make it blue"}))
    await stage.until_says(edited, "Completed", "$0.12 left")
    assert edited.private
    assert installs.rest_calls_in(channel) == []


async def test_a_provider_that_fetches_images_finds_them_at_the_private_answer(
    stage: Stage, installs: UserInstalls
) -> None:
    _, channel, [una] = installs.server_without_bot("una")
    installs.install(una)
    card = await order(stage, channel, una, model=PIXAZO_LARGE, reference=("fox.png", image("PNG")))
    await stage.until_says(card, "Completed")
    assert stage.core.pixazo.orders
    assert installs.rest_calls_in(channel) == []


async def test_a_comparison_is_private_there(stage: Stage, installs: UserInstalls) -> None:
    _, channel, [una] = installs.server_without_bot("una")
    installs.install(una)
    models = {"model1": "krea/google/nano-banana-2", "model2": "krea/bfl/flux-1-dev"}
    with stage.core.providers_wait():
        card = stage.ordered(await una.slash(channel, "compare", prompt="a red fox", **models))
    await stage.until_says(card, "Completed")
    assert card.private


async def test_deleting_removes_the_card_by_its_token_and_asks_nothing_of_the_channel(
    stage: Stage, installs: UserInstalls
) -> None:
    _, channel, [una] = installs.server_without_bot("una")
    installs.install(una)
    card = await order(stage, channel, una, private=False)
    await stage.until_says(card, "Completed")
    await stage.quiet()
    question = stage.said(await stage.press(una, card, "Delete"))
    assert question.text == job_card.DELETE_ASK_DIRECT()
    await stage.press(una, question, "Delete")
    await stage.quiet()
    assert not card.is_there
    assert question.text == job_card.DELETE_DONE()
    await stage.core.bot.message_deletions.sweep(now=datetime(2100, 1, 1, tzinfo=UTC))
    assert installs.rest_calls_in(channel) == []


async def test_history_usage_and_ones_own_data_work_there(stage: Stage, installs: UserInstalls) -> None:
    _, channel, [una] = installs.server_without_bot("una")
    installs.install(una)
    card = await order(stage, channel, una)
    await stage.until_says(card, "Completed")
    await stage.quiet()
    page = stage.said(await una.slash(channel, "history"))
    assert "1 of 1" in page.text
    assert page.gallery
    usage = stage.said(await una.slash(channel, "usage"))
    assert "$0.20 per day" in usage.text
    assert "$0.08" in usage.text
    exported = stage.said(await una.slash(channel, "privacy export"))
    assert b"a red fox" in exported.file()
    question = stage.said(await una.slash(channel, "privacy delete"))
    await stage.press(una, question, member_pages.ERASE())
    assert question.text == member_pages.ERASE_DONE()
    # What was spent still counts, so nobody gets a new quota by this.
    refused = await order(stage, channel, una, count=2)
    assert "you have $0.12 left" in refused.text
    assert installs.rest_calls_in(channel) == []


async def test_links_to_direct_messages_lead_there_and_none_leads_to_a_channel_that_is_not_known(
    stage: Stage, installs: UserInstalls
) -> None:
    installs.install(stage.ada)
    card = stage.ordered(await stage.ada.user.slash("imagine", prompt="a red fox", private=False))
    await stage.until_says(card, "Completed")
    _, channel, [una] = installs.server_without_bot("una")
    installs.install(una)
    elsewhere = await order(stage, channel, una, private=False)
    await stage.until_says(elsewhere, "Completed")
    await stage.quiet()
    page = stage.said(await stage.ada.user.slash("history"))
    link = f"https://discord.com/channels/@me/{stage.env.backend.get_dm_channel(stage.ada.id).id}/{card.message.id}"
    assert f"({link})" in page.text
    assert link in stage.said(await stage.ada.user.slash("privacy export")).file().decode()
    assert b"discord.com" not in stage.said(await una.slash(channel, "privacy export")).file()


async def test_a_preset_of_a_server_that_the_bot_left_completes_nothing(stage: Stage, installs: UserInstalls) -> None:
    await stage.mo.slash(stage.channel, "preset add", name="quick", model=FLUX, **{"for": "server"})
    installs.leave(stage.guild)
    installs.install(stage.ada)
    offered = await stage.ada.autocomplete(stage.channel, "imagine", "resolution", "", preset="quick")
    assert [choice["value"] for choice in offered] == ["1K", "2K", "4K"], "of the default model"


async def test_the_history_outside_servers_is_apart_from_that_of_a_server(stage: Stage, installs: UserInstalls) -> None:
    await stage.until_says(await stage.imagine(prompt="in the server"), "Completed")
    await stage.quiet()
    installs.install(stage.ada)
    assert stage.said(await stage.ada.user.slash("history")).text == member_pages.HISTORY_EMPTY()


async def test_autocomplete_offers_models_with_ones_own_prices_and_no_preset_of_a_server(
    stage: Stage, installs: UserInstalls
) -> None:
    installs.install(stage.ada)
    await stage.mo.slash(stage.channel, "preset add", name="noir", options="aspect_ratio=1:1", **{"for": "server"})
    assert await stage.ada.user.autocomplete("imagine", "preset", "") == []
    names = [choice["name"] for choice in await stage.ada.user.autocomplete("imagine", "model", "")]
    assert any(name.startswith("Nano Banana 2 ·") for name in names)


async def test_help_says_how_to_order_there(stage: Stage, installs: UserInstalls) -> None:
    assert member_pages.HELP_ADD_APP() in stage.said(await stage.ada.user.slash("help")).text
    installs.install(stage.ada)
    said = stage.said(await stage.ada.user.slash("help")).text
    assert "an account of your own: $0.20 per day" in said
    assert "/imagine" in said
    assert "/quota" not in said


async def test_the_question_before_erasing_does_not_count_servers_for_orders_outside_them(
    stage: Stage, installs: UserInstalls
) -> None:
    installs.install(stage.ada)
    card = await order_directly(stage, stage.ada)
    await stage.until_says(card, "Completed")
    await stage.quiet()
    question = stage.said(await stage.ada.user.slash("privacy delete"))
    assert f"(1 command, 1 image, {member_pages.OUTSIDE_SERVERS_ONLY()})" in question.text
