"""/preset and /defaults: what is saved once completes later orders, at the price of the whole."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from bot.domain.presets import MemberDefaults
from cogs.text import presets, refusals
from tests.support.catalogue_samples import FLUX
from tests.support.discord_stage import Card, Stage
from tests.support.image_samples import image

NANO = "krea/google/nano-banana-2"
NO_REFERENCES = "krea/bfl/flux-1.1-pro"
FOX = ("fox.png", image("PNG"))
DOG = ("dog.png", image("JPEG"))
NOIR: dict[str, Any] = {
    "name": "Film Noir",
    "model": NANO,
    "options": "aspect_ratio=16:9, resolution=2K",
    "before": "film noir of",
    "after": "black and white",
}


async def said(stage: Stage, who: Any, command: str, **options: Any) -> Card:
    return stage.said(await who.slash(stage.channel, command, **options))


async def test_a_moderators_preset_completes_the_orders_of_members(stage: Stage) -> None:
    added = await said(stage, stage.mo, "preset add", **NOIR)
    assert "An image with it costs $0.12" in added.text
    offered = await stage.ada.autocomplete(stage.channel, "imagine", "preset", "noir")
    assert [choice["value"] for choice in offered] == ["Film Noir"]
    card = await stage.imagine(preset="film noir")
    assert "preset `Film Noir`" in card.text
    assert "film noir of a red fox black and white" in card.text
    await stage.until_says(card, "Completed", "cost **$0.12**", "2K", "16:9")


async def test_options_are_offered_for_the_model_of_the_preset_unless_another_is_typed(stage: Stage) -> None:
    await said(stage, stage.mo, "preset add", name="quick", model=FLUX, after="in oil")

    async def offered(option: str, **typed: Any) -> list[str]:
        found = await stage.ada.autocomplete(stage.channel, "imagine", option, "", prompt="a fox", **typed)
        return [choice["name"] for choice in found]

    assert await offered("resolution", preset=" QUICK ") == []
    assert any(name.startswith("steps=") for name in await offered("more", preset="quick"))
    for typed in ({"preset": "quick", "model": NANO}, {"preset": "unknown"}, {}):
        assert "4K · $0.16" in await offered("resolution", **typed)


async def test_what_the_command_says_wins_over_the_preset(stage: Stage) -> None:
    await said(stage, stage.mo, "preset add", **NOIR)
    card = await stage.imagine(preset="Film Noir", resolution="1K")
    await stage.until_says(card, "Completed", "cost **$0.08**", "16:9")
    refused = await stage.imagine(preset="Film Noir", model=FLUX)
    assert refused.private
    assert any(label.startswith("Order without resolution · $0.007") for label in refused.buttons)


async def test_members_have_presets_of_their_own_and_cannot_change_the_servers(stage: Stage) -> None:
    await said(stage, stage.mo, "preset add", **NOIR)
    await said(stage, stage.ada, "preset add", name="mine", model=FLUX, after="in oil")
    card = await stage.imagine(preset="mine")
    await stage.until_says(card, "Completed", "Flux 1 Dev", "a red fox in oil")
    refused = await stage.imagine(stage.bob, preset="mine")
    assert presets.UNKNOWN_PRESET(name="mine") in refused.text
    assert "Order without preset · $0.08" in refused.buttons
    for command, more in (("preset add", {"model": FLUX}), ("preset remove", {})):
        denied = await said(stage, stage.ada, command, name="Film Noir", **{"for": "server"}, **more)
        assert denied.reason == presets.MODERATORS_FOR_SERVER()
    listed = await said(stage, stage.ada, "preset list")
    assert "`Film Noir` · Nano Banana 2" in listed.text
    assert "`mine` · Flux 1 Dev" in listed.text
    gone = await said(stage, stage.ada, "preset remove", name="MINE")
    assert gone.text == presets.PRESET_REMOVED(name="`MINE`")
    audit = await said(stage, stage.mo, "quota audit")
    assert "`Film Noir` not listed → listed" in audit.text


async def test_a_preset_that_could_not_be_ordered_is_refused_like_an_order(stage: Stage) -> None:
    refused = await said(stage, stage.mo, "preset add", name="x", model=FLUX, options="resolution=8K")
    assert "resolution" in refused.text
    assert "Flux 1 Dev" in refused.text
    assert (await said(stage, stage.mo, "preset add", name="x")).text == presets.PRESET_EMPTY()
    bad = await said(stage, stage.mo, "preset add", name="x", model=FLUX, options="nonsense")
    assert bad.text.startswith("`options` does not fit Flux 1 Dev.")
    assert (await said(stage, stage.mo, "preset list")).text.endswith(presets.PRESETS_NONE())
    assert len(stage.env.errors) == 2


async def test_a_word_of_the_list_in_a_preset_is_refused_when_it_is_used(stage: Stage) -> None:
    await said(stage, stage.mo, "preset add", name="bad", after="gore")
    await stage.settings("words", action="add", words="gore")
    refused = await stage.imagine(preset="bad")
    assert refusals.WORD_NOT_WELCOME(word="gore") in refused.text
    await stage.assert_nothing_reserved()


async def test_own_defaults_complete_orders_in_their_server(stage: Stage) -> None:
    await said(stage, stage.ada, "defaults set", model=NANO, resolution="2K", private=True)
    shown = await said(stage, stage.ada, "defaults set", aspect_ratio="16:9")
    assert "`resolution`: 2K" in shown.text
    card = await stage.imagine()
    assert card.private
    await stage.until_says(card, "Completed", "cost **$0.12**", "16:9")
    public = await stage.imagine(private=False, resolution="1K")
    assert not public.private
    await stage.until_says(public, "Completed", "cost **$0.08**")
    other = await stage.imagine(model=FLUX, private=False)
    await stage.until_says(other, "Completed", "Flux 1 Dev", "cost **$0.007**")
    of_bob = await stage.imagine(stage.bob)
    await stage.until_says(of_bob, "Completed", "cost **$0.08**")
    await said(stage, stage.ada, "defaults clear")
    assert presets.DEFAULTS_NONE() in (await said(stage, stage.ada, "defaults show")).text


async def test_a_default_model_that_is_not_permitted_any_more_is_left_out(stage: Stage) -> None:
    await said(stage, stage.ada, "defaults set", model=FLUX)
    await stage.settings("models", action="deny", model=FLUX)
    await stage.until_says(await stage.imagine(), "Completed", "Nano Banana 2")


async def test_bad_defaults_get_a_sentence_that_helps(stage: Stage) -> None:
    refused = await said(stage, stage.ada, "defaults set", resolution="16K")
    assert refused.text == presets.DEFAULTS_BAD_VALUE(option="resolution", value="16K")
    assert (await said(stage, stage.ada, "defaults set")).text == presets.DEFAULTS_NOTHING_GIVEN()
    assert presets.UNKNOWN_PRESET(name="no") in (await said(stage, stage.ada, "defaults set", preset="no")).text
    assert len(stage.env.errors) == 1


async def test_a_default_preset_completes_edits_too(stage: Stage) -> None:
    await said(stage, stage.mo, "preset add", name="night", after="at night")
    await said(stage, stage.ada, "defaults set", preset="NIGHT")
    card = await stage.edit(image=("a.png", image("PNG")))
    await stage.until_says(card, "Completed", "make it blue at night", "preset `night`")
    await said(stage, stage.mo, "preset remove", name="night")
    await stage.until_says(await stage.imagine(), "Completed")


async def test_the_reference_of_a_preset_goes_with_each_order(stage: Stage) -> None:
    added = await said(stage, stage.mo, "preset add", name="like this", reference=FOX, after="in oil")
    assert "with an image" in added.text
    await stage.restart()
    krea = stage.core.krea
    await stage.until_says(await stage.imagine(preset="like this"), "Completed", "1 image given")
    await stage.until_says(await stage.imagine(preset="like this", reference=DOG), "2 images given")
    edited = await stage.edit(preset="like this", image=DOG)
    await stage.until_says(edited, "Completed", "2 images given")
    await stage.quiet()
    jobs = (await stage.jobs())[::-1]
    [reference] = jobs[0].request.images
    assert [order.images[-1].role for order in (job.request for job in jobs)] == ["reference", "reference", "source"]
    assert all(job.request.images[-1].sha256 == reference.sha256 for job in jobs)
    assert len(krea.orders) == 3
    much_later = stage.core.service.now() + timedelta(days=400)
    assert reference.sha256 in await stage.core.store.sha256_in_use(now=much_later)
    await said(stage, stage.mo, "preset remove", name="like this")
    assert reference.sha256 not in await stage.core.store.sha256_in_use(now=much_later)


async def test_a_reference_that_cannot_be_used_is_refused_before_the_preset_is_stored(stage: Stage) -> None:
    broken = await said(stage, stage.ada, "preset add", name="x", reference=("notes.txt", b"no image"))
    assert "notes.txt" in broken.text
    without = await said(stage, stage.ada, "preset add", name="x", model=NO_REFERENCES, reference=FOX)
    assert "reference" in without.text
    assert (await said(stage, stage.ada, "preset list")).text.endswith(presets.PRESETS_NONE())
    assert len(stage.env.errors) == 2


async def test_a_model_that_takes_no_reference_is_offered_the_preset_without_it(stage: Stage) -> None:
    await said(stage, stage.ada, "preset add", name="mine", reference=FOX, after="in oil")
    refused = await stage.imagine(preset="mine", model=NO_REFERENCES)
    assert refused.private
    assert any(label.startswith("Order without reference") for label in refused.buttons)


async def test_a_name_is_kept_as_it_is_seen_and_found_by_what_is_seen(stage: Stage) -> None:
    added = await said(stage, stage.mo, "preset add", **NOIR | {"name": "\u202eFilm\u200b \u2060 Noir"})
    assert "`Film Noir`" in added.text
    again = await said(stage, stage.mo, "preset add", **NOIR)
    assert presets.PRESET_REPLACED(name="`Film Noir`", scope=presets.SCOPE_SERVER()) in again.text
    assert "preset `Film Noir`" in (await stage.imagine(preset="film noir")).text


async def test_of_two_presets_of_a_name_the_one_that_counts_is_offered(stage: Stage) -> None:
    await said(stage, stage.mo, "preset add", **NOIR)
    await said(stage, stage.ada, "preset add", name="film noir", options="aspect_ratio=1:1")
    offered = await stage.ada.autocomplete(stage.channel, "imagine", "preset", "")
    assert [choice["value"] for choice in offered] == ["film noir"]


async def test_defaults_say_what_orders_do_without_and_why(stage: Stage) -> None:
    await said(stage, stage.ada, "preset add", name="mine", options="aspect_ratio=1:1")
    await said(stage, stage.ada, "defaults set", model=FLUX, preset="mine")
    assert "⚠️" not in (await said(stage, stage.ada, "defaults show")).text
    await said(stage, stage.ada, "preset remove", name="mine")
    await stage.settings("models", action="deny", model=FLUX)
    shown = await said(stage, stage.ada, "defaults show")
    assert f"⚠️ {refusals.MODEL_NOT_ALLOWED(model='Flux 1 Dev')}" in shown.text
    assert f"⚠️ {presets.UNKNOWN_PRESET(name='mine')}" in shown.text
    retired = "krea/google/nano-banana-2.1"
    await stage.core.store.set_member_defaults(
        MemberDefaults(model_id=retired), guild_id=stage.guild.id, user_id=stage.ada.id
    )
    shown = await said(stage, stage.ada, "defaults show")
    assert "⚠️ `Nano Banana 2.1` cannot be ordered" in shown.text
