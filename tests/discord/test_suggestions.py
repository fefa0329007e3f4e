"""Autocomplete: what fits, at most 25, labelled with a price, however carelessly it is typed."""

from __future__ import annotations

from typing import Any

import pytest

from bot.jobs import JobKind
from cogs import suggestions
from tests.catalogue_samples import CATALOGUE, FLUX, KREA_LARGE, NANO_BANANA_2, PIXAZO_LARGE
from tests.discord.stage import Stage


async def typed(stage: Stage, command: str, option: str, text: str, **filled: Any) -> dict[str, str]:
    """Values by label."""
    choices = await stage.ada.autocomplete(stage.channel, command, option, text, **filled)
    assert len(choices) <= 25
    assert all(1 <= len(choice["name"]) <= 100 and 1 <= len(choice["value"]) <= 100 for choice in choices)
    return {choice["name"]: choice["value"] for choice in choices}


async def test_models_are_offered_with_name_and_price(stage: Stage) -> None:
    offered = await typed(stage, "imagine", "model", "")
    assert offered["Nano Banana 2 · $0.08"] == NANO_BANANA_2
    assert offered["Flux 1 Dev · $0.007"] == FLUX
    assert not any(CATALOGUE.get(value).starting_usd_micros is None for value in offered.values())


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("nano banana 2", NANO_BANANA_2),
        ("  NANO-banana2 ", NANO_BANANA_2),
        ("nanobanana2", NANO_BANANA_2),
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


@pytest.mark.parametrize("text", ["  ", "\x00", "🦊", "-_/."])
async def test_what_has_no_letters_offers_what_nothing_typed_offers(stage: Stage, text: str) -> None:
    assert await typed(stage, "imagine", "model", text) == await typed(stage, "imagine", "model", "")


async def test_edit_offers_only_models_that_take_pictures(stage: Stage) -> None:
    offered = await typed(stage, "edit", "model", "")
    assert offered
    assert all(CATALOGUE.get(value).fits(JobKind.EDIT) for value in offered.values())
    assert PIXAZO_LARGE not in offered.values()


async def test_only_models_of_providers_that_are_set_up_are_offered(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(stage.core.service._lanes, "krea")
    assert list((await typed(stage, "imagine", "model", "")).values()) == [PIXAZO_LARGE]
    refused = await stage.imagine()
    assert "its provider is not set up" in refused.text
    assert PIXAZO_LARGE in (await typed(stage, "models", "model", "")).values()


@pytest.mark.parametrize("model", CATALOGUE.models, ids=lambda model: model.id)
async def test_every_models_choices_fit_into_what_discord_takes(model: Any) -> None:
    assert 1 <= len(suggestions.label(model)) <= 100
    assert all(1 <= len(value) <= 100 for option in model.takes for value in model.choices(option))


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
    ("imagine", "style", KREA_LARGE, "", []),
    ("imagine", "resolution", "Nano Banana 2", "", ["1K", "2K", "4K"]),
    ("imagine", "resolution", "no such model", "", []),
    ("imagine", "resolution", "`" * 2_000, "", []),
    ("edit", "aspect_ratio", NANO_BANANA_2, "21", ["21:9"]),
    ("edit", "resolution", None, "", ["1K", "2K", "4K"]),
]


@pytest.mark.parametrize(("command", "option", "model", "text", "values"), VALUES)
async def test_values_follow_the_model_that_was_chosen(
    stage: Stage, command: str, option: str, model: str | None, text: str, values: list[str]
) -> None:
    filled = {} if model is None else {"model": model}
    assert list((await typed(stage, command, option, text, **filled)).values()) == values


async def test_a_value_that_decides_the_price_says_it(stage: Stage) -> None:
    offered = await typed(stage, "imagine", "resolution", "", model=NANO_BANANA_2)
    assert list(offered) == ["1K · $0.08", "2K · $0.12", "4K · $0.16"]


async def test_a_suggestion_that_fails_is_nobodys_error_message(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(suggestions, "models", broken)
    assert await stage.ada.autocomplete(stage.channel, "imagine", "model", "x") == []
    stage.core.bot.tree.remove_command("imagine")
    assert await stage.ada.autocomplete(stage.channel, "imagine", "model", "x") == []
    assert len(stage.env.errors) == 1
    assert list(stage.outgoing()) == []
