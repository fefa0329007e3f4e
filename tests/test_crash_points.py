"""Killed everywhere: before and after every crossing of a border, and the next start brings each command to its end."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from sandbox.discord import Interaction
from sandbox.plans import How, Plan, Trouble
from tests.crashes import PROJECT, SIX_MINUTES, Nursery, World, a_file, audit, seen, world
from tests.crashing_bot import SQL, crash_points

KILLED = -9
TWENTY_MINUTES = 1200.0


@dataclass(frozen=True, kw_only=True)
class Story:
    """What members do, and the points that it passes first."""

    act: Callable[[World], Awaitable[None]]
    reaches: tuple[str, ...]
    settings: dict[str, str] = field(default_factory=dict[str, str])
    down_seconds: float = SIX_MINUTES


# -- what members do ----------------------------------------------------------------------------------------


async def told(here: World, story: Story) -> None:
    """Let it happen, until the bot has answered or died."""
    await story.act(here)
    await seen(here, lambda: all(one.answer is not None or one.failed for one in here.discord.interactions))


async def imagine(here: World, prompt: str, **options: Any) -> Interaction:
    return await here.discord.slash(here.member, here.channel, "imagine", prompt=prompt, **options)


async def order_a_picture(here: World) -> None:
    await imagine(here, "a lighthouse")


async def order_from_pixazo(here: World) -> None:
    await imagine(here, "a ferry", model="pixazo/krea-2-large")


async def order_a_pair(here: World) -> None:
    await imagine(here, "two gulls", count=2)


async def edit_a_picture(here: World) -> None:
    await here.discord.slash(here.member, here.channel, "edit", prompt="at night", image=a_file())


async def edit_what_the_provider_cannot_read_at_first(here: World) -> None:
    here.provider.next_order(Plan(trouble=Trouble(status=422, body={"error": "Invalid asset URL"})))
    await edit_a_picture(here)


async def cancel_while_it_is_made(here: World) -> None:
    here.provider.next_order(Plan(seconds_factor=15))
    order = await imagine(here, "a storm")
    if await seen(here, lambda: "Processing" in order.text) and order.reply is not None:
        await here.discord.click(here.member, order.reply, "Cancel")


async def cancel_while_it_waits(here: World) -> None:
    here.provider.next_order(Plan(seconds_factor=15))
    first = await imagine(here, "a slow tide")
    second = await imagine(here, "a sail")
    if await seen(here, lambda: "Processing" in first.text and second.reply is not None) and second.reply is not None:
        await here.discord.click(here.member, second.reply, "Cancel")


async def order_what_is_refused(here: World) -> None:
    await imagine(here, "[refuse] a reef")


async def order_when_the_answer_gets_lost(here: World) -> None:
    await imagine(here, "[lost] a wreck")


async def order_when_the_provider_is_busy(here: World) -> None:
    here.provider.next_order(Plan(trouble=Trouble(status=429, headers={"Retry-After": "1"})))
    await imagine(here, "busy harbour")


async def order_in_private(here: World) -> None:
    """The token dies at once, so the picture goes as a direct message."""
    order = await imagine(here, "a secret cove", private=True)
    if await seen(here, lambda: order.answer is not None):
        order.opened_at -= TWENTY_MINUTES


async def moderate(here: World) -> None:
    for command, options in (
        ("quota set", {"member": here.member, "amount": "2"}),
        ("quota grant", {"member": here.member, "amount": "1"}),
        ("quota reset", {"member": here.member}),
        ("quota block", {"member": here.member}),
    ):
        interaction = await here.discord.slash(
            here.moderator, here.channel, command, overridden=True, reason="storm", **options
        )
        if not await seen(here, lambda sent=interaction: sent.answer is not None):
            return


STORIES = {
    "imagine": Story(
        act=order_a_picture,
        reaches=(
            "store.remember",
            "store.admit",
            "answer.show",
            "store.accept",
            "store.begin_submission",
            "krea.submit",
            "store.mark_running",
            "krea.fetch",
            "pictures.put",
            "store.succeed",
            "messages.edit",
            "store.set_delivery",
        ),
    ),
    "pixazo": Story(
        # It has no list: an order that nobody confirms is given up at its deadline, at the cost of the house.
        act=order_from_pixazo,
        reaches=("pixazo.submit", "pixazo.fetch"),
        down_seconds=3 * 3600,
    ),
    "pair": Story(act=order_a_pair, reaches=()),
    "edit": Story(act=edit_a_picture, reaches=("krea.upload", "store.remember_upload")),
    "edit again": Story(act=edit_what_the_provider_cannot_read_at_first, reaches=("store.forget_uploads",)),
    "cancel while made": Story(act=cancel_while_it_is_made, reaches=("krea.cancel",)),
    "cancel while waiting": Story(
        act=cancel_while_it_waits, reaches=("store.cancel",), settings={"KREA_MAX_CONCURRENCY": "1"}
    ),
    "refused": Story(act=order_what_is_refused, reaches=("store.fail",)),
    "answer lost": Story(act=order_when_the_answer_gets_lost, reaches=("store.mark_uncertain", "krea.recent")),
    "busy": Story(act=order_when_the_provider_is_busy, reaches=("store.back_to_line",)),
    "private and late": Story(
        act=order_in_private,
        reaches=("messages.open_direct_channel", "messages.posted", "messages.post"),
        down_seconds=TWENTY_MINUTES,
    ),
    "moderate": Story(act=moderate, reaches=("store.set_limit", "store.grant", "store.reset", "store.set_blocked")),
}

IN_RECOVERY = {
    # the point at which the first life ends, and how long the bot is down
    "messages.original": ("answer.show", SIX_MINUTES),
    "messages.search": ("answer.show", TWENTY_MINUTES),
}
"""Points that only a restart passes."""

NOT_PASSED = {
    "store.problem": "the health check writes nothing",
    "store.forget_member": "one transaction that moves no money",
    "store.forget_old": "the same",
    "store.set_time_zone": "changes one setting and no money",
    "messages.files": "reads what Discord keeps",
    "krea.styles": "reads a list that no job waits for",
    "krea.probe": "asks whether a closed provider answers again, and changes nothing",
    "pixazo.probe": "the same",
    "pixazo.upload": "Pixazo fetches pictures itself",
    "pixazo.cancel": "Pixazo cannot cancel",
    "pixazo.recent": "Pixazo has no list",
}

TELLERS = ("bot/service.py", "bot/worker.py", "bot/lost.py", "cogs/desk.py", "cogs/reply.py")
"""The files that tell the story of a job. What only moderators and members' questions change moves no job."""

FIRST = {point: name for name, story in STORIES.items() for point in story.reaches}
SLOW_STORIES = ("pair", "edit", "cancel while made", "cancel while waiting", "private and late")


# -- dying and coming back ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with Nursery() as nursery:
        yield nursery


@pytest.fixture
async def here(nursery: Nursery, tmp_path: Path):
    async with world(nursery, tmp_path) as here:
        yield here


async def die(here: World, story: Story, *, at: str, when: str, nth: int = 1) -> None:
    """The first life: as far as the point."""
    here.settings |= story.settings
    await here.start(CRASH_AT=at, CRASH_WHEN=when, CRASH_NTH=str(nth))
    if not here.is_dead:
        await told(here, story)
    assert await here.dead() == KILLED, f"not killed at {at}:\n{here.last_words()}"


async def come_back(here: World, story: Story) -> None:
    """The next life: everything comes to its end, once."""
    here.pass_time(story.down_seconds)
    await here.start()
    if not here.discord.interactions:  # it died before anybody asked for anything
        await told(here, story)
    await here.settled()
    assert await here.stop(politely=True) == 0
    found = audit(here)
    assert found.problems == [], here.last_words()
    # Only where there is no way to find out may the house put aside more than was billed.
    assert found.house_overestimate_usd_micros == 0 or found.outcomes["outcome_unknown"]


def test_every_crossing_of_a_border_on_the_way_of_a_job_is_passed_or_has_a_reason() -> None:
    tried = set(FIRST) | set(IN_RECOVERY) | set(NOT_PASSED)
    assert tried <= set(crash_points())
    story = "".join((PROJECT / file).read_text(encoding="utf-8") for file in TELLERS)
    on_the_way = {
        point
        for point in crash_points()
        if not point.startswith("store.") or re.search(rf"store\.{point.removeprefix('store.')}\b", story)
    }
    assert on_the_way <= tried


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("point", FIRST)
async def test_f33_killed_at_any_point_each_command_ends_once_and_visibly(here: World, point: str, when: str) -> None:
    story = STORIES[FIRST[point]]
    await die(here, story, at=point, when=when)
    await come_back(here, story)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("point", IN_RECOVERY)
async def test_f33_killed_again_while_recovering(here: World, point: str, when: str) -> None:
    first_point, down_seconds = IN_RECOVERY[point]
    story = STORIES["imagine"]
    await die(here, story, at=first_point, when="after")
    here.pass_time(down_seconds)
    await here.start(CRASH_AT=point, CRASH_WHEN=when)
    assert await here.dead() == KILLED
    await come_back(here, story)
    assert audit(here).outcomes == {"succeeded": 1}


@pytest.mark.parametrize("event", ["answered", "message_edited"])
async def test_f33_killed_the_moment_discord_has_it_and_before_the_bot_hears(here: World, event: str) -> None:
    here.discord.world.feed.hooks.append(lambda kind, _: here.kill() if kind == event else None)
    await here.start()
    await order_a_picture(here)
    assert await here.dead() == KILLED
    here.discord.world.feed.hooks.pop()
    await come_back(here, STORIES["imagine"])
    assert audit(here).outcomes == {"succeeded": 1}


@pytest.mark.parametrize("accepted", [True, False])
async def test_f33_killed_while_the_order_is_on_its_way(here: World, accepted: bool) -> None:
    here.provider.next_order(Plan(trouble=Trouble(how=How.HANG, accepted=accepted)))
    await here.start()
    await order_a_picture(here)
    assert await seen(here, lambda: bool(here.provider.orders and (here.provider.jobs or not accepted)))
    here.kill()
    assert await here.dead() == KILLED
    await come_back(here, STORIES["imagine"])
    found = audit(here)
    assert found.outcomes == ({"succeeded": 1} if accepted else {"outcome_unknown": 1})
    assert len(here.provider.orders) == 1
    assert found.house_overestimate_usd_micros == 0


# -- the long way: every call of every story, and every statement ---------------------------------------------


@pytest.mark.torture
@pytest.mark.parametrize("name", STORIES)
async def test_f33_killed_at_every_call_of_a_story(nursery: Nursery, tmp_path: Path, name: str) -> None:
    story = STORIES[name]
    passed = await passed_in(nursery, tmp_path / "recorded", story)
    trials = [
        (point, when, nth)
        for point, count in passed.items()
        if point != SQL
        for nth in range(1, min(count, 4) + 1)
        for when in ("before", "after")
    ]
    for number, (point, when, nth) in enumerate(trials):
        async with world(nursery, tmp_path / str(number)) as here:
            await die_or_pass(here, story, at=point, when=when, nth=nth)
            await come_back(here, story)


@pytest.mark.torture
async def test_f33_killed_at_every_statement(nursery: Nursery, tmp_path: Path) -> None:
    story = STORIES["imagine"]
    passed = await passed_in(nursery, tmp_path / "recorded", story)
    for nth in range(1, passed[SQL] + 1):
        async with world(nursery, tmp_path / str(nth)) as here:
            await die_or_pass(here, story, at=SQL, when="before", nth=nth)
            await come_back(here, story)


async def passed_in(nursery: Nursery, folder: Path, story: Story) -> Counter[str]:
    """How often a story that nothing disturbs passes each point."""
    async with world(nursery, folder) as here:
        here.settings |= story.settings
        record = folder / "passed"
        await here.start(CRASH_RECORD=str(record))
        await told(here, story)
        await here.settled()
        await here.stop()
        return Counter(record.read_text().split())


async def die_or_pass(here: World, story: Story, *, at: str, when: str, nth: int) -> None:
    """As `die`, but a story told again may pass a point less often: then the bot is killed at its end."""
    here.settings |= story.settings
    await here.start(CRASH_AT=at, CRASH_WHEN=when, CRASH_NTH=str(nth))
    if not here.is_dead:
        await told(here, story)
        async with asyncio.timeout(30):
            while not here.is_dead and (here.unfinished or not here.discord.interactions):
                await asyncio.sleep(0.02)
        here.kill()
    assert await here.dead() == KILLED
