"""The demo as a user sees it: the whole bot, started by the demo, used through the page in a real browser."""

from __future__ import annotations

import io
import json
import re
import shutil
from collections.abc import AsyncIterator
from typing import Literal

import pytest
import pytest_asyncio
from PIL import Image
from playwright.async_api import Browser, Page, async_playwright, expect

from sandbox.demo import Demo, running_demo
from sandbox.plans import Plan
from tests.support.fakes import until

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), ""
)
QUIET = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"]

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),  # that of the browser
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="no Chromium on this machine: install the package `chromium`"),
]


@pytest_asyncio.fixture(loop_scope="module")
async def demo() -> AsyncIterator[Demo]:
    async with running_demo() as demo:
        yield demo
        assert demo.discord.unknown_routes == []


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    """Start the browser, which takes longer than most tests; each of them has a profile of its own."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--headless", "--no-sandbox", "--disable-gpu", *QUIET]
        )
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="module")
async def page(demo: Demo, browser: Browser) -> AsyncIterator[Page]:
    profile = await browser.new_context(viewport={"width": 1280, "height": 860})
    faults: list[str] = []
    page = await profile.new_page()
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("request", lambda request: faults.append(request.url) if "//127.0.0.1:" not in request.url else None)
    await page.goto(demo.url)
    await expect(page.locator("#status")).to_have_text("live")
    yield page
    await profile.close()
    assert [fault for fault in faults if not fault.startswith(("blob:", "data:"))] == []


def png() -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (300, 200), "teal").save(data, "PNG")
    return data.getvalue()


async def choose(page: Page, command: str) -> None:
    """Pick a slash command with the keyboard alone."""
    await page.locator("#composer .line textarea").fill("/" + command)
    await expect(page.locator("#picker button").first).to_contain_text("/" + command)
    await page.keyboard.press("Enter")


# The first states are too short for polling, so the page itself records every state it showed.
NOTE_STATES = """() => {
  window.shown = [];
  new MutationObserver(() => {
    const word = document.querySelector(".message:last-child")?.textContent.match(/Queued|Processing|Completed/)?.[0];
    if (word && word !== window.shown.at(-1)) window.shown.push(word);
  }).observe(document.querySelector("#messages"), { childList: true, subtree: true });
}"""


async def test_an_image_ordered_in_the_page_arrives_by_itself(page: Page) -> None:
    await expect(page.get_by_text("Welcome to the studio")).to_be_in_viewport()
    await page.evaluate(NOTE_STATES)
    await choose(page, "imagine")
    await page.keyboard.type("a lighthouse at dusk")
    await page.keyboard.press("Enter")

    card = page.locator(".message").last
    await expect(card).to_contain_text("Completed", timeout=40_000)
    assert await page.evaluate("window.shown") == ["Queued", "Processing", "Completed"]
    image = card.locator(".picture img.here")
    await expect(image).to_have_count(1)
    assert await image.evaluate("image => image.naturalWidth") > 256
    await expect(image).to_have_attribute("alt", "a lighthouse at dusk")
    await expect(page.locator(".message", has_text="/imagine")).to_have_count(2)  # the card, and the welcome message

    await choose(page, "history")
    await page.locator(".run").click()
    own = page.locator(".message.mine-only")
    await expect(own).to_contain_text("Your images · 1 of 1")
    await expect(own.locator(".picture img.here")).to_have_count(1)


async def test_an_uploaded_image_is_edited_and_usage_is_told_in_private(page: Page) -> None:
    await choose(page, "edit")
    async with page.expect_file_chooser() as chooser:
        await page.locator("[data-option=image] .pick").click()
    await (await chooser.value).set_files({"name": "in.png", "mimeType": "image/png", "buffer": png()})
    await page.locator("[data-option=prompt] textarea").fill("at night")
    await page.keyboard.press("Enter")
    await expect(page.locator(".message").last).to_contain_text("Completed", timeout=60_000)

    await choose(page, "usage")
    await page.keyboard.press("Enter")
    private = page.locator(".message.mine-only")
    await expect(private).to_contain_text("Only you can see this")
    await expect(private).to_contain_text("$0.08")
    await page.locator("#people").get_by_text("Ben").click()
    await expect(page.locator("#self")).to_contain_text("Ben")
    await expect(page.locator(".message.mine-only")).to_have_count(0)


async def test_the_model_is_completed_and_the_form_of_the_message_menu_is_filled_in(page: Page) -> None:
    await choose(page, "imagine")
    await page.keyboard.type("a fox")
    await page.keyboard.press("Tab")
    await page.get_by_role("option", name="model Which").click()
    await page.keyboard.type("flux 1 dev")
    await expect(page.locator("#picker button").first).to_contain_text("Flux 1 Dev")
    await page.keyboard.press("Enter")
    await page.keyboard.press("Enter")
    first = page.locator(".message").last
    await expect(first).to_contain_text("Completed", timeout=40_000)
    await expect(first).to_contain_text("Flux 1 Dev")

    photo = page.locator(".message", has_text="our harbour")
    await photo.hover()
    await photo.get_by_label("Apps for this message").click()
    await page.get_by_role("menuitem", name="Edit this image").click()
    await page.locator("dialog textarea[name=prompt]").fill("in winter")
    await page.locator("dialog").get_by_text("Submit").click()
    await expect(page.locator(".message").last).to_contain_text("in winter")
    await expect(page.locator(".message").last).to_contain_text("Completed", timeout=60_000)


async def test_a_member_who_sets_another_language_gets_answers_and_commands_in_it(page: Page) -> None:
    await page.get_by_label("Language").select_option("de")
    await expect(page.locator(".message time").first).to_have_text(re.compile(r"^\d\d:\d\d$"))  # no AM, no PM
    await choose(page, "imagine")
    await page.get_by_role("button", name=" more").click()
    await page.get_by_role("option", name="auflösung Wie groß es wird").click()
    await page.get_by_label("Cancel the command").click()
    await choose(page, "usage")
    await page.locator(".run").click()
    await expect(page.locator(".message.mine-only")).to_contain_text("Dein Verbrauch")
    await page.locator("#people").get_by_text("Ben").click()
    await expect(page.get_by_label("Language")).to_have_value("en-US")


async def test_only_the_moderator_is_offered_the_limits_and_sets_one(page: Page) -> None:
    field = page.locator("#composer .line textarea")
    await field.fill("/quota")
    await expect(page.locator("#picker")).to_contain_text("No such command")
    await page.locator("#people").get_by_text("Mona").click()
    await expect(page.locator("#self")).to_contain_text("Mona")
    await choose(page, "quota set")
    await page.keyboard.type("ben")
    await page.keyboard.press("Enter")
    await page.keyboard.type("2.50")
    await page.keyboard.press("Enter")
    await expect(page.locator(".message").last).to_contain_text("$2.50")

    await choose(page, "settings channels")
    for option, value in (("action", "Allow"), ("channel", "#gallery")):
        await page.get_by_role("button", name=" more").click()
        await page.get_by_role("option", name=option).first.click()
        await page.get_by_role("option", name=value).click()
    await page.get_by_label("Run the command").click()
    await expect(page.locator(".message").last).to_contain_text("Images can be ordered only in #gallery")
    await assert_readable(page)


async def test_a_moderator_cancels_a_job_and_says_why(demo: Demo, page: Page) -> None:
    demo.provider.next_order(
        Plan(words=(("processing", 600.0),))
    )  # the provider does not stop a job in the state "sampling"
    await choose(page, "imagine")
    await page.keyboard.type("a knight in the fog")
    await page.keyboard.press("Enter")
    card = page.locator(".message", has_text="a knight in the fog").first
    await expect(card).to_contain_text("Processing", timeout=40_000)
    await page.locator("#people").get_by_text("Mona").click()
    await expect(page.locator("#self")).to_contain_text("Mona")
    await choose(page, "jobs")
    await page.locator(".run").click()
    await page.locator(".message select").select_option(index=1)
    await page.locator("dialog input").fill("not during the contest")
    await page.locator("dialog").get_by_text("Submit").click()
    await expect(card).to_contain_text("Cancelled by a moderator: not during the contest", timeout=40_000)


async def test_the_keyboard_alone_orders_and_escape_keeps_what_was_typed(page: Page) -> None:
    await choose(page, "imagine")
    await page.keyboard.type("an owl in the rain")
    for _ in range(3):
        await page.keyboard.press("Escape")
    await expect(page.locator("[data-option=prompt] textarea")).to_have_value("an owl in the rain")
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("option", name="model Which")).to_be_visible()
    await page.keyboard.press("Escape")
    await page.keyboard.press("Enter")
    await expect(page.locator(".message").last).to_contain_text("Completed", timeout=40_000)

    await choose(page, "usage")
    await page.keyboard.press("Enter")
    await expect(page.locator(".message.mine-only")).to_contain_text("$0.08")
    await choose(page, "imagine")
    await page.keyboard.press("Backspace")  # nothing was typed, so the command goes
    await expect(page.get_by_label("Message", exact=True)).to_be_focused()


@pytest.mark.parametrize(
    ("command", "option", "typed", "said"),
    [
        ("imagine", "seed", "abc", "seed: 'abc' is not a whole number"),
        ("imagine", "seed", "1.5", "seed: 1.5 is not a whole number"),
        ("imagine", "seed", "9" * 30, "is out of range"),
        ("imagine", "count", "9", "count: 9 is out of range"),
        ("imagine", "private", "no", "private: 'no' is neither True nor False"),
        ("quota role", "role", "Server Booster", "role: 'Server Booster' is not in the list"),
        ("quota clear", "member", "@nobody", "member: '@nobody' is not in the list"),
    ],
)
async def test_what_discord_would_not_send_is_a_sentence_and_the_command_stays(
    page: Page, command: str, option: str, typed: str, said: str
) -> None:
    await page.locator("#people").get_by_text("Mona").click()
    await expect(page.locator("#self")).to_contain_text("Mona")
    await choose(page, command)
    given = {"imagine": {"prompt": "an owl"}, "quota role": {"amount": "5"}}.get(command, {})
    for name, value in given.items():
        await page.locator(f"[data-option={name}] :is(input, textarea)").fill(value)
    field = page.locator(f"[data-option={option}] :is(input, textarea)")
    if not await field.count():
        await page.get_by_role("button", name=" more").click()
        await page.get_by_role("option", name=re.compile(f"^{option} ")).click()
    await field.fill(typed)
    await page.get_by_label("Run the command").click()
    await expect(page.locator("#toasts")).to_contain_text(said)
    await expect(field).to_have_value(typed)
    for name, value in given.items():
        await expect(page.locator(f"[data-option={name}] :is(input, textarea)")).to_have_value(value)
    await expect(page.locator(".message", has_text=f"/{command}")).to_have_count(1 if command == "imagine" else 0)


# The contrast that WCAG asks for.
FAINT = """() => {
  const channels = (colour) => {
    const pixel = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    pixel.fillStyle = colour;
    pixel.fillRect(0, 0, 1, 1);
    return [...pixel.getImageData(0, 0, 1, 1).data];
  };
  const light = (colour) => {
    const linear = (c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    const [r, g, b] = colour.map((part) => linear(part / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const over = ([r, g, b, a], under) => [r, g, b].map((c, i) => (c * a + under[i] * (255 - a)) / 255);
  const ground = (node) => {
    if (!node) return channels("Canvas").slice(0, 3);
    const own = channels(getComputedStyle(node).backgroundColor);
    return own[3] === 255 ? own.slice(0, 3) : over(own, ground(node.parentElement));
  };
  const faint = [];
  for (const node of document.querySelectorAll("body *")) {
    const says = [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
    if (!says || !node.checkVisibility({ opacityProperty: true }) || node.closest(".avatar, :disabled")) continue;
    const under = ground(node);
    const [a, b] = [light(over(channels(getComputedStyle(node).color), under)), light(under)].sort((x, y) => y - x);
    const contrast = (a + 0.05) / (b + 0.05);
    const what = `${node.localName}.${node.className} ${node.textContent.slice(0, 30)}`;
    if (contrast < 4.5) faint.push(`${contrast.toFixed(1)} ${what}`);
  }
  return faint;
}"""


# What a finger would miss, and text under the button that lies over a message.
CROWDED = """() => {
  const shown = (selector) => [...document.querySelectorAll(selector)].filter((node) => node.checkVisibility());
  const says = (node) => `${node.localName}.${node.className} ${node.textContent.slice(0, 30)}`;
  const small = shown("button:not(.mention, .picture), select, dialog .field > input").filter((node) => {
    const { width, height } = node.getBoundingClientRect();
    return width < 40 || height < 40;
  });
  const covered = shown(".apps").filter((button) => {
    const over = button.getBoundingClientRect();
    const range = document.createRange();
    const texts = document.createTreeWalker(button.parentElement, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
      if (button.contains(texts.currentNode)) continue;
      range.selectNode(texts.currentNode);
      for (const box of range.getClientRects()) {
        const beside = box.right <= over.left || box.left >= over.right;
        if (!beside && box.bottom > over.top && box.top < over.bottom) return true;
      }
    }
    return false;
  });
  const broken = shown(".pill > span").filter((label) => label.getBoundingClientRect().height > 36);
  const pen = document.createElement("canvas").getContext("2d");
  const cut = shown(".line > textarea").filter((field) => {
    const { font, paddingLeft, paddingRight } = getComputedStyle(field);
    pen.font = font;
    const room = field.clientWidth - parseFloat(paddingLeft) - parseFloat(paddingRight);
    return pen.measureText(field.placeholder).width > room;
  });
  small.push(...broken, ...cut);
  return [...small.map((node) => `small: ${says(node)}`), ...covered.map((node) => `on: ${says(node.parentElement)}`)];
}"""


async def assert_readable(page: Page) -> None:
    for scheme in COLOUR_SCHEMES:
        await page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        assert await page.evaluate(FAINT) == [], scheme


COLOUR_SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")


@pytest.mark.parametrize("locale", ["en-US", "de", "ja"])
async def test_every_text_can_be_read_in_light_and_dark(page: Page, locale: str) -> None:
    await page.get_by_label("Language").select_option(locale)
    await assert_readable(page)
    await choose(page, "usage")
    await page.locator(".run").click()
    await expect(page.locator(".message.mine-only")).to_contain_text("$0.00")
    await choose(page, "imagine")
    await page.keyboard.type("a lighthouse at dusk")
    await page.keyboard.press("Enter")
    card = page.locator(".message").last
    await expect(card).to_contain_text("Completed", timeout=40_000)
    await page.get_by_label("Message", exact=True).fill("/")
    await assert_readable(page)
    await page.set_viewport_size({"width": 390, "height": 844})
    await choose(page, "imagine")
    assert await page.evaluate(CROWDED) == []
    await page.get_by_label("Cancel the command").click()
    assert await page.evaluate(CROWDED) == []
    await card.get_by_role("button", name="Remix").click()
    await expect(page.locator("dialog")).to_be_visible()
    await assert_readable(page)
    assert await page.evaluate(CROWDED) == []
    assert await page.evaluate("document.documentElement.scrollWidth") <= 390


async def test_credit_is_bought_in_the_shop_and_spent_after_the_quota(demo: Demo, page: Page) -> None:
    await choose(page, "usage")
    await page.locator(".run").click()
    own = page.locator(".message.mine-only")
    await expect(own).to_contain_text("$1.00")
    await own.get_by_text("Credit of $0.50 · $0.99").click()
    await expect(page.locator("dialog")).to_contain_text("no money changes hands")
    await page.locator("dialog").get_by_text("Cancel").click()
    assert demo.discord.world.entitlements == {}
    await own.get_by_text("Credit of $0.50 · $0.99").click()
    await page.locator("dialog").get_by_text("Buy for $0.99").click()
    await expect(page.locator("dialog")).to_have_count(0)
    [bought] = demo.discord.world.entitlements.values()
    await until(lambda: bought.consumed)
    await choose(page, "usage")
    await page.locator(".run").click()
    await expect(page.locator(".message.mine-only").last).to_contain_text("$0.50")

    [server] = demo.discord.world.servers.values()
    people = {member.name: member for member in server.members.values()}
    await demo.discord.slash(people["Mona"], server.channels[0], "quota set", member=people["Alice"], amount="0.10")
    for prompt in ("a lighthouse", "a harbour"):  # the second one is paid by both
        await choose(page, "imagine")
        await page.keyboard.type(prompt)
        await page.keyboard.press("Enter")
        card = page.locator(".message:not(.mine-only)", has_text=prompt).last
        await expect(card).to_contain_text("Completed", timeout=60_000)
    await choose(page, "usage")
    await page.locator(".run").click()
    await expect(page.locator(".message.mine-only").last).to_contain_text("$0.44")


async def test_what_no_button_sells_is_not_bought(demo: Demo, page: Page) -> None:
    message = await page.locator(".message").first.get_attribute("id")
    [me] = [person for person in demo.discord.world.users.values() if person.name == "Alice"]
    sku = next(iter(demo.discord.world.skus))
    body = json.dumps({"as": str(me.id), "channel": "", "message": str(message).removeprefix("m"), "sku": str(sku)})
    answer = await page.request.post(demo.url + "act/buy", multipart={"body": body})
    assert (answer.status, await answer.json()) == (400, {"error": "it is not for sale here"})
    assert demo.discord.world.entitlements == {}


async def test_an_order_at_a_busy_provider_waits_and_ends(page: Page) -> None:
    await choose(page, "imagine")
    await page.keyboard.type("a ferry [busy]")
    await page.keyboard.press("Enter")
    await expect(page.locator(".message").last).to_contain_text("Queued")
    await expect(page.locator(".message").last).to_contain_text("Completed", timeout=90_000)


async def test_the_page_fits_a_narrow_window(page: Page) -> None:
    await page.set_viewport_size({"width": 360, "height": 700})
    assert await page.evaluate("document.documentElement.scrollWidth") <= 360
    await page.get_by_label("Choose who you are").click()
    await page.locator("#people").get_by_text("Ben").click()
    await page.get_by_label("Show channels").click()
    await expect(page.locator("#self")).to_contain_text("Ben")
    await page.locator("#channels").get_by_text("gallery").click()
    await expect(page.locator("#channel-name")).to_have_text("#gallery")
    await choose(page, "compare")
    await page.keyboard.press("Enter")
    await expect(page.locator("#toasts")).to_contain_text("prompt is required")
    said = await page.locator("#toasts p").bounding_box()
    typed = await page.locator("#composer .line").bounding_box()
    assert said is not None
    assert typed is not None
    assert said["y"] + said["height"] < typed["y"], "what is wrong does not cover what was typed"


async def test_a_page_of_another_origin_can_neither_read_nor_act(demo: Demo, page: Page) -> None:
    answer = await page.request.get(demo.url + "live", headers={"Origin": "http://evil.example"})
    assert answer.status == 403
    answer = await page.request.post(
        demo.url + "act/message", multipart={"body": "{}"}, headers={"Host": "evil.example"}
    )
    assert answer.status == 403


async def test_moderators_see_an_image_first_and_a_spoiler_is_uncovered_by_a_click(demo: Demo, page: Page) -> None:
    world = demo.discord.world
    [server] = world.servers.values()
    people = {member.name: member for member in server.members.values()}
    studio, desk = (next(channel for channel in server.channels if channel.name == name) for name in ("studio", "desk"))
    for command, options in (
        ("settings review", {"action": "add", "channel": studio, "review_channel": desk}),
        ("settings spoilers", {"action": "add", "channel": studio}),
    ):
        await demo.discord.slash(people["Mona"], studio, command, **options)
    await choose(page, "imagine")
    await page.keyboard.type("a dragon above the harbour")
    await page.keyboard.press("Enter")
    card = page.locator(".message").last
    await expect(card).to_contain_text("Waiting for review", timeout=60_000)
    await expect(card.locator(".picture")).to_have_count(0)
    await page.locator("nav").get_by_text("desk").first.click()
    question = page.locator(".message").last
    await expect(question.locator(".picture.covered")).to_have_count(1, timeout=30_000)
    await page.locator("#people").get_by_text("Mona").click()
    await expect(page.locator("#self")).to_contain_text("Mona")
    await question.get_by_text("Approve").click()
    await expect(question).to_contain_text("Approved by", timeout=30_000)
    await page.locator("nav").get_by_text("studio").first.click()
    await expect(card).to_contain_text("Completed", timeout=30_000)
    image = card.locator(".picture")
    await expect(image).to_have_class(re.compile("covered"))
    await image.click()
    await expect(image).not_to_have_class(re.compile("covered"))
    await expect(page.locator("dialog.lightbox")).to_have_count(0)
    await image.click()
    await expect(page.locator("dialog.lightbox")).to_have_count(1)
