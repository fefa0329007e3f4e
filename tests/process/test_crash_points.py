"""Killed at every point: before and after every external call, and the next start completes each command."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from sandbox.plans import How, Plan, Trouble
from tests.support.crash_scenarios import (
    KILLED,
    STORIES,
    TWENTY_MINUTES,
    Story,
    come_back,
    die,
    die_or_pass,
    order_an_image,
    told,
)
from tests.support.crashes import IMPATIENT, SIX_MINUTES, Nursery, World, audit, seen, world
from tests.support.crashing_bot import SQL, crash_points

IN_RECOVERY = {
    # the point at which the first process ends, and how long the bot is down
    "messages.original": ("answer.show", SIX_MINUTES),
    "messages.search": ("answer.show", TWENTY_MINUTES),
    "store.forget_old": ("answer.show", SIX_MINUTES),
}
"""Points that are reached only after a restart."""

NOT_PASSED = {
    "store.problem": "the health check writes nothing",
    "store.delete_reply": "one transaction; tests/cogs/test_deletion.py restarts after it",
    "store.claim_notice": "notes that the operator was told, once a day",
    "store.remove_value": "forgets a count of tries, which ends with the job in any case",
    "messages.delete_by_token": "one try after the order is erased; who deletes it is told when the card stays",
    "messages.delete": "repeated until Discord has deleted it; tests/cogs/test_deletion.py restarts in between",
    "store.mark_found": "hours after the order; tests/service/test_reconciliation.py restarts before and after it",
    "store.deliver_late": "the same",
    "store.lose_images": "one transaction, after a loss on disk; tests/store/test_refunds.py repeats it",
    "store.mark_unfetched": "only after a fault of the file server; tests/service/test_job_runner_results.py restarts",
    "store.end_follow": "the same",
    "store.keep_callback": "the same, for a call that comes before the answer",
    "store.cost_limits_reached": "only decides whether the operator is told",
    "store.forget_names_on_record": "runs at the start and every hour, and again when it was interrupted",
    "store.record_copy": "notes where a copy is; tests/store/test_deletion.py shows what happens without the note",
    "store.postpone_deletion": "moves the next attempt of a deletion, which is repeated in any case",
    "store.finish_deletion": "the same; tests/cogs/test_deletion.py restarts in between",
    "messages.attach": "before the order leaves; the images are attached again, tests/cogs/test_edit.py",
    "messages.files": "reads what Discord keeps",
    "krea.has_model": "asks for a model that was withdrawn, and changes nothing",
    "pixazo.has_model": "the same",
    "krea.listed_costs": "reads the provider's list for a comparison that changes nothing",
    "store.decide_catalogue_changes": "the same; tests/service/test_catalogue_keeper.py",
    "store.record_catalogue_changes": "the same; what was not recorded is read again",
    "store.claim_turn": "claims something that one process does, such as reading the description, which expires",
    "store.take_untold_changes": "the same for telling the operator; put back when it fails",
    "store.put_back_untold_changes": "the same",
    "store.note_model": "a note that the next order to the model would make again",
    "store.remove_model_notice": "the same",
    "store.claim_weekly_report": "tests/process/test_crash_posts.py",
    "store.finish_weekly_report": "the same",
    "store.claim_share": "tests/cogs/test_share.py restarts after it",
    "store.record_share": "the same",
    "store.release_share": "the same",
    "store.claim_review": "tests/process/test_crash_posts.py",
    "store.record_review": "the same",
    "store.postpone_review": "moves the next attempt of a question, which is repeated in any case",
    "store.decide_review": "tests/process/test_crash_posts.py",
    "store.remove_share": "the message is deleted by the repeated deletions",
    "store.newest_order_if_restored": "notes where the database continues from, at the start, with PostgreSQL alone",
    "store.first_warning_of_channel": "notes that moderators were told, once a window",
    "store.hash_old_paths": "runs at the start, and again when it was interrupted",
    "store.seal_tokens": "the same",
    "store.repeat_erasures": "the same; tests/store/test_erasures.py",
    "store.credit": "tests/process/test_crash_top_ups.py",
    "store.mark_consumed": "the same",
    "store.take_back": "the same",
    "store.refund_told": "the same",
    "store.set_preset": "one transaction that no order waits for",
    "store.remove_preset": "the same",
    "store.set_member_defaults": "the same",
    "store.set_favourite": "the same",
    "store.vote": "the same",
    "store.star": "the same",
    "messages.files_of_reply": "the same, for a whole reply",
    "krea.styles": "reads a list that no job waits for",
    "krea.probe": "asks whether a closed provider answers again, and changes nothing",
    "pixazo.probe": "the same",
    "pixazo.upload": "Pixazo fetches pictures itself",
    "pixazo.cancel": "Pixazo cannot cancel",
    "pixazo.recent": "Pixazo has no list",
    "pixazo.listed_costs": "the same",
    "pixazo.styles": "Pixazo has none",
}

FIRST = {point: name for name, story in STORIES.items() for point in story.reaches}


# -- kill and restart -----------------------------------------------------------------------------------------


@pytest.fixture
async def here(nursery: Nursery, tmp_path: Path):
    async with world(nursery, tmp_path) as here:
        here.settings |= IMPATIENT
        yield here


def test_every_crossing_of_a_border_is_passed_or_has_a_reason() -> None:
    assert set(FIRST) | set(IN_RECOVERY) | set(NOT_PASSED) == set(crash_points())


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
async def test_f33_killed_the_moment_discord_has_it_and_before_the_bot_knows(here: World, event: str) -> None:
    here.discord.world.feed.hooks.append(lambda kind, _: here.kill() if kind == event else None)
    await here.start()
    await order_an_image(here)
    assert await here.dead() == KILLED
    here.discord.world.feed.hooks.pop()
    await come_back(here, STORIES["imagine"])
    assert audit(here).outcomes == {"succeeded": 1}


@pytest.mark.parametrize("accepted", [True, False])
async def test_f33_killed_while_the_order_is_on_its_way(here: World, accepted: bool) -> None:
    here.provider.next_order(Plan(trouble=Trouble(how=How.HANG, accepted=accepted)))
    await here.start()
    await order_an_image(here)
    assert await seen(here, lambda: bool(here.provider.orders and (here.provider.jobs or not accepted)))
    here.kill()
    assert await here.dead() == KILLED
    await come_back(here, STORIES["imagine"])
    found = audit(here)
    assert found.outcomes == ({"succeeded": 1} if accepted else {"outcome_unknown": 1})
    assert len(here.provider.orders) == 1
    assert found.operator_overestimate_usd_micros == 0


# -- slow: every call of every story, and every statement -----------------------------------------------------


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
    """Return the number of times that an undisturbed story passes each point."""
    async with world(nursery, folder) as here:
        here.settings |= story.settings
        record = folder / "passed"
        await here.start(CRASH_RECORD=str(record))
        await told(here, story)
        await here.settled()
        await here.stop()
        return Counter(record.read_text().split())
