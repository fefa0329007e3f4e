"""Autocomplete: at most 25 matches, labelled with a price, for inexact input too."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from bot.catalogue.styles import Style
from bot.domain.errors import StoreError
from bot.domain.jobs import JobKind
from cogs.generate.ordering import autocomplete as suggestions
from tests.support.catalogue_samples import CATALOGUE, FLUX, KREA_LARGE, NANO_BANANA_2, PIXAZO_LARGE
from tests.support.discord_stage import Stage


async def typed(stage: Stage, command: str, option: str, text: str, **filled: Any) -> dict[str, str]:
    """Return values by label."""
    choices = await stage.ada.autocomplete(stage.channel, command, option, text, **filled)
    assert len(choices) <= 25
    assert all(1 <= len(choice["name"]) <= 100 and 1 <= len(choice["value"]) <= 100 for choice in choices)
    return {choice["name"]: choice["value"] for choice in choices}


async def test_models_are_offered_with_name_and_price(stage: Stage) -> None:
    offered = await typed(stage, "imagine", "model", "")
    assert offered["Nano Banana 2 · $0.08 · default"] == NANO_BANANA_2
    assert offered["Flux 1 Dev · $0.007"] == FLUX
    assert not any(CATALOGUE.get(value).starting_usd_micros is None for value in offered.values())


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("nano banana 2", NANO_BANANA_2),
        ("  NANO-banana2 ", NANO_BANANA_2),
        ("nanobanana2", NANO_BANANA_2),
        ("nano-banana-2", NANO_BANANA_2),
        ("Nano_Banana  2", NANO_BANANA_2),
        ("google/nano", NANO_BANANA_2),
        ("krea/google/nano-banana-2", NANO_BANANA_2),
        ("2 banana nano", NANO_BANANA_2),
        ("flx dev", FLUX),
        ("banana", "krea/google/nano-banana"),
        ("banan 2", NANO_BANANA_2),
        ("flux dev", FLUX),
        ("krea 2 large pixazo", PIXAZO_LARGE),
        ("nanno bananna pro", "krea/google/nano-banana-pro"),
    ],
)
async def test_models_are_found_however_carelessly_they_are_typed(stage: Stage, text: str, first: str) -> None:
    assert first in list((await typed(stage, "imagine", "model", text)).values())[:3]


@pytest.mark.parametrize("text", ["zzzzzz", "`@everyone`", "../../etc", "x" * 3_000])
async def test_nonsense_offers_nothing_and_breaks_nothing(stage: Stage, text: str) -> None:
    assert await typed(stage, "imagine", "model", text) == {}


@pytest.mark.parametrize("text", ["  ", "\u2800", "🦊", "-_/."])
async def test_what_has_no_letters_offers_what_nothing_typed_offers(stage: Stage, text: str) -> None:
    assert await typed(stage, "imagine", "model", text) == await typed(stage, "imagine", "model", "")


async def test_edit_offers_only_models_that_take_images(stage: Stage) -> None:
    offered = await typed(stage, "edit", "model", "")
    assert offered
    assert all(CATALOGUE.get(value).supports(JobKind.EDIT) for value in offered.values())
    assert PIXAZO_LARGE not in offered.values()


async def test_only_models_of_providers_that_are_set_up_are_offered(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(stage.core.service._dispatchers, "krea")
    assert list((await typed(stage, "imagine", "model", "")).values()) == [PIXAZO_LARGE]
    assert "its image service is not set up" in (await stage.imagine(model=NANO_BANANA_2)).text
    assert "Krea 2 Large (Pixazo)" in (await stage.imagine()).text  # what takes the place of the default model
    assert PIXAZO_LARGE in (await typed(stage, "models", "model", "")).values()


@pytest.mark.parametrize("model", CATALOGUE.models, ids=lambda model: model.id)
async def test_every_models_choices_fit_into_what_discord_takes(model: Any) -> None:
    assert 1 <= len(suggestions.label(model)) <= 100
    assert all(1 <= len(value) <= 100 for option in model.supported_options for value in model.choices(option))


VALUES = [
    ("imagine", "aspect_ratio", NANO_BANANA_2, "16", ["16:9", "9:16"]),
    ("imagine", "aspect_ratio", FLUX, " 21:9 ", ["21:9"]),
    ("imagine", "aspect_ratio", None, "9:16", ["9:16"]),
    ("imagine", "resolution", NANO_BANANA_2, "", ["1K", "2K", "4K"]),
    ("imagine", "resolution", NANO_BANANA_2, "4k", ["4K"]),
    ("imagine", "resolution", FLUX, "", []),
    ("imagine", "creativity", KREA_LARGE, "", ["raw", "low", "medium", "high"]),
    ("imagine", "creativity", PIXAZO_LARGE, "HI", ["high"]),
    ("imagine", "creativity", NANO_BANANA_2, "", []),
    ("imagine", "aspect_ratio", NANO_BANANA_2, "16x9", ["16:9"]),
    ("imagine", "aspect_ratio", NANO_BANANA_2, "16 9", ["16:9"]),
    ("imagine", "resolution", NANO_BANANA_2, "4 k", ["4K"]),
    ("imagine", "resolution", NANO_BANANA_2, "-", []),
    ("imagine", "style", NANO_BANANA_2, "", []),
    ("imagine", "style", NANO_BANANA_2, "ink-wash+", []),
    ("imagine", "style", None, "", []),
    ("imagine", "style", "no such model", "", []),
    ("imagine", "style", KREA_LARGE, "", ["clay", "ink-wash"]),
    ("imagine", "style", PIXAZO_LARGE, "WASH ink", ["ink-wash"]),
    ("imagine", "style", FLUX, "", ["ink-wash", "x" * 100]),
    ("imagine", "style", FLUX, "elan", ["x" * 100]),
    ("imagine", "style", FLUX, "inkwash", ["ink-wash"]),
    ("imagine", "style", "krea/openai/gpt-image", "", []),
    ("imagine", "style", KREA_LARGE, "ink-wash+cl", ["ink-wash+cl", "ink-wash+Clay Figures"]),
    ("imagine", "style", KREA_LARGE, "Ink Wash:0.5+", ["Ink Wash:0.5+Clay Figures", "Ink Wash:0.5+Ink Wash"]),
    ("imagine", "style", KREA_LARGE, "ink-wash:", ["ink-wash:1", "ink-wash:-2", "ink-wash:2", "Ink Wash"]),
    ("imagine", "style", KREA_LARGE, "wash:0.5", ["wash:0.5", "Ink Wash:0.5"]),
    ("preset add", "style", KREA_LARGE, "clay+ink", ["clay+ink", "clay+Ink Wash"]),
    ("imagine", "resolution", "Nano Banana 2", "", ["1K", "2K", "4K"]),
    ("imagine", "resolution", "no such model", "", []),
    ("imagine", "resolution", "`" * 2_000, "", []),
    ("edit", "aspect_ratio", NANO_BANANA_2, "21", ["21:9"]),
    ("edit", "resolution", None, "", ["1K", "2K", "4K"]),
]


STYLES = [
    Style(id="ink-wash", title="Ink Wash", families=("flux_dev", "krea-2"), likes=120),
    Style(id="clay", title="Clay Figures", families=("krea-2",), likes=900),
    Style(id="x" * 100, title=f"Élan {'y' * 150}", families=("flux_dev",)),
    Style(id="z" * 101, title="Too long to be chosen", families=("flux_dev",)),
]


@pytest.mark.parametrize(("command", "option", "model", "text", "values"), VALUES)
async def test_values_follow_the_model_that_was_chosen(
    stage: Stage, command: str, option: str, model: str | None, text: str, values: list[str]
) -> None:
    filled = {} if model is None else {"model": model}
    stage.core.service.styles.replace(STYLES)
    assert list((await typed(stage, command, option, text, **filled)).values()) == values


async def test_a_value_that_decides_the_price_says_it(stage: Stage) -> None:
    offered = await typed(stage, "imagine", "resolution", "", model=NANO_BANANA_2)
    assert list(offered) == ["1K · $0.08", "2K · $0.12", "4K · $0.16"]


# -- what is left ---------------------------------------------------------------------------------------------------


async def leave(stage: Stage, amount: str) -> None:
    """Set Ada's own quota."""
    await stage.quota("set", member=stage.ada, amount=amount)


async def test_only_models_that_can_still_be_paid_are_offered(stage: Stage) -> None:
    await leave(stage, "0.05")
    offered = await typed(stage, "imagine", "model", "")
    assert offered["Flux 1 Dev · $0.007"] == FLUX
    assert all((CATALOGUE.get(value).starting_usd_micros or 0) <= 50_000 for value in offered.values())
    bobs = await stage.bob.autocomplete(stage.channel, "imagine", "model", "")
    assert NANO_BANANA_2 in [choice["value"] for choice in bobs]


async def test_what_is_set_aside_is_not_left(stage: Stage) -> None:
    stage.core.krea.waits = True
    await leave(stage, "0.10")
    await stage.imagine()
    assert NANO_BANANA_2 not in (await typed(stage, "imagine", "model", "")).values()
    assert FLUX in (await typed(stage, "imagine", "model", "")).values()


async def test_a_model_that_is_looked_for_comes_last_and_says_that_it_costs_more_than_is_left(stage: Stage) -> None:
    await leave(stage, "0.05")
    offered = await typed(stage, "imagine", "model", "nano banana 2")
    assert list(offered) == ["Nano Banana 2 Lite · $0.034", "Nano Banana 2 · $0.08 · over your $0.05 left"]


async def test_with_nothing_left_the_cheapest_come_first_and_each_says_so(stage: Stage) -> None:
    await leave(stage, "0")
    offered = await typed(stage, "edit", "model", "")
    assert len(offered) > 5
    assert all(name.endswith(" · over your $0.00 left") for name in offered)
    prices = [CATALOGUE.get(value).starting_usd_micros or 0 for value in offered.values()]
    assert prices == sorted(prices)


async def test_without_a_limit_everything_is_offered(stage: Stage) -> None:
    await leave(stage, "unlimited")
    assert NANO_BANANA_2 in (await typed(stage, "imagine", "model", "")).values()


async def test_a_broken_database_does_not_delay_autocomplete(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*args: Any, **kwargs: Any) -> None:
        raise StoreError("the disk is gone")

    await leave(stage, "0.05")
    monkeypatch.setattr(stage.core.store, "spendable", broken)
    assert NANO_BANANA_2 in (await typed(stage, "imagine", "model", "")).values()


async def test_a_busy_database_does_not_delay_autocomplete(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    async def busy(*args: Any, **kwargs: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(stage.core.store, "spendable", busy)
    typing: Any = SimpleNamespace(
        guild=None,
        guild_id=stage.guild.id,
        is_guild_integration=lambda: True,
        namespace=SimpleNamespace(),
        channel_id=0,
        channel=None,
        user=SimpleNamespace(id=1),
        client=stage.core.bot,
    )
    # In real time, because the simulated Discord does not advance its clock.
    offer = stage.core.supervisor.start("typing", suggestions.models(typing, "", JobKind.IMAGINE))
    async with asyncio.timeout(5):
        assert NANO_BANANA_2 in [choice.value for choice in await offer]


@pytest.mark.parametrize("model", CATALOGUE.models, ids=lambda model: model.id)
async def test_the_mark_fits_behind_every_name(model: Any) -> None:
    name = suggestions._over_label(model, 9_999_999_999_999)
    assert len(name) <= 100
    assert name.endswith("over your $9,999,999.999999 left")


async def test_a_failing_autocomplete_shows_no_error_message(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(suggestions, "permissions_of", broken)
    assert await stage.ada.autocomplete(stage.channel, "imagine", "model", "x") == []
    stage.core.bot.tree.remove_command("imagine")
    assert await stage.ada.autocomplete(stage.channel, "imagine", "model", "x") == []
    assert len(stage.env.errors) == 1
    direct = f"/channels/{stage.channel.id}/"
    assert [path for path, _ in stage.outgoing() if path.startswith(direct) or "callback" in path] == []


# -- more ------------------------------------------------------------------------------------------------------------


async def test_more_offers_the_parameters_of_the_model_with_range_and_default(stage: Stage) -> None:
    offered = await typed(stage, "imagine", "more", "", model=FLUX)
    assert offered["steps=25 · a whole number from 1 to 100, default 25"] == "steps=25"
    assert offered["guidance_scale=3 · a number from 0 to 24, default 3"] == "guidance_scale=3"


@pytest.mark.parametrize(
    ("model", "text", "first"),
    [
        (FLUX, "ste", "steps=25"),
        (FLUX, "steps=2", "steps=2"),
        (FLUX, "steps=500", "steps=25"),
        (FLUX, "steps=28, gui", "steps=28, guidance_scale=3"),
        (FLUX, "steps=28 · a whole number from 1 to 100, default 25, gui", "steps=28, guidance_scale=3"),
        (NANO_BANANA_2, "resolution=4", "resolution=4K"),
        ("krea/bfl/flux-1.1-pro-ultra", "raw=f", "raw=false"),
        (PIXAZO_LARGE, "moodboard_st", "moodboard_strength=0.23"),
    ],
)
async def test_more_completes_names_and_values_as_they_are_typed(
    stage: Stage, model: str, text: str, first: str
) -> None:
    assert next(iter((await typed(stage, "imagine", "more", text, model=model)).values())) == first


async def test_more_says_the_price_that_a_value_decides(stage: Stage) -> None:
    assert "resolution=4K · $0.16, default 1K" in await typed(
        stage, "imagine", "more", "resolution=", model=NANO_BANANA_2
    )


async def test_more_offers_nothing_for_what_it_cannot_go_on_with(stage: Stage) -> None:
    for text in ("nonsense", "nonsense=1", "x" * 3_000, "negative_prompt=" + "x" * 100, "=", "fast, steps"):
        assert await typed(stage, "imagine", "more", text, model=FLUX) == {}


async def test_the_default_model_is_marked(stage: Stage) -> None:
    offered = await typed(stage, "imagine", "model", "")
    assert [value for label, value in offered.items() if label.endswith(" · default")] == [NANO_BANANA_2]


async def set_defaults(stage: Stage, **options: Any) -> None:
    stage.said(await stage.ada.slash(stage.channel, "defaults set", **options))


async def test_a_members_own_default_model_decides_what_is_offered(stage: Stage) -> None:
    await set_defaults(stage, model=KREA_LARGE)
    stage.core.service.styles.replace(STYLES)
    models = await typed(stage, "imagine", "model", "")
    assert [value for label, value in models.items() if label.endswith(" · default")] == [KREA_LARGE]
    assert "4K" not in (await typed(stage, "imagine", "resolution", "")).values()
    assert "4:1" not in (await typed(stage, "imagine", "aspect_ratio", "")).values()
    assert list((await typed(stage, "imagine", "creativity", "")).values()) == ["raw", "low", "medium", "high"]
    assert list((await typed(stage, "imagine", "style", "")).values()) == ["clay", "ink-wash"]
    assert "intensity=0" in str((await typed(stage, "imagine", "more", "intens")).values())
    assert await typed(stage, "imagine", "resolution", "", model=FLUX) == {}
    listed = stage.said(await stage.ada.slash(stage.channel, "models"))
    assert [line for line in listed.text.splitlines() if line.endswith("default")] == [
        "**Krea 2 Large** · $0.06 – $0.07 · default"
    ]


async def test_what_a_members_own_default_model_cannot_do_is_offered_for_the_servers(stage: Stage) -> None:
    await set_defaults(stage, model=PIXAZO_LARGE)
    assert "4K" in (await typed(stage, "edit", "resolution", "")).values()


async def test_the_preset_of_a_members_defaults_comes_before_their_model(stage: Stage) -> None:
    await stage.ada.slash(stage.channel, "preset add", name="quick", model=FLUX)
    await set_defaults(stage, model=KREA_LARGE, preset="quick")
    models = await typed(stage, "imagine", "model", "")
    assert [value for label, value in models.items() if label.endswith(" · default")] == [FLUX]
    assert await typed(stage, "imagine", "resolution", "") == {}


async def test_a_moderators_own_default_model_is_not_marked_where_they_choose_the_servers(stage: Stage) -> None:
    stage.said(await stage.mo.slash(stage.channel, "defaults set", model=FLUX))
    choices = await stage.mo.autocomplete(stage.channel, "settings default-model", "model", "")
    assert [choice["value"] for choice in choices if choice["name"].endswith(" · default")] == [NANO_BANANA_2]


@pytest.mark.parametrize("read", ["member_defaults", "presets_of"])
async def test_defaults_that_cannot_be_read_leave_those_of_the_server(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, read: str
) -> None:
    async def broken(*args: Any, **kwargs: Any) -> None:
        raise StoreError("the disk is gone")

    await stage.ada.slash(stage.channel, "preset add", name="quick", model=FLUX)
    await set_defaults(stage, preset="quick")
    monkeypatch.setattr(stage.core.store, read, broken)
    assert "4K" in (await typed(stage, "imagine", "resolution", "")).values()
