"""/settings, /help and the warnings: what moderators decide, and what it changes for members."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime
from typing import Any

import discord
import pytest
from simcord.backend.errors import OptionError

from bot.domain.errors import StoreError
from bot.domain.jobs import JobKind
from bot.domain.money.quota import Cap, Limits, Period, Window
from bot.domain.policy import MAX_ENTRIES, Policy
from cogs.moderation import time_zones
from cogs.text import member_pages, moderation, refusals
from cogs.text.audit_entries import change
from tests.support.catalogue_samples import FLUX, KREA_LARGE, NANO_BANANA_2, PIXAZO_LARGE
from tests.support.discord_stage import Card, Stage
from tests.support.image_samples import image
from tests.support.transport_double import POSTED, TransportDouble

PNG = image("PNG")


async def policy(stage: Stage) -> Policy:
    return await stage.core.store.policy(stage.guild.id)


async def record(stage: Stage) -> list[tuple[str, str, str | None]]:
    """Return the old value, the new value and the reason of each change, oldest first."""
    entries = await stage.core.store.audit(stage.guild.id, limit=100)
    return [(entry.action, change(entry), entry.reason) for entry in entries[::-1]]


async def offered(stage: Stage, command: str, option: str, text: str = "", who: Any = None, **filled: Any) -> list[str]:
    choices = await (who or stage.mo).autocomplete(stage.channel, command, option, text, **filled)
    assert len(choices) <= 25
    assert all(1 <= len(choice["name"]) <= 100 and 1 <= len(choice["value"]) <= 100 for choice in choices)
    return [choice["value"] for choice in choices]


# -- who may ---------------------------------------------------------------------------------------------------

EVERY: dict[str, dict[str, Any]] = {
    "settings show": {},
    "settings channels": {"action": "clear"},
    "settings models": {"action": "deny", "model": FLUX},
    "settings default-model": {"model": FLUX},
    "settings age-restricted": {"action": "add", "model": FLUX},
    "settings words": {"action": "add", "words": "gore"},
    "settings log-channel": {"clear": True},
    "settings language": {"language": "de"},
    "settings time-zone": {"zone": "Europe/Berlin"},
    "jobs": {},
}


@pytest.mark.f51
@pytest.mark.parametrize("path", EVERY)
async def test_a_member_whom_discord_let_through_is_refused_by_the_bot_itself(stage: Stage, path: str) -> None:
    commands = {name: command for (name, _), command in stage.env.backend.commands[None].items()}
    commands[path.split(maxsplit=1)[0]]["default_member_permissions"] = None
    refusal = stage.said(await stage.ada.slash(stage.channel, path, **EVERY[path]))
    assert refusal.text.startswith(refusals.MODERATORS_ONLY())
    assert refusal.private
    assert await policy(stage) == Policy()
    assert await record(stage) == []
    assert len(stage.env.errors) == 1


@pytest.mark.f51
async def test_lists_of_a_server_are_suggested_to_its_moderators_alone(stage: Stage) -> None:
    await stage.settings("words", action="add", words="gore, blood*")
    commands = {name: command for (name, _), command in stage.env.backend.commands[None].items()}
    commands["settings"]["default_member_permissions"] = None
    assert await offered(stage, "settings words", "words", action="remove") == ["gore", "blood*"]
    assert await offered(stage, "settings words", "words", "BLO", action="remove") == ["blood*"]
    assert await offered(stage, "settings words", "words", action="add") == []
    assert await offered(stage, "settings words", "words", who=stage.ada, action="remove") == []


@pytest.mark.f52
async def test_another_servers_settings_are_another_matter(stage: Stage) -> None:
    eve, elsewhere = stage.elsewhere()
    await stage.settings("words", action="add", words="fox")
    card = stage.ordered(await eve.slash(elsewhere, "imagine", prompt="a red fox"))
    await stage.until_says(card, "Completed")


# -- the overview ----------------------------------------------------------------------------------------------


async def test_at_first_it_says_what_to_decide_and_what_is_in_force(stage: Stage) -> None:
    card = await stage.settings("show")
    assert card.private
    assert moderation.FIRST_TITLE() in card.text
    assert moderation.SET_BY_MODERATORS() not in card.text
    defaults = card.text.split(moderation.BOT_DEFAULT())[1]
    assert "**Channels:** everywhere · `/settings channels`" in defaults
    assert "**Default model:** Nano Banana 2 · " in defaults
    assert "**Time zone:** UTC · " in defaults
    assert "**Quota:** $1.00 per day, next reset <t:" in defaults
    assert f"**{stage.mo.mention} in <#{stage.channel.id}>**" in card.text
    assert "✅ Can order here: no rule forbids it" in card.text


async def test_what_was_decided_is_shown_with_the_layer_that_decided(stage: Stage) -> None:
    await stage.settings("channels", action="allow", channel=stage.channel)
    await stage.settings("models", action="deny", model="krea/google/*")
    await stage.settings("models", action="allow", model=NANO_BANANA_2, role=stage.artists)
    await stage.settings("default-model", model=FLUX)
    await stage.settings("time-zone", zone="Asia/Tokyo")
    await stage.quota("server", amount="100", period="month")
    artist, other = stage.person("gil", stage.artists), stage.guild.create_text_channel("other")

    text = (await stage.settings("show", member=artist, model=NANO_BANANA_2)).text
    assert moderation.FIRST_TITLE() not in text
    ours, defaults = text.split(moderation.SET_BY_MODERATORS())[1].split(moderation.BOT_DEFAULT())
    assert f"**Channels:** only in <#{stage.channel.id}>" in ours
    assert "for everybody, 2 rules" in ours
    assert "**Default model:** Flux 1 Dev" in ours
    assert "**Time zone:** Asia/Tokyo" in ours
    assert "**Server cap:** $100.00 per month" in ours
    assert "**Word list:** empty" in defaults
    assert f"✅ Can use Nano Banana 2: there is a rule `{NANO_BANANA_2}` for <@&{stage.artists.id}>" in text

    await stage.settings("weekly-report", channel=stage.channel)
    await stage.quota("role", role=stage.artists, amount="3", period="week")
    await stage.quota("channel", channel=stage.channel, amount="2")
    text = (await stage.settings("show")).text
    ours, defaults = text.split(moderation.SET_BY_MODERATORS())[1].split(moderation.BOT_DEFAULT())
    assert f"**Weekly report:** <#{stage.channel.id}> · `/settings weekly-report`" in ours
    assert f"**Role limits:** <@&{stage.artists.id}> $3.00 per week · `/quota role`" in ours
    assert f"**Channel caps:** <#{stage.channel.id}> $2.00 per day · `/quota channel`" in ours
    assert "**Welcome message:** on · `/settings welcome`" in defaults

    text = (await stage.settings("show", channel=other, member=stage.ada, model=NANO_BANANA_2)).text
    assert "🚫 Can't order here: this channel isn't on the allowed list" in text
    assert "🚫 Can't use Nano Banana 2: there is a rule `krea/google/*` for everybody" in text


# -- channels --------------------------------------------------------------------------------------------------


async def test_orders_outside_the_allowed_channels_are_refused_privately_and_say_where_to_go(stage: Stage) -> None:
    other = stage.guild.create_text_channel("other")
    said = await stage.settings("channels", action="allow", channel=other, reason="keep it tidy")
    assert f"✅ <#{other.id}>" in said.text
    card = await stage.imagine()
    assert card.private
    assert f"Images can't be ordered in this channel. Use <#{other.id}>." in card.text
    assert "/settings channels" in card.text
    card = await stage.edit(image=("fox.png", PNG))
    assert "Images can't be ordered in this channel" in card.text
    await stage.assert_nothing_reserved()
    card = stage.ordered(await stage.ada.slash(other, "imagine", prompt="a red fox"))
    await stage.until_says(card, "Completed")
    assert await record(stage) == [("channels", f"<#{other.id}> not listed → allowed", "keep it tidy")]


async def test_a_denied_channel_is_allowed_again(stage: Stage) -> None:
    await stage.settings("channels", action="deny", channel=stage.channel)
    assert "Use another one" in (await stage.imagine()).text
    assert await offered(stage, "imagine", "model", who=stage.ada) == []
    assert moderation.UNCHANGED() in (await stage.settings("channels", action="deny", channel=stage.channel)).text
    await stage.settings("channels", action="clear", channel=stage.channel)
    await stage.until_says(await stage.imagine(), "Completed")
    assert [entry[:2] for entry in await record(stage)] == [
        ("channels", f"<#{stage.channel.id}> not listed → denied"),
        ("channels", f"<#{stage.channel.id}> denied → not listed"),
    ]


async def test_a_category_counts_for_its_channels_and_the_closest_rule_wins(stage: Stage) -> None:
    art = stage.guild.create_category("art")
    gallery, sketches = (stage.guild.create_text_channel(name, category=art) for name in ("gallery", "sketches"))
    await stage.settings("channels", action="allow", channel=art)
    await stage.settings("channels", action="deny", channel=sketches)
    card = stage.ordered(await stage.ada.slash(gallery, "imagine", prompt="a red fox"))
    await stage.until_says(card, "Completed")
    for channel in (sketches, stage.channel):
        card = stage.ordered(await stage.ada.slash(channel, "imagine", prompt="a red fox"))
        assert f"Use <#{art.id}>" in card.text


async def test_buttons_and_forms_ask_the_policy_too(stage: Stage) -> None:
    card = await stage.imagine(model=FLUX)
    await stage.until_says(card, "Completed")
    form = await stage.press(stage.ada, card, "Edit")
    await stage.settings("channels", action="deny", channel=stage.channel)
    for label in ("Again", "Vary"):
        refusal = stage.said(await stage.press(stage.ada, card, label))
        assert "Images can't be ordered in this channel" in refusal.text
        assert refusal.private
    refusal = stage.said(await stage.ada.submit_modal(form, {"prompt": "blue"}))
    assert "Images can't be ordered in this channel" in refusal.text
    assert len(stage.core.krea.orders) == 1


async def test_what_is_decided_while_an_attachment_is_read_counts(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = stage.core.bot.order_flow.read_attachments

    async def read_while_a_moderator_decides(*args: Any) -> Any:
        images = await read(*args)
        await stage.core.store.change_policy(
            stage.guild.id,
            lambda policy: policy.with_channel(stage.channel.id, False),
            actor_id=stage.mo.id,
            reason=None,
            now=stage.env.now(),
        )
        return images

    monkeypatch.setattr(stage.core.bot.order_flow, "read_attachments", read_while_a_moderator_decides)
    assert "Images can't be ordered in this channel" in (await stage.edit(image=("fox.png", PNG))).text
    await stage.assert_nothing_reserved()


async def test_a_refused_order_does_not_fetch_its_attachment(stage: Stage) -> None:
    await stage.settings("words", action="add", words="blue")
    stage.core.server.attachments = lambda url: pytest.fail("fetched")
    assert "does not allow" in (await stage.edit(prompt="make it blue", image=("fox.png", PNG))).text


# -- models ----------------------------------------------------------------------------------------------------


async def test_a_denied_model_is_neither_offered_nor_taken(stage: Stage) -> None:
    said = await stage.settings("models", action="deny", model="krea/bfl/*")
    assert "🚫 `krea/bfl/*`" in said.text
    assert not any(value.startswith("krea/bfl/") for value in await offered(stage, "imagine", "model", "flux"))
    for typed in (FLUX, "Flux 1 Dev", " FLUX 1 dev "):
        card = await stage.imagine(model=typed)
        assert "Flux 1 Dev may not be used here" in card.text
        assert card.private
    assert "There is no model `flux-9`" in (await stage.imagine(model="flux-9")).text
    await stage.assert_nothing_reserved()
    await stage.until_says(await stage.imagine(), "Completed")


async def test_where_models_are_allowed_only_those_are_offered(stage: Stage) -> None:
    await stage.settings("models", action="allow", model="Nano Banana 2")
    assert await offered(stage, "imagine", "model", who=stage.ada) == [NANO_BANANA_2]
    assert "Flux 1 Dev may not be used here" in (await stage.imagine(model=FLUX)).text


async def test_a_model_for_a_role_is_for_its_members(stage: Stage) -> None:
    artist = stage.person("gil", stage.artists)
    await stage.settings("models", action="allow", model=FLUX, role=stage.artists)
    card = await stage.imagine(model=FLUX)
    assert f"Flux 1 Dev is only for <@&{stage.artists.id}>" in card.text
    assert FLUX not in await offered(stage, "imagine", "model", "flux 1 dev", who=stage.ada)
    assert FLUX in await offered(stage, "imagine", "model", "flux 1 dev", who=artist)
    await stage.until_says(await stage.imagine(artist, model=FLUX), "Completed")
    listed = await stage.settings("models")
    assert f"✅ `{FLUX}` for <@&{stage.artists.id}>" in listed.text


async def test_rules_are_suggested_as_patterns_and_models_and_forgotten_from_what_is_there(stage: Stage) -> None:
    suggested = await offered(stage, "settings models", "model", action="deny")
    assert {"krea/*", "krea/openai/*", "pixazo/*"} <= set(suggested)
    assert (await offered(stage, "settings models", "model", "flux 1 dev", action="deny"))[0] == FLUX
    await stage.settings("models", action="deny", model="krea/openai/*")
    assert await offered(stage, "settings models", "model", action="clear") == ["krea/openai/*"]
    await stage.settings("models", action="clear", model="krea/openai/*")
    await stage.settings("models", action="deny", model=FLUX)
    await stage.settings("models", action="clear")
    assert await policy(stage) == Policy()


async def test_a_rule_that_locks_the_default_model_out_says_so(stage: Stage) -> None:
    said = await stage.settings("models", action="deny", model=NANO_BANANA_2)
    assert "Commands that name no model use **Nano Banana 2**, which not everybody may use now" in said.text
    assert "Nano Banana 2 may not be used here" in (await stage.imagine()).text
    await stage.settings("default-model", model=FLUX)
    card = await stage.imagine()
    assert "**Flux 1 Dev**" in card.text
    await stage.until_says(card, "Completed")


async def test_the_default_model_counts_where_it_fits(stage: Stage) -> None:
    said = await stage.settings("default-model", model=PIXAZO_LARGE, reason="prettier")
    assert "(set by moderators)" in said.text
    assert "high" in await offered(stage, "imagine", "creativity", who=stage.ada)
    await stage.until_says(await stage.imagine(), "Completed")
    await stage.until_says(await stage.edit(image=("fox.png", PNG)), "Completed")
    ordered = {job.request.kind: job.request.model_id for job in await stage.jobs()}
    assert ordered == {JobKind.IMAGINE: PIXAZO_LARGE, JobKind.EDIT: NANO_BANANA_2}
    await stage.settings("default-model", clear=True)
    assert "**Nano Banana 2**" in (await stage.imagine()).text
    assert [entry[:2] for entry in await record(stage)] == [
        ("default_model", f"not set → `{PIXAZO_LARGE}`"),
        ("default_model", f"`{PIXAZO_LARGE}` → not set"),
    ]


async def test_an_age_restricted_model_works_where_discord_asks_for_age(stage: Stage) -> None:
    await stage.settings("age-restricted", action="add", model=FLUX)
    card = await stage.imagine(model=FLUX)
    assert "Flux 1 Dev works only in age-restricted channels" in card.text
    assert FLUX not in await offered(stage, "imagine", "model", "flux 1 dev", who=stage.ada)
    shown = await stage.settings("show", model=FLUX)
    assert "🚫 Flux 1 Dev works only in age-restricted channels, and this one is not" in shown.text
    channel = stage.core.bot.get_channel(stage.channel.id)
    assert isinstance(channel, discord.TextChannel)
    channel.nsfw = True
    await stage.until_says(await stage.imagine(model=FLUX), "Completed")
    channel.nsfw = False
    assert await offered(stage, "settings age-restricted", "model", action="remove") == [FLUX]
    await stage.settings("age-restricted", action="remove", model=FLUX)
    assert await policy(stage) == Policy()


# -- words -----------------------------------------------------------------------------------------------------


async def test_a_word_on_the_list_is_named_and_nothing_is_ordered(stage: Stage) -> None:
    said = await stage.settings("words", action="add", words="Gore, blood* ,severed head", reason="family server")
    assert "`gore`, `blood*`, `severed head`" in said.text
    for prompt, found in (("a GORE scene", "gore"), ("bloodbath!", "bloodbath"), ("severed  HEAD", "severed head")):
        card = await stage.imagine(prompt=prompt)
        assert f"does not allow `{found}`" in card.text
        assert card.private
    await stage.assert_nothing_reserved()
    await stage.until_says(await stage.imagine(prompt="Al Gore's headphones; a gorey hill"), "does not allow")
    await stage.settings("words", action="remove", words="gore")
    await stage.until_says(await stage.imagine(prompt="a gore scene"), "Completed")
    assert ("words", "`gore` listed → not listed", None) in await record(stage)


# -- the clock -------------------------------------------------------------------------------------------------


@pytest.mark.f10
def test_a_city_alone_names_its_time_zone_if_no_other_has_its_name() -> None:
    assert str(time_zones.find("berlin")) == "Europe/Berlin"
    assert str(time_zones.find("Sao Paulo")) == "America/Sao_Paulo"
    assert time_zones.find("Olympus") is None


async def test_the_time_zone_shows_the_next_reset_and_counts(stage: Stage) -> None:
    said = await stage.settings("time-zone", zone="asia tokyo", reason="we live there")
    zone = await stage.core.store.time_zone(stage.guild.id)
    assert zone.key == "Asia/Tokyo"
    end = Window.containing(stage.env.now(), Period.DAY, zone).end
    assert f"**Asia/Tokyo**. The next day begins <t:{int(end.timestamp())}:R>" in said.text
    assert (await stage.balance()).window.end == end
    await stage.settings("time-zone", zone="Asia/Tokyo")
    assert await record(stage) == [("time_zone", "`UTC` → `Asia/Tokyo`", "we live there")]


@pytest.mark.parametrize(
    ("typed", "first"),
    [
        ("berlin", "Europe/Berlin"),
        ("New York", "America/New_York"),
        ("los_ang", "America/Los_Angeles"),
        ("kathm", "Asia/Kathmandu"),
        ("utc", "UTC"),
    ],
)
async def test_a_time_zone_is_found_by_its_city(stage: Stage, typed: str, first: str) -> None:
    assert (await offered(stage, "settings time-zone", "zone", typed))[0] == first
    assert time_zones.find(first) is not None


# -- the log ---------------------------------------------------------------------------------------------------


async def log_channel(stage: Stage) -> Any:
    log = stage.guild.create_text_channel("log")
    said = await stage.settings("log-channel", channel=log)
    assert f"posted in <#{log.id}>" in said.text
    assert [card.text for card in stage.cards(log)] == [moderation.LOG_HELLO()]
    return log


async def test_every_finished_order_is_logged_with_picture_member_prompt_and_price(stage: Stage) -> None:
    log = await log_channel(stage)
    card = await stage.imagine(count=2)
    await stage.until_says(card, "Completed · 2 of 2 done")
    await stage.until(lambda: len(stage.cards(log)) == 2)
    entry = stage.cards(log)[-1]
    link = f"https://discord.com/channels/{stage.guild.id}/{stage.channel.id}/{card.message.id}"
    assert entry.text.startswith(f"{stage.ada.mention} · <#{stage.channel.id}> · [go to message]({link})")
    assert "```\na red fox\n```" in entry.text
    assert "cost **$0.16**" in entry.text
    assert len(entry.files) == len(entry.gallery) == 2
    assert entry.buttons == {}
    posted = [body for path, body in stage.outgoing() if path == f"/channels/{log.id}/messages"]
    assert all(body["allowed_mentions"].get("users", []) == [] for body in posted)

    stage.core.krea.waits = True
    card = await stage.imagine()
    await stage.until_says(card, "Processing")
    await stage.press(stage.ada, card, "Cancel")
    await stage.until_says(card, "Cancelled")
    await stage.until(lambda: len(stage.cards(log)) == 3)
    assert "Cancelled" in stage.cards(log)[-1].text


@pytest.mark.hostile("G-55")
async def test_a_private_order_is_logged_without_prompt_image_and_options(stage: Stage) -> None:
    log = await log_channel(stage)
    secrets = {"prompt": "a secret", "model": KREA_LARGE, "seed": 918273, "aspect_ratio": "2.35:1", "creativity": "raw"}
    await stage.until_says(await stage.imagine(private=True, **secrets), "Completed")
    await stage.until(lambda: len(stage.cards(log)) == 2)
    entry = stage.cards(log)[-1]
    assert moderation.LOG_PRIVATE() in entry.text
    assert "Krea 2 Large" in entry.text
    assert not [word for word in ("secret", "918273", "2.35:1", "raw", "seed") if word in entry.text]
    assert "cost **$0.06**" in entry.text
    assert entry.files == entry.gallery == []


async def test_a_log_that_falls_behind_goes_on_without_pictures(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cogs.alerts.log_channel.MAX_ENTRIES_WITH_IMAGES", 1)
    log = await log_channel(stage)
    transport, gate = TransportDouble(stage.core.bot), asyncio.Event()

    async def hold(method: str, path: str, with_files: bool) -> None:
        if (method, path) == ("POST", POSTED):
            await gate.wait()

    transport.on_call = hold
    for _ in range(3):
        await stage.until_says(await stage.imagine(), "Completed")
    await stage.until(lambda: transport.count("POST", POSTED) == 3)
    gate.set()
    await stage.until(lambda: len(stage.cards(log)) == 4)
    entries = stage.cards(log)[1:]
    assert sorted(len(entry.files) for entry in entries) == [0, 0, 1]
    assert all("[go to message](" in entry.text for entry in entries)

    await stage.until_says(await stage.imagine(), "Completed")
    await stage.until(lambda: len(stage.cards(log)) == 5)
    assert len(stage.cards(log)[-1].files) == 1


async def test_the_log_of_one_server_leaves_room_for_pictures_to_those_of_others(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cogs.alerts.log_channel.MAX_ENTRIES_WITH_IMAGES_OF_A_SERVER", 1)
    log = await log_channel(stage)
    transport, gate = TransportDouble(stage.core.bot), asyncio.Event()

    async def hold(method: str, path: str, with_files: bool) -> None:
        if (method, path) == ("POST", POSTED):
            await gate.wait()

    transport.on_call = hold
    for _ in range(2):
        await stage.until_says(await stage.imagine(), "Completed")
    await stage.until(lambda: transport.count("POST", POSTED) == 2)
    assert not stage.core.bot.log_channel._takes_images(stage.guild.id)
    assert stage.core.bot.log_channel._takes_images(stage.guild.id + 1)
    gate.set()
    await stage.until(lambda: len(stage.cards(log)) == 3)
    assert sorted(len(entry.files) for entry in stage.cards(log)[1:]) == [0, 1]
    assert stage.core.bot.log_channel._takes_images(stage.guild.id)


async def test_a_log_channel_where_the_bot_may_not_post_is_refused_by_name(stage: Stage) -> None:
    closed = stage.guild.create_text_channel(
        "closed",
        overwrites={stage.core.bot.user: discord.PermissionOverwrite(send_messages=False, attach_files=False)},  # type: ignore[dict-item]
    )
    said = await stage.settings("log-channel", channel=closed)
    assert f"In <#{closed.id}> I need: **Send Messages, Attach Files**" in said.text
    assert await policy(stage) == Policy()
    assert stage.cards(closed) == []


async def test_a_deleted_log_channel_is_shown_in_the_overview_and_stops_nothing(stage: Stage) -> None:
    log = await log_channel(stage)
    stage.env.backend.delete_channel(log.id)
    await stage.until_says(await stage.imagine(), "Completed")
    await stage.quiet()
    assert moderation.CHANNEL_NOT_FOUND() in (await stage.settings("show")).text
    await stage.settings("log-channel", clear=True)
    assert (await policy(stage)).log_channel_id is None


async def test_when_discord_does_not_take_the_first_post_the_log_stays_as_it_was(stage: Stage) -> None:
    log = stage.guild.create_text_channel("log")
    stage.env.inject_error("POST", f"/channels/{log.id}/messages", status=403, code=50013)
    said = await stage.settings("log-channel", channel=log)
    assert "Discord did not let me post" in said.text
    assert await policy(stage) == Policy()


async def test_the_overview_marks_every_channel_that_takes_no_posts_any_more(stage: Stage) -> None:
    bot = stage.core.bot.user
    assert bot is not None
    silent: dict[Any, discord.PermissionOverwrite] = {bot: discord.PermissionOverwrite(attach_files=False)}
    quiet = stage.guild.create_text_channel("quiet", overwrites=silent)
    gone = stage.guild.create_text_channel("gone")
    forum = stage.guild.create_forum_channel("forum")
    await stage.core.store.change_policy(
        stage.guild.id,
        lambda old: replace(
            old,
            log_channel_id=quiet.id,
            showcase_channel_id=gone.id,
            review_channel_id=forum.id,
            reviewed_models=(FLUX,),
            weekly_report_channel_id=stage.channel.id,
        ),
        actor_id=stage.mo.id,
        reason=None,
        now=stage.core.service.now(),
    )
    stage.env.backend.delete_channel(gone.id)
    text = (await stage.settings("show")).text
    lacking = moderation.LOG_WARNING(permissions="Attach Files")
    assert f"<#{quiet.id}> · {lacking}" in text
    assert f"<#{gone.id}> · {moderation.CHANNEL_NOT_FOUND()}" in text
    assert f"<#{forum.id}> · {moderation.TAKES_NO_MESSAGES()}" in text
    assert f"{stage.channel.mention} · ⚠️" not in text


@pytest.mark.parametrize("command", ["log-channel", "weekly-report", "showcase", "review"])
async def test_what_takes_no_messages_is_no_place_to_post(stage: Stage, command: str) -> None:
    option = "review_channel" if command == "review" else "channel"
    places: list[dict[str, Any]] = [
        {option: stage.guild.create_category("rooms")},
        {option: stage.guild.create_forum_channel("talk")},
    ]
    for place in places:
        with pytest.raises(OptionError, match="only allows channel types"):
            await stage.settings(command, **place)
    commands = stage.env.backend.commands[None]
    commands.update({key: _without_channel_types(each) for key, each in commands.items()})
    for place in places:
        said = await stage.settings(command, **place)
        assert said.text == refusals.COMMAND_CHANGED(), "to a client that has the command of an earlier version"
    assert await policy(stage) == Policy()
    assert len(stage.env.errors) == len(places)


def _without_channel_types(command: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in command.items() if key != "channel_types"}
    return kept | {"options": [_without_channel_types(option) for option in command.get("options") or ()]}


async def test_a_review_channel_that_takes_no_messages_is_named(stage: Stage) -> None:
    forum = stage.guild.create_forum_channel("talk")
    await stage.core.store.change_policy(
        stage.guild.id,
        lambda old: replace(old, review_channel_id=forum.id, reviewed_channels=(stage.channel.id,)),
        actor_id=stage.mo.id,
        reason=None,
        now=stage.env.now(),
    )
    assert moderation.LOG_UNKNOWN_CHANNEL(channel=forum.mention) in (await stage.settings("review")).text


# -- what was typed wrongly --------------------------------------------------------------------------------------

WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("channels", {"action": "allow"}, moderation.NAME_CHANNEL()),
    ("channels", {"action": "deny"}, moderation.NAME_CHANNEL()),
    ("models", {"action": "allow"}, moderation.NAME_MODEL()),
    ("models", {"action": "deny", "model": "krea/nobody/*"}, "No model matches `krea/nobody/*`"),
    ("models", {"action": "deny", "model": "(a+)+*"}, "No model matches"),
    ("models", {"action": "deny", "model": "nano-bananna-2"}, "Did you mean"),
    ("models", {"model": FLUX}, moderation.ACTION_FIRST()),
    ("default-model", {"model": "nothing like it at all"}, "There is no model"),
    ("default-model", {"model": FLUX, "clear": True}, moderation.EITHER()),
    ("language", {"language": "de", "clear": True}, moderation.EITHER()),
    ("default-model", {"model": "krea/enhance/topaz/standard-enhance"}, "cannot be the default"),
    ("age-restricted", {"action": "add"}, moderation.NAME_MODEL()),
    ("age-restricted", {"action": "add", "model": "pixazo/?"}, "No model matches"),
    ("age-restricted", {"model": FLUX}, moderation.ACTION_FIRST()),
    ("words", {"action": "add"}, moderation.NAME_WORDS()),
    ("words", {"action": "add", "words": " , ,"}, moderation.NAME_WORDS()),
    ("words", {"action": "add", "words": "fine, *"}, "`*` cannot go on the list"),
    ("words", {"action": "add", "words": "x" * 61}, "cannot go on the list"),
    ("words", {"words": "gore"}, moderation.ACTION_FIRST()),
    ("time-zone", {"zone": "Mars/Olympus_Mons"}, "There is no time zone `Mars/Olympus_Mons`"),
    ("time-zone", {"zone": "`../../etc/passwd`"}, "There is no time zone"),
]


@pytest.mark.parametrize(("command", "options", "sentence"), WRONG)
async def test_what_was_typed_wrongly_changes_nothing_and_says_what_would_work(
    stage: Stage, command: str, options: dict[str, Any], sentence: str
) -> None:
    said = await stage.settings(command, **options)
    assert sentence in said.text
    assert said.private
    assert await policy(stage) == Policy()
    assert await record(stage) == []
    assert len(stage.env.errors) <= 1


async def test_a_default_model_that_not_everybody_may_use_is_refused(stage: Stage) -> None:
    await stage.settings("age-restricted", action="add", model=FLUX)
    await stage.settings("models", action="deny", model=PIXAZO_LARGE)
    for model, label in ((FLUX, "Flux 1 Dev"), (PIXAZO_LARGE, "Krea 2 Large")):
        said = await stage.settings("default-model", model=model)
        assert f"Not everybody may use {label}" in said.text
    assert (await policy(stage)).default_model_id is None


async def test_a_full_list_says_so(stage: Stage) -> None:
    many = ", ".join(f"word{number}" for number in range(MAX_ENTRIES + 1))
    said = await stage.settings("words", action="add", words=many)
    assert f"it holds {MAX_ENTRIES} entries" in said.text
    assert await policy(stage) == Policy()
    assert len(stage.env.errors) == 1


async def test_the_longest_lists_fit_into_a_message(stage: Stage) -> None:
    def alter(policy: Policy) -> Policy:
        for number in range(MAX_ENTRIES):
            policy = policy.with_channel(10**18 + number, True)
            policy = policy.with_model_rule(f"{'m' * 95}{number}*", 10**18, True)
            policy = policy.with_age_restricted(f"{'m' * 95}{number}*", True)
            policy = policy.with_words([f"{'w' * 57}{number}"], True)
        return policy

    await stage.core.store.change_policy(stage.guild.id, alter, actor_id=stage.mo.id, reason=None, now=stage.env.now())
    for command in ("show", "channels", "models", "age-restricted", "words"):
        text = (await stage.settings(command)).text
        assert len(text) <= 4_000, command
    assert "… and 75 more" in (await stage.settings("channels")).text
    page = await stage.quota("audit")
    assert "changed" in page.text


@pytest.mark.parametrize("command", ["channels", "models", "age-restricted", "words", "log-channel", "default-model"])
async def test_a_command_without_options_shows_what_is_set(stage: Stage, command: str) -> None:
    said = await stage.settings(command)
    assert said.private
    assert len(said.text) > 20
    assert await record(stage) == []


# -- warnings --------------------------------------------------------------------------------------------------


async def warnings_of(stage: Stage, who: Any, **options: Any) -> list[str]:
    """Order an image and return the messages that followed the card."""
    result = await who.slash(stage.channel, "imagine", prompt="a red fox", **options)
    card = stage.ordered(result)
    await stage.until_says(card, "Completed")
    followed = [Card(stage.env, message) for message in result.followups]
    assert all(card.private for card in followed)
    return [card.text for card in followed]


async def test_a_member_is_told_once_when_little_is_left(stage: Stage) -> None:
    await stage.quota("set", member=stage.ada, amount="0.40")
    assert [await warnings_of(stage, stage.ada) for _ in range(3)] == [[], [], []]
    told = await warnings_of(stage, stage.ada)
    assert len(told) == 1
    assert told[0].startswith("You have used 80% of your quota: $0.08 of $0.40 left. It resets <t:")
    assert await warnings_of(stage, stage.ada) == []
    await stage.restart()
    await stage.quota("grant", member=stage.ada, amount="0.1")
    assert await warnings_of(stage, stage.ada) == []


async def test_who_was_told_before_a_restart_is_not_told_again(stage: Stage) -> None:
    await stage.quota("set", member=stage.ada, amount="0.20")
    await stage.quota("set", member=stage.bob, amount="0.20")
    assert len(await warnings_of(stage, stage.ada, count=2)) == 1
    await stage.quota("grant", member=stage.ada, amount="0.05")
    await stage.restart()
    await stage.quota("set", member=stage.ada, amount="0.24")
    assert await warnings_of(stage, stage.ada) == []
    assert len(await warnings_of(stage, stage.bob, count=2)) == 1


async def test_moderators_are_told_once_in_their_log_when_little_of_the_cap_is_left(stage: Stage) -> None:
    log = await log_channel(stage)
    await stage.quota("server", amount="0.20", period="month")
    await warnings_of(stage, stage.ada, count=2)
    await stage.until(lambda: len(stage.cards(log)) == 3)
    notice = next(card.text for card in stage.cards(log) if "of its cap" in card.text)
    assert "has used 80% of its cap: $0.04 of $0.20 per month left" in notice
    await stage.quota("server", amount="0.29", period="month")
    await warnings_of(stage, stage.bob)
    await stage.until(lambda: len(stage.cards(log)) == 4)
    assert sum("of its cap" in card.text for card in stage.cards(log)) == 1


async def test_moderators_are_told_with_the_next_order_what_discord_did_not_take(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = await log_channel(stage)
    await stage.quota("server", amount="0.20", period="month")
    server_log = stage.core.bot.log_channel
    taken, post = iter([False]), server_log.post

    async def refused_at_first(*args: Any, **kwargs: Any) -> bool:
        return next(taken, True) and await post(*args, **kwargs)

    monkeypatch.setattr(server_log, "post", refused_at_first)
    await warnings_of(stage, stage.ada, count=2)
    await stage.until(lambda: len(stage.cards(log)) == 2)
    await warnings_of(stage, stage.bob, model=FLUX)
    await stage.until(lambda: len(stage.cards(log)) == 4)
    await warnings_of(stage, stage.bob, model=FLUX)
    await stage.until(lambda: len(stage.cards(log)) == 5)
    assert sum("of its cap" in card.text for card in stage.cards(log)) == 1


async def test_the_operator_is_told_once_when_little_of_the_day_is_left(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(stage.core.bot.operator_alerts, "send", lambda matter, text: told.append(text))
    capped = replace(stage.core.service.limits, operator_daily_cap_usd_micros=190_000)
    monkeypatch.setattr(stage.core.service, "limits", capped)
    await stage.quota("default", amount="unlimited")
    look, looks = stage.core.store.operator_cap, list[Cap]()

    async def noted(limits: Limits, *, now: datetime) -> Cap:
        looks.append(await look(limits, now=now))
        return looks[-1]

    monkeypatch.setattr(stage.core.store, "operator_cap", noted)
    assert await warnings_of(stage, stage.ada, count=2) == []
    await stage.until(lambda: told)
    assert await warnings_of(stage, stage.bob, model=FLUX) == []
    await stage.until(lambda: len(looks) == 2)
    assert len(told) == 1
    assert "have used 84% of today's cap of $0.19" in told[0]


async def test_the_operator_is_told_at_a_refusal_where_the_check_after_the_last_order_failed(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[str, str]] = []
    monkeypatch.setattr(stage.core.bot.operator_alerts, "send", lambda matter, text: told.append((matter, text)))
    capped = replace(stage.core.service.limits, operator_daily_cap_usd_micros=190_000)
    monkeypatch.setattr(stage.core.service, "limits", capped)
    await stage.quota("default", amount="unlimited")
    look, failed = stage.core.store.operator_cap, asyncio.Event()

    async def fails_once(limits: Limits, *, now: datetime) -> Cap:
        if not failed.is_set():
            failed.set()
            raise StoreError("disk full")
        return await look(limits, now=now)

    monkeypatch.setattr(stage.core.store, "operator_cap", fails_once)
    await warnings_of(stage, stage.ada, count=2)
    await failed.wait()
    assert told == []
    for _ in range(2):
        refused = await stage.imagine()
        assert "spending limit for today" in refused.text
    await stage.until(lambda: told)
    [(matter, text)] = told
    assert "have used 84% of today's cap of $0.19" in text
    assert matter != "daily cap", "that of the next day is another matter, also within the same hour"


async def test_an_order_stands_when_the_database_fails_right_after_it(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*args: Any, **kwargs: Any) -> None:
        raise StoreError("disk full")

    monkeypatch.setattr(stage.core.store, "operator_cap", fails)
    assert await warnings_of(stage, stage.ada) == []


# -- help ------------------------------------------------------------------------------------------------------


async def test_help_shows_only_what_the_reader_may_use(stage: Stage) -> None:
    def named(card: Card) -> set[str]:
        assert card.private
        return {line.split("`")[1] for line in card.text.splitlines() if line.startswith("`")}

    ordering = {"/imagine", "/edit", "/compare", "/preset", "/defaults", "Edit this image"}
    members = ordering | {"/usage", "/models", "/history", "/privacy"}
    assert named(stage.said(await stage.ada.slash(stage.channel, "help"))) == members
    moderators = {"/quota", "/settings", "/jobs"}
    assert named(stage.said(await stage.mo.slash(stage.channel, "help"))) == members | moderators
    stage.env.backend.get_dm_channel(stage.ada.id)
    direct = stage.said(await stage.ada.user.slash("help"))
    assert named(direct) == {"/models", "/privacy"}
    assert member_pages.HELP_DIRECT() in direct.text


async def test_help_says_where_pictures_are_made(stage: Stage) -> None:
    other = stage.guild.create_text_channel("other")
    await stage.settings("channels", action="allow", channel=other)
    card = stage.said(await stage.ada.slash(stage.channel, "help"))
    assert f"Images can't be ordered in this channel, only in <#{other.id}>." in card.text
