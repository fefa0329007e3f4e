"""The images in the README, taken from the running demo: `make screenshots`. Needs Chromium."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.async_api import FloatRect, Locator, Page, async_playwright, expect

from sandbox.demo import Demo, running_demo
from sandbox.discord.world import Channel, Member
from sandbox.plans import Plan, Trouble

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"
PROMPT = "a red fox in a snowy forest at night, northern lights"
ARGUMENTS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
MARGIN = 8
BUSY = Trouble(status=429, headers={"Retry-After": "6"})


async def main() -> int:
    """Run through the demo and save a screenshot of each scene."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        print("There is no Chromium here. On Debian and Ubuntu: apt-get install chromium", file=sys.stderr)
        return 1
    IMAGES.mkdir(parents=True, exist_ok=True)
    async with running_demo() as demo, async_playwright() as playwright:
        with TemporaryDirectory() as profile:
            browser = await playwright.chromium.launch_persistent_context(
                profile,
                executable_path=chromium,
                args=ARGUMENTS,
                viewport={"width": 1180, "height": 940},
                device_scale_factor=1.5,
                color_scheme="dark",
            )
            page = browser.pages[0]
            await page.goto(demo.url)
            await expect(page.locator("#status")).to_have_text("live")
            await _play(demo, page)
            await browser.close()
    return 0


async def _play(demo: Demo, page: Page) -> None:
    demo.provider.next_order(Plan(trouble=BUSY))
    await _command(page, "imagine", PROMPT)
    card = page.locator(".message").last
    await expect(card).to_contain_text("Queued")
    await _keep(card, "queued")
    await expect(card).to_contain_text("Processing", timeout=30_000)
    await _keep(card, "processing")
    await expect(card).to_contain_text("Completed", timeout=60_000)
    await _settled(card)
    await _keep(card, "completed")
    await _command(page, "imagine", "a lighthouse by a stormy sea, watercolour")
    await expect(page.locator(".message", has_text="Completed")).to_have_count(2, timeout=60_000)
    await _settled(card)
    await _command(page, "usage")
    private = page.locator(".message.mine-only").last
    await expect(private).to_contain_text("Your usage")
    await _keep(private, "usage")
    await page.locator("#people").get_by_text("Mona").click()
    await expect(page.locator("#self")).to_contain_text("Mona")
    await _command(page, "settings show")
    await expect(private).to_contain_text("Server settings")
    await _keep(private, "settings")
    await private.get_by_text("Dismiss message").click()
    await page.locator("#composer .line textarea").fill("/quota r")  # a few, so that they do not cover the image
    await expect(page.locator("#picker button").first).to_be_visible()
    await _settled(card)
    await page.screenshot(path=IMAGES / "demo.png", animations="disabled")
    await page.locator("#composer .line textarea").fill("")
    await _compare_and_review(demo, page)


async def _compare_and_review(demo: Demo, page: Page) -> None:
    """Show a comparison, and an image that waits for a moderator."""
    [server] = demo.discord.world.servers.values()
    people = {member.name: member for member in server.members.values()}
    places = {channel.name: channel for channel in server.channels}
    studio = places["studio"]
    await page.set_viewport_size({"width": 1180, "height": 1700})  # a comparison is taller than the others
    await demo.discord.slash(
        people["Ben"],
        studio,
        "compare",
        prompt="a balloon over the alps at sunrise",
        model1="krea/google/nano-banana-2",
        model2="krea/bfl/flux-1-dev",
    )
    card = page.locator(".message").last
    await expect(card).to_contain_text("2 of 2 done", timeout=60_000)
    await _settled(card)
    await _keep(card, "comparison")
    rule = await demo.discord.slash(
        people["Mona"], studio, "settings review", action="add", channel=studio, review_channel=places["desk"]
    )
    await demo.discord.world.feed.until(
        lambda: rule.answer is not None, timeout_seconds=30, what=lambda: "the settings were not answered"
    )
    await demo.discord.slash(people["Ben"], studio, "imagine", prompt="a dragon above the harbour")
    await expect(page.locator(".message").last).to_contain_text("Waiting for review", timeout=60_000)
    await page.locator("nav").get_by_text("desk").first.click()
    question = page.locator(".message").last
    await expect(question).to_contain_text("Approve", timeout=30_000)
    await _settled(question)
    await _keep(question, "review")
    await page.locator("nav").get_by_text("studio").first.click()
    await expect(page.locator(".message").last).to_contain_text("Waiting for review")
    await _four_in_another_language(demo, page, people, places)


async def _four_in_another_language(
    demo: Demo, page: Page, people: Mapping[str, Member], places: Mapping[str, Channel]
) -> None:
    """Show four images of one order in German, and the report of what was spent with its chart."""
    await demo.discord.slash(people["Mona"], places["gallery"], "settings language", language="de")
    await page.locator("nav").get_by_text("gallery").first.click()
    for who, prompt, count in (
        ("Ben", "a robot watering flowers", 2),
        ("Alice", "an owl on a branch in the rain", 3),
        ("Ben", "a cat on a roof at night", 4),
    ):
        order = await demo.discord.slash(
            people[who], places["gallery"], "imagine", prompt=prompt, model="krea/bfl/flux-1-dev", count=count
        )
        await order.wait_for("Fertig")
    card = page.locator(".message").last
    await expect(card.locator(".picture img.here")).to_have_count(4, timeout=20_000)
    await _keep(card, "four")
    report = await demo.discord.slash(people["Mona"], places["gallery"], "quota report", period="day")
    await report.wait_for("Spending today", timeout_seconds=60)
    shown = page.locator(".message.mine-only").last
    await _settled(shown)
    await _keep(shown, "report")


async def _command(page: Page, name: str, prompt: str = "") -> None:
    await page.locator("#composer .line textarea").fill("/" + name)
    await expect(page.locator("#picker button").first).to_contain_text("/" + name)
    await page.keyboard.press("Enter")
    await page.keyboard.type(prompt)
    await page.keyboard.press("Enter")


async def _settled(card: Locator) -> None:
    """Wait until the image itself is drawn."""
    await expect(card.locator(".picture img.here").first).to_be_visible(timeout=20_000)


async def _keep(scene: Locator, name: str) -> None:
    # The page redraws a message at each change, so the screenshot is cut out of the page; new messages slide in.
    # Images fade in.
    await scene.evaluate(
        """node => Promise.allSettled([
            ...node.getAnimations(),
            ...node.getAnimations({subtree: true}).filter(animation => animation instanceof CSSTransition),
        ].map(animation => animation.finished))"""
    )
    pictures = scene.locator(".picture img")
    for number in range(await pictures.count()):
        await expect(pictures.nth(number)).to_have_css("opacity", "1")
    await scene.page.mouse.move(0, 0)  # away from the message, which shows its menu under the pointer
    box = await scene.bounding_box()
    assert box is not None
    clip = FloatRect(x=box["x"], y=box["y"] - MARGIN, width=box["width"], height=box["height"] + 2 * MARGIN)
    await scene.page.screenshot(path=IMAGES / f"{name}.png", clip=clip, animations="disabled")
    print(IMAGES / f"{name}.png")


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
