"""From the command to the image through both real providers' protocols, over real HTTP, with the bill compared."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from itertools import groupby
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest

from bot.domain.jobs import ImageRole, JobKind
from bot.providers.krea import KreaProvider
from bot.providers.pixazo import PixazoProvider
from bot.service.execution import results
from bot.service.maintenance.style_reader import StyleReader
from cogs.text import job_card
from sandbox import shelf
from sandbox.contracts import Contract, contracts
from sandbox.plans import LOST_ANSWER, Ending, FileTrouble, Plan, Trouble
from sandbox.provider import SandboxProvider
from tests.support.catalogue_samples import (
    CATALOGUE,
    FLUX,
    KREA_LARGE,
    NANO_BANANA_2,
    PIXAZO_LARGE,
    TOPAZ,
    overridden,
)
from tests.support.core import small_image
from tests.support.discord_stage import Stage
from tests.support.documented_orders import EveryField, every_field, is_image, parts_of
from tests.support.image_samples import image, open_image

PNG = image("PNG")
MOODBOARD = "123E4567-e89b-12d3-a456-426614174000"


@pytest.fixture
async def sandbox(stage: Stage) -> AsyncGenerator[SandboxProvider]:
    """Replace the fakes by the simulated APIs behind the real providers."""
    async with SandboxProvider(seconds_scale=0.01) as sandbox, aiohttp.ClientSession() as session:
        providers = (
            KreaProvider(session, base_url=sandbox.krea_base, api_key=sandbox.krea_key),
            PixazoProvider(session, base_url=sandbox.pixazo_base, api_key=sandbox.pixazo_key),
        )
        for provider in providers:
            stage.core.parts.add_provider(provider, poll_seconds=0.02, max_concurrency=4)
        yield sandbox
        await stage.quiet()
        assert sandbox.violations == []


ORDERS = [
    pytest.param("imagine", {"model": FLUX}, 7_000, id="flux"),
    pytest.param("imagine", {"model": NANO_BANANA_2, "resolution": "2K"}, 120_000, id="nano banana 2 at 2K"),
    pytest.param("imagine", {"model": PIXAZO_LARGE}, 60_000, id="pixazo"),
    pytest.param("edit", {"image": ("fox.png", PNG), "image2": ("b.jpg", image("JPEG"))}, 80_000, id="edit of two"),
    pytest.param("imagine", {"model": KREA_LARGE, "reference": ("fox.png", PNG)}, 65_000, id="krea with reference"),
    pytest.param("imagine", {"model": KREA_LARGE, "moodboard": MOODBOARD}, 70_000, id="krea with moodboard"),
    pytest.param("imagine", {"model": FLUX, "style": "style-clay"}, 7_000, id="flux with style"),
]


@pytest.mark.parametrize(("command", "options", "price"), ORDERS)
async def test_a_command_becomes_an_image_and_the_ledger_agrees_with_the_bill(
    stage: Stage, sandbox: SandboxProvider, command: str, options: dict[str, Any], price: int
) -> None:
    card = stage.said(await stage.ada.slash(stage.channel, command, prompt="a lighthouse at night", **options))
    await stage.until_says(card, "Completed", seconds=20)
    assert len(stage.cards()) == 1
    assert min(open_image(card.file()).size) >= 256
    assert (await stage.balance()).spent_usd_micros == sandbox.bill_usd_micros == price
    assert len(sandbox.orders) == 1


async def test_an_upscale_doubles_the_image(
    stage: Stage, sandbox: SandboxProvider, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(stage.core.service, "catalogue", overridden({"prices": {TOPAZ: "0.05"}}, tmp_path=tmp_path))
    card = await stage.imagine(model=FLUX, aspect_ratio="16:9")
    await stage.until_says(card, "Completed", seconds=20)
    width, height = open_image(card.file()).size
    larger = stage.said(await stage.press(stage.ada, card, "Upscale · $0.05"))
    await stage.until_says(larger, "Completed", f"{width * 2} × {height * 2}", seconds=20)
    assert open_image(larger.file()).size == (width * 2, height * 2)
    assert (await stage.balance()).spent_usd_micros == sandbox.bill_usd_micros == 57_000


async def test_a_moodboard_is_named_by_its_id(stage: Stage, sandbox: SandboxProvider) -> None:
    card = await stage.imagine(model=KREA_LARGE, moodboard=f" {MOODBOARD} ")
    await stage.until_says(card, "Completed", seconds=20)
    assert sandbox.orders[0].body["moodboards"] == [{"id": MOODBOARD.lower(), "strength": 0.23}]


@pytest.mark.parametrize("named", ["style-paper-cut", "Paper Cut", " paper-CUT"])
async def test_a_style_is_named_by_its_id_or_its_title(stage: Stage, sandbox: SandboxProvider, named: str) -> None:
    dispatcher = stage.core.parts.dispatchers["krea"]
    provider: Any = dispatcher.provider
    styles = stage.core.service.styles
    await StyleReader(styles, provider, stage.core.store, breaker=dispatcher.breaker).read()
    assert len(styles) == len(sandbox.styles)
    card = await stage.imagine(model=FLUX, style=named)
    await stage.until_says(card, "Completed", seconds=20)
    assert sandbox.orders[0].body["styles"] == [{"id": "style-paper-cut", "strength": 1.0}]


async def test_a_style_that_only_the_provider_can_judge_is_left_to_it(stage: Stage, sandbox: SandboxProvider) -> None:
    card = await stage.imagine(model=FLUX, style="nobody-knows")
    await stage.until_says(card, "Failed", "no such style", "not charged", seconds=20)
    assert sandbox.bill_usd_micros == 0
    sandbox.styles.append({"id": "nobody-knows"})
    card = await stage.imagine(model=FLUX, style="nobody-knows")
    await stage.until_says(card, "Completed", seconds=20)


@pytest.mark.parametrize(
    ("plan", "sentence"),
    [
        (Plan(ending=Ending.FAILED), "Failed"),
        (Plan(ending=Ending.MODERATED), job_card.PROMPT_HIDDEN()),
        (Plan(trouble=Trouble(status=422, body={"error": "not supported"})), "Failed"),
        (Plan(trouble=Trouble(status=402, body={"error": "Insufficient balance"})), "temporarily unavailable"),
    ],
    ids=["failed", "moderated", "refused", "no balance"],
)
async def test_what_a_provider_fails_or_refuses_is_not_charged(
    stage: Stage, sandbox: SandboxProvider, plan: Plan, sentence: str
) -> None:
    sandbox.next_order(plan)
    card = await stage.imagine(model=FLUX)
    await stage.until_says(card, "Failed", "not charged", sentence, seconds=20)
    assert (await stage.balance()).available_usd_micros == 1_000_000
    assert sandbox.bill_usd_micros == 0


async def test_an_order_whose_answer_was_lost_is_found_again_and_paid_once(
    stage: Stage, sandbox: SandboxProvider
) -> None:
    sandbox.next_order(Plan(trouble=LOST_ANSWER))
    card = await stage.imagine(model=FLUX)
    await stage.until_says(card, "Completed", seconds=20)
    assert len(sandbox.orders) == 1
    assert (await stage.balance()).spent_usd_micros == sandbox.bill_usd_micros == 7_000


async def test_a_job_is_cancelled_at_the_provider(stage: Stage, sandbox: SandboxProvider) -> None:
    sandbox.next_order(Plan(ending=Ending.NEVER, words=(("processing", 0.0),)))
    card = await stage.imagine(model=FLUX)
    await stage.until_says(card, "Processing", seconds=20)
    assert stage.said(await stage.press(stage.ada, card, "Cancel")).text == job_card.CANCEL_ASKED()
    await stage.until_says(card, "Cancelled", "not charged", seconds=20)
    assert sandbox.bill_usd_micros == 0


@pytest.mark.hostile("G-32")
async def test_of_a_batch_only_the_usable_images_are_charged_and_the_card_says_how_many(
    stage: Stage, sandbox: SandboxProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "RESULT_ATTEMPTS", 2)
    gone, made = "{base}/pictures/nothing-{id}.png", "{base}/pictures/{id}.png"
    sandbox.next_order(Plan(urls=(made, gone)), Plan(file_trouble=FileTrouble.HTML), Plan(ending=Ending.FAILED), Plan())
    card = await stage.imagine(model=FLUX, count=4)
    text = await stage.until_says(card, "Completed · 2 of 4 done", seconds=60)
    assert "2 of 4 failed, not charged" in text
    assert job_card.NOT_FETCHED(1) in text
    assert "cost **$0.014** · $0.986 left" in text
    assert (len(card.files), len(card.gallery)) == (2, 2)
    assert (await stage.balance()).spent_usd_micros == 14_000
    assert sandbox.bill_usd_micros == 21_000, "the unusable one is the operator's cost"
    await stage.core.end()  # or the unusable one is looked for again until its deadline


COMMANDS = {JobKind.IMAGINE: "imagine", JobKind.EDIT: "edit", JobKind.UPSCALE: "edit"}
BY_VENDOR = groupby(
    sorted(contracts().values(), key=lambda each: each.path), key=lambda each: each.path.rsplit("/", 1)[0]
)


@pytest.mark.parametrize("routes", [pytest.param(list(routes), id=vendor) for vendor, routes in BY_VENDOR])
async def test_every_documented_field_reaches_the_provider_by_slash_command(
    stage: Stage, sandbox: SandboxProvider, routes: list[Contract], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(shelf, "_drawn", small_image)  # or drawing them takes longer than everything else
    sandbox.styles += [{"id": f"style-{number}"} for number in range(10)]
    for contract in routes:
        model = next(model for model in CATALOGUE.models if model.path == contract.path)
        catalogue = overridden({"prices": {model.id: "0.01"}}, tmp_path=tmp_path)
        monkeypatch.setattr(stage.core.service, "catalogue", catalogue)
        with_sides = "width" in contract.fields
        reached = {"aspect_ratio"} if with_sides else set[str]()  # one excludes the other
        for kind in filter(model.supports, JobKind):
            usual = model.field_for(ImageRole.REFERENCE if kind is JobKind.IMAGINE else ImageRole.SOURCE)
            order = every_field(contract, kind, usual_field=usual.name if usual else "", with_sides=with_sides)
            reached |= await _reached(stage, sandbox, contract, model.id, order)
        assert reached >= contract.fields.keys()


async def _reached(
    stage: Stage, sandbox: SandboxProvider, contract: Contract, model_id: str, order: EveryField
) -> set[str]:
    """Order by slash command, compare what arrived with what was typed, and return the fields that did."""
    more = ", ".join(f"{name}={value}" for name, value in order.more.items())
    images = dict.fromkeys(order.attached, ("fox.png", PNG))
    with stage.core.providers_wait():
        result = await stage.ada.slash(
            stage.channel, COMMANDS[order.kind], prompt="a lighthouse", model=model_id, more=more, **images
        )
    await stage.until_says(stage.ordered(result), "Completed", "cost **$0.01**", seconds=20)
    body = sandbox.orders[-1].body
    assert contract.problems(body) == []
    for name, value in order.wanted.items():
        assert _without_addresses(body[name]) == value or not _has_values(contract, name), (contract.path, name)
    return set(body)


def _has_values(contract: Contract, name: str) -> bool:
    return not is_image(contract.fields[name]) or bool(parts_of(contract.fields[name]))


def _without_addresses(value: Any) -> Any:
    elements = cast("list[Any]", value) if isinstance(value, list) else []
    if not all(isinstance(element, dict) for element in elements) or not elements:
        return value
    return [{key: part for key, part in element.items() if "url" not in key} for element in elements]
