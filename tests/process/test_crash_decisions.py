"""Killed while a decision is stored: after the restart it is stored whole or not at all, and may be repeated."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.crash_scenarios import (
    KILLED,
    SECRET,
    STORIES,
    Story,
    answered,
    change_settings,
    come_back,
    decide,
    die,
    end_well,
    erase,
    imagine,
    still_written,
    warnings_said,
)
from tests.support.crashes import SIX_MINUTES, Nursery, World, audit, seen, world

pytestmark = pytest.mark.torture  # a minute and a half of kills and restarts; orders of members are tested in every run

HOURS = 3600.0
A_MONTH = 31 * 24 * HOURS


@pytest.fixture
async def here(nursery: Nursery, tmp_path: Path):
    async with world(nursery, tmp_path) as here:
        yield here


async def die_and_start(here: World, name: str, *, at: str, when: str) -> None:
    await die(here, STORIES[name], at=at, when=when)
    here.pass_time(SIX_MINUTES)
    await here.start()


async def said(here: World, command: str) -> str:
    """Return the answer to a command that changes nothing; the moderator is a member as well."""
    answer = await here.discord.slash(here.moderator, here.channel, command, overridden=True)
    assert await answered(here, answer)
    return answer.text


async def is_taken(here: World, prompt: str) -> bool:
    """Return whether this prompt is accepted."""
    order = await imagine(here, prompt)
    assert await seen(here, lambda: "Completed" in order.text or "word" in order.text)
    return "Completed" in order.text


def images_kept(here: World) -> int:
    return sum(file.is_file() for file in (here.folder / "pictures").rglob("*"))


@pytest.mark.parametrize("when", ["before", "after"])
async def test_f33_killed_while_the_time_zone_is_set_it_is_the_old_one_or_the_new_one(here: World, when: str) -> None:
    await die_and_start(here, "settings", at="store.set_time_zone", when=when)
    assert ("Europe/Berlin" in await said(here, "settings time-zone")) is (when == "after")
    await change_settings(here)
    assert "Europe/Berlin" in await said(here, "settings time-zone")
    await end_well(here, STORIES["settings"])


@pytest.mark.parametrize("when", ["before", "after"])
async def test_f33_killed_while_a_word_is_forbidden_it_is_allowed_or_forbidden(here: World, when: str) -> None:
    await die_and_start(here, "settings", at="store.change_policy", when=when)
    assert await is_taken(here, "a kraken at noon") is (when == "before")
    await change_settings(here)
    assert not await is_taken(here, "a kraken at night")
    await end_well(here, STORIES["settings"])


@pytest.mark.parametrize("when", ["before", "after"])
async def test_f33_killed_at_a_warning_it_is_said_once_at_most(here: World, when: str) -> None:
    """Check that a warning that was stored and not sent stays unsent; repeating it with every order would be worse."""
    await die_and_start(here, "little is left", at="store.first_warning", when=when)
    for prompt in ("a shell", "another shell"):
        order = await imagine(here, prompt, model="krea/bfl/flux-1-dev")
        assert await seen(here, lambda order=order: "Completed" in order.text)
    assert warnings_said(here) == (when == "before")
    await end_well(here, STORIES["little is left"])


async def order_until_little_of_the_cap_is_left(here: World) -> None:
    await decide(here, ("settings log-channel", {"channel": here.channel}), ("quota server", {"amount": "0.1"}))
    await imagine(here, "a treasure")


def warnings_posted(here: World) -> int:
    return sum("of its cap" in message.text for message in here.channel.messages.values())


LITTLE_OF_THE_CAP = Story(act=order_until_little_of_the_cap_is_left, reaches=())


@pytest.mark.parametrize(
    ("at", "when", "nth", "said"),
    [
        ("messages.post", "before", 2, 0),  # the first post says that the log is in this channel
        ("messages.post", "after", 2, 1),
        ("store.first_warning", "before", 1, 1),
        ("store.first_warning", "after", 1, 1),
    ],
)
async def test_f33_killed_while_moderators_are_warned_it_is_posted_once(
    here: World, at: str, when: str, nth: int, said: int
) -> None:
    await die(here, LITTLE_OF_THE_CAP, at=at, when=when, nth=nth)
    assert warnings_posted(here) == said
    for prompt in ("a shell", "another shell"):
        await here.start()
        order = await imagine(here, prompt, model="krea/bfl/flux-1-dev")
        assert await seen(here, lambda order=order: "Completed" in order.text)
        assert warnings_posted(here) == 1
        await here.stop(politely=True)
        here.pass_time(SIX_MINUTES)  # longer than Discord remembers a nonce
    await here.start()
    await end_well(here, LITTLE_OF_THE_CAP)


@pytest.mark.parametrize("when", ["before", "after"])
async def test_f33_killed_while_a_moderator_cancels_the_job_goes_on_or_costs_nothing(here: World, when: str) -> None:
    await die(here, STORIES["cancelled by a moderator"], at="store.ask_to_cancel", when=when)
    await come_back(here, STORIES["cancelled by a moderator"])
    found = audit(here)
    assert found.outcomes == {"succeeded" if when == "before" else "cancelled": 1}
    assert (found.charged_usd_micros > 0) is (when == "before")


@pytest.mark.f59
@pytest.mark.parametrize("when", ["before", "after"])
async def test_f33_killed_while_a_member_is_erased_they_are_known_or_forgotten(here: World, when: str) -> None:
    await die_and_start(here, "erased", at="store.forget_member", when=when)
    assert still_written(here) is (when == "before")
    await erase(here)
    question = here.discord.interactions[-1].message
    assert await seen(here, lambda: question is not None and "erased" in question.text)
    await end_well(here, STORIES["erased"])
    assert not still_written(here)
    assert audit(here).charged_usd_micros > 0, "the books keep their amounts"
    # A process that died before it removed the image leaves that to a later sweep.
    here.pass_time(2 * HOURS)
    await here.start()
    assert await seen(here, lambda: images_kept(here) == 0)


@pytest.mark.f59
@pytest.mark.parametrize("when", ["before", "after"])
async def test_f33_killed_while_what_is_old_is_forgotten_the_next_start_forgets_it(here: World, when: str) -> None:
    await here.start()
    order = await imagine(here, SECRET)
    assert await seen(here, lambda: "Completed" in order.text and not here.unfinished)
    await here.stop()
    here.pass_time(A_MONTH)
    await here.start(CRASH_AT="store.forget_old", CRASH_WHEN=when)
    assert await here.dead() == KILLED
    assert still_written(here) is (when == "before")
    await here.start()
    assert await seen(here, lambda: not still_written(here) and images_kept(here) == 0)
    await end_well(here, STORIES["erased"])
