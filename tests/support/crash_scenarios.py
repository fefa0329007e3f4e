"""Stories: what members do while their bot dies at a given point, and the restart that completes them all."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from sandbox.discord import Interaction
from sandbox.discord.world import LOADING
from sandbox.plans import Plan, Trouble
from tests.support.crashes import SIX_MINUTES, World, a_file, audit, is_warning, seen

KILLED = -9
TWENTY_MINUTES = 1200.0
SECRET = "a map to the treasure of Skull Cove"
"""A prompt that must be gone from all files once its member was erased."""


@dataclass(frozen=True, kw_only=True)
class Story:
    """What members do, and the points that it passes first."""

    act: Callable[[World], Awaitable[None]]
    reaches: tuple[str, ...]
    settings: dict[str, str] = field(default_factory=dict[str, str])
    down_seconds: float = SIX_MINUTES
    meanwhile: Callable[[World], None] = lambda _: None
    """What happens while the bot is down."""
    holds: Callable[[World], None] = lambda _: None
    """What must be true in the end beside the audit, whether the bot died before it or after."""


# -- what members do ----------------------------------------------------------------------------------------


async def told(here: World, story: Story) -> None:
    """Run the story until the bot has answered or died."""
    await story.act(here)
    await seen(here, lambda: all(one.answer is not None or one.failed for one in here.discord.interactions))


async def imagine(here: World, prompt: str, **options: Any) -> Interaction:
    return await here.discord.slash(here.member, here.channel, "imagine", prompt=prompt, **options)


async def order_an_image(here: World) -> None:
    await imagine(here, "a lighthouse")


async def order_from_pixazo(here: World) -> None:
    await imagine(here, "a ferry", model="pixazo/krea-2-large")


async def order_a_pair(here: World) -> None:
    await imagine(here, "two gulls", count=2)


async def edit_an_image(here: World) -> None:
    await here.discord.slash(here.member, here.channel, "edit", prompt="at night", image=a_file())


async def edit_what_the_provider_cannot_read_at_first(here: World) -> None:
    here.provider.next_order(Plan(trouble=Trouble(status=422, body={"error": "Invalid asset URL"})))
    await edit_an_image(here)


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
    """Order with a token that expires immediately, so that the image is sent as a direct message."""
    order = await imagine(here, "a secret cove", private=True)
    if await seen(here, lambda: order.answer is not None):
        order.opened_at -= TWENTY_MINUTES


async def decide(here: World, *commands: tuple[str, dict[str, Any]]) -> None:
    """Run a moderator's commands, one after the other."""
    for command, options in commands:
        decision = await here.discord.slash(
            here.moderator, here.channel, command, overridden=True, reason="storm", **options
        )
        if not await seen(here, lambda sent=decision: sent.answer is not None):
            return


async def moderate(here: World) -> None:
    order = await imagine(here, "a storm")  # without any spending a reset is no change
    if not await seen(here, lambda: "Completed" in order.text):
        return
    await decide(
        here,
        ("quota set", {"member": here.member, "amount": "2"}),
        ("quota grant", {"member": here.member, "amount": "1"}),
        ("quota reset", {"member": here.member}),
        ("quota block", {"member": here.member}),
    )


async def change_settings(here: World) -> None:
    await decide(
        here,
        ("settings time-zone", {"zone": "Europe/Berlin"}),
        ("settings words", {"action": "add", "words": "kraken"}),
    )


def what_is_in_force_is_recorded_once(here: World) -> None:
    """Check that each setting in force has one audit row, and nothing else has one."""
    (recorded,) = here.query("SELECT count(*) FROM audit")[0]
    zones = here.query("SELECT count(*) FROM server_settings WHERE time_zone = 'Europe/Berlin'")[0][0]
    words = here.query("SELECT count(*) FROM server_settings WHERE policy LIKE '%kraken%'")[0][0]
    assert recorded == zones + words


async def cancel_for_a_member(here: World) -> None:
    """Cancel a member's job as a moderator: choose it in the list of /jobs, then give a reason."""
    here.provider.default_plan = Plan(seconds_factor=1000)  # so that it is still running when the moderator cancels
    order = await imagine(here, "a spy balloon")
    if not await seen(here, lambda: "Processing" in order.text):
        return
    page = await here.discord.slash(here.moderator, here.channel, "jobs", overridden=True)
    if not await answered(here, page) or page.reply is None:
        return
    (choice,) = page.reply.component("jobs:cancel")["options"]
    form = await here.discord.select(here.moderator, page.reply, "jobs:cancel", [choice["value"]])
    if await seen(here, lambda: form.modal is not None):
        await here.discord.submit(form, {"reason": "no balloons"})


def what_a_moderator_stopped_stays_stopped(here: World) -> None:
    """Check that a recorded cancellation is shown with its reason, and that without one the job is completed."""
    (card,) = [one.text for one in here.discord.interactions if one.command_path == "imagine"]
    recorded = wishes_on_record(here)
    assert recorded <= 1
    assert ("Cancelled" in card and "no balloons" in card) if recorded else "Completed" in card


def without_a_wish_it_is_finished(here: World) -> None:
    """Finish the job at the provider, unless its cancellation is recorded: then only that may end it."""
    if not wishes_on_record(here):
        here.provider.default_plan = Plan()
        for remote in here.provider.jobs.values():
            remote.word, remote.billed_usd_micros = "completed", remote.price_usd_micros


def wishes_on_record(here: World) -> int:
    return here.query("SELECT count(*) FROM audit WHERE action = 'cancel'")[0][0]


async def order_until_little_is_left(here: World) -> None:
    await imagine(here, "a treasure")


def warnings_said(here: World) -> int:
    return sum(is_warning(message) for one in here.discord.interactions for message in one.follow_ups)


def nobody_is_warned_twice(here: World) -> None:
    assert warnings_said(here) <= 1


async def have_oneself_erased(here: World) -> None:
    order = await imagine(here, SECRET)
    if await seen(here, lambda: "Completed" in order.text and not here.unfinished):
        await erase(here)


async def erase(here: World) -> None:
    question = await here.discord.slash(here.member, here.channel, "privacy delete")
    if await answered(here, question) and question.reply is not None:
        await here.discord.click(here.member, question.reply, "Erase my data")


def who_is_forgotten_left_no_word(here: World) -> None:
    if here.query("SELECT 1 FROM replies WHERE user_id IS NULL"):
        assert not still_written(here)


def still_written(here: World) -> bool:
    """Return whether the prompt of `have_oneself_erased` is anywhere in the database files."""
    return any(SECRET.encode() in file.read_bytes() for file in here.folder.glob("bot.sqlite3*"))


async def answered(here: World, interaction: Interaction) -> bool:
    """Wait for more than 'is thinking'. False when the bot died first."""
    return await seen(here, lambda: interaction.reply is not None and not interaction.reply.flags & LOADING)


STORIES = {
    "imagine": Story(
        act=order_an_image,
        reaches=(
            "store.set_value",
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
        # It has no list: an order without confirmation ends at its deadline, as an operator cost.
        act=order_from_pixazo,
        reaches=("pixazo.submit", "pixazo.fetch"),
        down_seconds=3 * 3600,
    ),
    "pair": Story(act=order_a_pair, reaches=()),
    "edit": Story(act=edit_an_image, reaches=("krea.upload", "store.remember_upload")),
    "edit again": Story(act=edit_what_the_provider_cannot_read_at_first, reaches=("store.forget_uploads",)),
    "cancel while made": Story(act=cancel_while_it_is_made, reaches=("krea.cancel", "store.mark_cancelled")),
    "cancel while waiting": Story(
        act=cancel_while_it_waits, reaches=("store.cancel",), settings={"KREA_MAX_CONCURRENCY": "1"}
    ),
    "refused": Story(act=order_what_is_refused, reaches=("store.fail",)),
    "answer lost": Story(act=order_when_the_answer_gets_lost, reaches=("store.mark_uncertain", "krea.recent")),
    "busy": Story(act=order_when_the_provider_is_busy, reaches=("store.requeue",)),
    "private and late": Story(
        act=order_in_private,
        reaches=("messages.open_direct_channel", "messages.posted", "messages.post"),
        down_seconds=TWENTY_MINUTES,
    ),
    "moderate": Story(act=moderate, reaches=("store.set_limit", "store.grant", "store.reset", "store.set_blocked")),
    "settings": Story(
        act=change_settings,
        reaches=("store.set_time_zone", "store.change_policy"),
        holds=what_is_in_force_is_recorded_once,
    ),
    "cancelled by a moderator": Story(
        act=cancel_for_a_member,
        reaches=("store.ask_to_cancel",),
        down_seconds=0.0,
        meanwhile=without_a_wish_it_is_finished,
        holds=what_a_moderator_stopped_stays_stopped,
    ),
    "little is left": Story(
        act=order_until_little_is_left,
        reaches=("store.first_warning",),
        settings={"DEFAULT_QUOTA_USD": "0.1"},
        holds=nobody_is_warned_twice,
    ),
    "erased": Story(act=have_oneself_erased, reaches=("store.forget_member",), holds=who_is_forgotten_left_no_word),
}


# -- kill and restart -----------------------------------------------------------------------------------------


async def die(here: World, story: Story, *, at: str, when: str, nth: int = 1) -> None:
    """Start the bot and run the story until it is killed at the point."""
    here.settings |= story.settings
    await here.start(CRASH_AT=at, CRASH_WHEN=when, CRASH_NTH=str(nth))
    if not here.is_dead:
        await told(here, story)
    assert await here.dead() == KILLED, f"not killed at {at}:\n{here.last_words()}"


async def come_back(here: World, story: Story) -> None:
    """Restart the bot after the story's pause and check that everything ends, once."""
    here.pass_time(story.down_seconds)
    story.meanwhile(here)
    await here.start()
    if not here.discord.interactions:  # it died before the first interaction
        await told(here, story)
    await end_well(here, story)


async def end_well(here: World, story: Story) -> None:
    """Wait for the end of everything, stop the bot, and check that ledger, members and providers agree."""
    await here.settled()
    assert await here.stop(politely=True) == 0
    found = audit(here)
    assert not found.problems, "\n".join([*found.problems, here.last_words()])
    story.holds(here)
    # Only where the outcome cannot be known may the operator cost exceed the bill.
    assert found.operator_overestimate_usd_micros == 0 or found.outcomes["outcome_unknown"]


async def die_or_pass(here: World, story: Story, *, at: str, when: str, nth: int) -> None:
    """Do as `die`, but kill the bot at the end of the story if it passes the point fewer times than before."""
    here.settings |= story.settings
    await here.start(CRASH_AT=at, CRASH_WHEN=when, CRASH_NTH=str(nth))
    if not here.is_dead:
        await told(here, story)
        async with asyncio.timeout(120):
            while not here.is_dead and (here.unfinished or not here.discord.interactions):
                await asyncio.sleep(0.02)
        here.kill()
    assert await here.dead() == KILLED
