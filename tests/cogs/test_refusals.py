"""A refusal gives back what was typed, and offers what would be possible instead, with its price."""

from __future__ import annotations

import time
from typing import Any

import pytest

from bot.domain.errors import StoreError
from bot.domain.jobs import FailureReason
from bot.service.job_service import JobService
from cogs.generate.ordering.order import Order
from cogs.generate.refused.kept_orders import KEPT_SECONDS, MAX_KEPT, MAX_PER_MEMBER, KeptOrders
from cogs.text import refusals
from tests.support.catalogue_samples import FLUX, PIXAZO_LARGE
from tests.support.discord_stage import Card, Stage
from tests.support.image_samples import image

PNG = image("PNG")
NANO = "krea/google/nano-banana-2"
LARGE = "krea/krea/krea-2/large"
DEAR = "krea/google/nano-banana-pro"


async def refused(stage: Stage, **options: Any) -> Card:
    card = await stage.imagine(**options)
    assert card.private
    return card


async def test_a_refused_command_comes_back_whole_and_the_prompt_alone_on_request(stage: Stage) -> None:
    card = await refused(stage, prompt="a red fox, 35 mm", model=FLUX, resolution="8K", count=2)
    assert f"/imagine prompt: a red fox, 35 mm model: {FLUX} resolution: 8K count: 2" in card.text
    copied = stage.said(await stage.press(stage.ada, card, "Copy prompt"))
    assert copied.private
    assert copied.text == "```\na red fox, 35 mm\n```"
    await stage.assert_nothing_reserved()


async def test_a_command_too_long_for_a_message_comes_back_as_a_file(stage: Stage) -> None:
    prompt = "`fox` " * 990
    card = await refused(stage, prompt=prompt, model=FLUX, resolution="8K")
    assert card.file().decode() == f"/imagine prompt: {prompt} model: {FLUX} resolution: 8K"
    copied = stage.said(await stage.press(stage.ada, card, "Copy prompt"))
    assert copied.file().decode() == prompt


LONG = "with soft light from the left"


@pytest.mark.parametrize(
    ("command", "options", "line"),
    [
        ("preset add", {"name": "mine", "options": "steps=many", "after": LONG, "model": FLUX}, f"after: {LONG}"),
        ("preset add", {"name": " ", "after": LONG}, f"after: {LONG}"),
        (
            "preset add",
            {"name": "bad", "options": "steps=abc", "model": FLUX},
            f"name: bad options: steps=abc model: {FLUX}",
        ),
        ("quota set", {"member": "@ada", "amount": "five", "reason": LONG}, f": @ada amount: five reason: {LONG}"),
        ("quota role", {"role": "@artists", "amount": "x", "reason": LONG}, f"role: @Artists amount: x reason: {LONG}"),
        ("quota clear", {"reason": LONG}, f"/quota clear reason: {LONG}"),
        ("settings words", {"action": "add", "words": f"{LONG}, *"}, f"words: {LONG}, *"),
        ("imagine", {"prompt": " ", "more": "guidance_scale=3.5, steps=28"}, "more: guidance_scale=3.5, steps=28"),
    ],
)
async def test_every_command_gives_back_a_text_that_took_some_effort(
    stage: Stage, command: str, options: dict[str, Any], line: str
) -> None:
    cast = {"@ada": stage.ada, "@artists": stage.artists}
    given = {name: cast.get(value, value) for name, value in options.items()}
    card = stage.said(await stage.mo.slash(stage.channel, command, **given))
    assert card.private
    assert line in card.text
    assert "Copy prompt" not in card.buttons, "there is none"
    assert len(stage.env.errors) <= 1


async def test_a_short_command_is_not_given_back(stage: Stage) -> None:
    card = stage.said(await stage.mo.slash(stage.channel, "quota default", amount="five"))
    assert "```" not in card.text


async def test_one_change_makes_the_order_possible_at_the_price_on_the_button(stage: Stage) -> None:
    card = await refused(stage, model=FLUX, resolution="2K")
    label = next(name for name in card.buttons if name.startswith("Order without"))
    assert label == "Order without resolution · $0.007"
    ordered = stage.ordered(await stage.press(stage.ada, card, label))
    await stage.until_says(ordered, "Completed", "cost **$0.007**")
    assert [(job.request.model_id, dict(job.request.options)) for job in await stage.jobs()] == [(FLUX, {})]
    assert (await stage.balance()).spent_usd_micros == 7_000


async def test_a_model_that_takes_everything_as_it_is_is_offered_too(stage: Stage) -> None:
    card = await refused(stage, model=FLUX, resolution="2K")
    assert "Order with Nano Banana 2 · $0.12" in card.buttons
    ordered = stage.ordered(await stage.press(stage.ada, card, "Order with Nano"))
    await stage.until_says(ordered, "Completed", "2K")


async def test_an_unknown_model_is_replaced_by_the_one_that_was_meant(stage: Stage) -> None:
    card = await refused(stage, model="krea/google/nano-bananas-2")
    assert "Order with Nano Banana 2 · $0.08" in card.buttons


async def test_fewer_images_are_offered_when_the_quota_does_not_pay_for_all(stage: Stage) -> None:
    await stage.quota("set", member=stage.ada, amount="0.20")
    card = await refused(stage, count=4)
    assert "Order 2 images · $0.16" in card.buttons
    ordered = stage.ordered(await stage.press(stage.ada, card, "Order 2 images"))
    await stage.until_says(ordered, "Completed", "2 of 2 done")
    assert (await stage.balance()).spent_usd_micros == 160_000


@pytest.fixture
async def costly(stage: Stage) -> Stage:
    """Return a stage where an order of Ada's has failed at the operator's cost of $0.06, of $0.25 a day."""
    stage.core.pixazo.waits = True
    card = await stage.imagine(model=PIXAZO_LARGE)
    await stage.until_says(card, "Processing")
    stage.core.pixazo.fails(FailureReason.PROVIDER_FAILED, may_be_charged=True)
    await stage.until_says(card, "Failed")
    return stage


async def test_fewer_images_are_offered_when_all_could_cost_the_operator_too_much(costly: Stage) -> None:
    card = await refused(costly, count=4)
    assert "Some of your orders failed today" in card.text
    assert not any("Try again" in label for label in card.buttons), "it would be refused as well"
    ordered = costly.ordered(await costly.press(costly.ada, card, "Order 3 images · $0.24"))
    await costly.until_says(ordered, "Completed", "3 of 3 done")


async def test_an_image_that_only_has_to_wait_for_others_can_be_tried_again(costly: Stage) -> None:
    costly.core.krea.waits = True
    for _ in range(2):
        await costly.imagine(model=DEAR)
    card = await refused(costly)
    assert "Some of your orders failed today" in card.text
    assert "Try again · $0.08" in card.buttons


async def test_nothing_is_offered_that_the_member_could_not_order_either(stage: Stage) -> None:
    await stage.quota("set", member=stage.ada, amount="0")
    card = await refused(stage)
    assert list(card.buttons) == ["Copy prompt"]


async def test_what_moderators_do_not_allow_is_not_offered(stage: Stage) -> None:
    await stage.settings("models", action="deny", model=NANO)
    card = await refused(stage, model=FLUX, resolution="2K")
    assert not any("Nano Banana 2 ·" in label for label in card.buttons)
    await stage.settings("words", action="add", words="fox")
    assert list((await refused(stage)).buttons) == ["Copy prompt"]


async def test_a_button_of_a_refusal_is_checked_like_any_order(stage: Stage) -> None:
    card = await refused(stage, model=FLUX, resolution="2K")
    await stage.quota("block", member=stage.ada)
    answer = stage.said(await stage.press(stage.ada, card, "Order without"))
    assert refusals.MEMBER_BLOCKED() in answer.text
    assert "a red fox" in answer.text
    await stage.assert_nothing_reserved()


async def test_attached_images_are_ordered_again_from_the_refusal(stage: Stage) -> None:
    card = await stage.edit(image=("fox.png", PNG), model="krea/bfl/flux-1-kontext-dev", resolution="4K")
    assert "image: fox.png" in card.text
    ordered = stage.ordered(await stage.press(stage.ada, card, "Order without resolution"))
    await stage.until_says(ordered, "Completed", "1 image given")


async def test_only_as_many_images_as_the_model_takes_are_offered(stage: Stage) -> None:
    card = await stage.edit(model="krea/bfl/flux-1-kontext-dev", image=("a.png", PNG), image2=("b.png", PNG))
    assert any(label.startswith("Order with the first image · $") for label in card.buttons)


async def test_an_order_that_the_database_could_not_take_can_be_tried_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise StoreError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(JobService, "admit", broken)
        card = await refused(stage)
    assert card.text.startswith(refusals.BOOKS_UNAVAILABLE())
    ordered = stage.ordered(await stage.press(stage.ada, card, "Try again · $0.08"))
    await stage.until_says(ordered, "Completed")


async def test_a_price_that_has_risen_is_asked_about_first(stage: Stage) -> None:
    card = await refused(stage, model=FLUX, resolution="2K")
    custom_id = next(value for label, value in card.buttons.items() if label.startswith("Order without"))
    cheap = custom_id.rpartition(":")[0] + ":1000"
    card.stored.components[0]["components"][-1]["components"][0]["custom_id"] = cheap
    asked = stage.said(await stage.ada.click(card.message, custom_id=cheap))
    assert list(asked.buttons) == ["Order · $0.007", "Copy prompt"]
    await stage.assert_nothing_reserved()
    await stage.until_says(stage.ordered(await stage.press(stage.ada, asked, "Order · $0.007")), "Completed")


async def test_after_a_restart_the_command_is_still_in_the_message(stage: Stage) -> None:
    card = await refused(stage, model=FLUX, resolution="2K")
    await stage.restart()
    for label in ("Copy prompt", "Order without"):
        assert stage.said(await stage.press(stage.ada, card, label)).text == refusals.NOT_KEPT()
    assert "/imagine prompt: a red fox" in card.text


def test_few_refused_commands_are_kept_for_a_short_time() -> None:
    now = time.monotonic()
    kept = KeptOrders(clock=lambda: now)
    order: tuple[Order, ...] = ()
    own = [kept.keep(user_id=1, typed=None, orders=order) for _ in range(MAX_PER_MEMBER + 1)]
    assert [kept.find(key, user_id=1) is not None for key in own] == [False] + [True] * MAX_PER_MEMBER
    assert kept.find(own[-1], user_id=2) is None
    for user_id in range(2, MAX_KEPT + 2):
        kept.keep(user_id=user_id, typed=None, orders=order)
    assert kept.find(own[-1], user_id=1) is None
    last = kept.keep(user_id=1, typed=None, orders=order)
    now += KEPT_SECONDS + 1
    assert kept.find(last, user_id=1) is None


def test_what_is_kept_of_a_member_is_forgotten_with_their_data() -> None:
    kept = KeptOrders()
    key = kept.keep(user_id=1, typed=None, orders=())
    kept.forget(1)
    assert kept.find(key, user_id=1) is None


TWO_SIZES = {"prompt": "a red fox", "more": "width=1024, height=768"}
"""Krea 2 takes neither."""


async def test_options_that_the_model_does_not_take_are_left_out_together(stage: Stage) -> None:
    card = await refused(stage, model=LARGE, **TWO_SIZES)
    assert list(card.buttons) == [
        "Order without width, height · $0.06",
        "Order with Nano Banana 2 · $0.08",
        "Copy prompt",
    ]
    await stage.until_says(stage.ordered(await stage.press(stage.ada, card, "Order without")), "Completed", "**$0.06**")
    assert not {"width", "height"} & stage.core.krea.orders[-1].body.keys()
    await stage.until_says(stage.ordered(await stage.press(stage.ada, card, "Order with Nano")), "Completed", "$0.08")
    sizes = {name: stage.core.krea.orders[-1].body[name] for name in ("width", "height")}
    assert sizes == {"width": 1024, "height": 768}, "numbers, which Krea 2 had no field for"


async def test_a_refused_form_gives_back_the_prompt_and_offers_what_is_possible(stage: Stage) -> None:
    card = await stage.imagine(model=LARGE)
    await stage.until_says(card, "Completed")
    for form, line in (("Remix", "prompt: a red fox more: width=1024, height=768"), ("Edit", "prompt: a red fox")):
        shown = await stage.press(stage.ada, card, form)
        answer = stage.said(await stage.ada.submit_modal(shown, {**TWO_SIZES, "model": [LARGE]}))
        assert line in answer.text
        assert next(iter(answer.buttons)) == "Order without width, height · $0.06"
        copied = stage.said(await stage.press(stage.ada, answer, "Copy prompt"))
        assert copied.text == "```\na red fox\n```"


@pytest.mark.parametrize("kind", ["channel", "word", "model", "blocked", "running", "pace", "quota", "server cap"])
async def test_a_refusal_of_every_kind_gives_the_prompt_back(stage: Stage, kind: str) -> None:
    nothing: list[str] = []
    offered = nothing
    match kind:
        case "channel":
            await stage.settings("channels", action="deny", channel=stage.channel)
        case "word":
            await stage.settings("words", action="add", words="fox")
        case "model":
            await stage.settings("models", action="deny", model=NANO)
            offered = ["Order with Flux 1 Dev · $0.007"]
        case "blocked":
            await stage.quota("block", member=stage.ada)
        case "running":
            stage.core.krea.waits = True
            await stage.imagine(count=3)
            offered = ["Try again · $0.08"]
        case "pace":
            limiter = stage.core.service._attempt_limiter
            limiter.note(stage.ada.id, limiter._limit)
        case "quota":
            await stage.quota("set", member=stage.ada, amount="0.05")
            offered = ["Order with Flux 1 Dev · $0.007"]
        case _:
            await stage.quota("server", amount="0.05")
            offered = ["Order with Flux 1 Dev · $0.007"]
    card = await refused(stage, prompt="a red fox, 35 mm")
    assert "/imagine prompt: a red fox, 35 mm" in card.text
    assert list(card.buttons) == [*offered, "Copy prompt"]
    copied = stage.said(await stage.press(stage.ada, card, "Copy prompt"))
    assert copied.text == "```\na red fox, 35 mm\n```"


@pytest.mark.parametrize(("strength", "needs"), [("style_strength", "style"), ("reference_strength", "reference")])
async def test_a_strength_without_what_it_is_of_says_what_it_needs_and_offers_the_order_without_it(
    stage: Stage, strength: str, needs: str
) -> None:
    card = await refused(stage, model=FLUX, more=f"{strength}=0.5")
    assert card.reason.startswith(f"`{strength}` needs `{needs}`: ")
    ordered = stage.ordered(await stage.press(stage.ada, card, f"Order without {strength} · $0.007"))
    await stage.until_says(ordered, "Completed", "Flux 1 Dev")


async def test_the_strength_of_a_moodboard_needs_a_moodboard(stage: Stage) -> None:
    card = await refused(stage, model=LARGE, more="moodboard_strength=0.4")
    assert card.reason.startswith("`moodboard_strength` needs `moodboard`: ")
    assert "Order without moodboard_strength · $0.06" in card.buttons
