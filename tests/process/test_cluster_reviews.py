"""Reviews by moderators with several processes on one PostgreSQL: each decision reaches the card, also after kills."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from sandbox.discord import Channel, Interaction, Permission
from sandbox.discord.world import Member, Message
from tests.support.cluster import KILLED, Cluster, a_cluster
from tests.support.crashes import IMPATIENT
from tests.support.fakes import until

pytestmark = pytest.mark.slow

short_timeouts_cluster = partial(a_cluster, **IMPATIENT)


async def a_keeper(here: Cluster, server: int) -> Member:
    """Return a moderator who owns nothing, so that their role can be taken from them."""
    place = here.channels[server].server
    assert place is not None
    role = here.discord.role(place, "Keeper", permissions=Permission.MANAGE_SERVER)
    return here.discord.member(place, "Mo", roles=[role])


async def reviewed(here: Cluster, server: int) -> Channel:
    """Have the images of a server's channel reviewed; return where moderators decide."""
    place = here.channels[server].server
    assert place is not None
    desk = here.discord.channel(place, "desk")
    said = await here.discord.slash(
        here.moderators[server],
        here.channels[server],
        "settings review",
        action="add",
        channel=here.channels[server],
        review_channel=desk,
    )
    await until(lambda: "before everybody else" in said.text, what=here.last_words)
    return desk


async def waiting(here: Cluster, prompt: str, desk: Channel, *, server: int) -> tuple[Interaction, Message]:
    """Order an image; return its card, which waits, and the question."""
    order = await here.imagine(prompt, server=server)
    await until(lambda: "Waiting for review" in order.text, what=here.last_words)
    await until(lambda: questions(desk, prompt), what=here.last_words)
    [question] = questions(desk, prompt)
    return order, question


def questions(desk: Channel, prompt: str) -> list[Message]:
    return [message for message in desk.messages.values() if prompt in message.text]


def images_shown(order: Interaction) -> int:
    assert order.reply is not None
    return len(order.reply.attachments)


async def refuse(here: Cluster, who: Member, question: Message, reason: str) -> Interaction:
    form = await here.discord.click(who, question, "Refuse")
    await until(lambda: form.modal is not None or form.text, what=here.last_words)
    return await here.discord.submit(form, {"reason": reason})


def settled_once(here: Cluster) -> bool:
    """Whether each job is charged exactly once, whatever moderators decided."""
    jobs = here.count("SELECT count(*) FROM jobs WHERE status = 'succeeded'")
    return (
        here.count("SELECT count(*) FROM ledger WHERE kind = 'settle'")
        == jobs
        == here.count("SELECT count(DISTINCT job_id) FROM ledger WHERE kind = 'settle'")
    )


async def test_decisions_at_each_gateway_reach_the_cards(tmp_path: Path) -> None:
    async with short_timeouts_cluster(tmp_path, "gateway-0", "gateway-1", "worker-1", "worker-2") as here:
        for server in range(2):
            desk = await reviewed(here, server)
            approved, question = await waiting(here, f"a meadow {server}", desk, server=server)
            assert images_shown(approved) == 0
            assert len(question.attachments) == 1
            await here.discord.click(here.moderators[server], question, "Approve")
            await until(lambda card=approved: "Completed" in card.text, what=here.last_words)
            assert images_shown(approved) == 1
            await until(lambda asked=question: "Approved by" in asked.text, what=here.last_words)

            refused, question = await waiting(here, f"a swamp {server}", desk, server=server)
            await refuse(here, here.moderators[server], question, "too dark")
            await until(lambda card=refused: "Refused" in card.text and "too dark" in card.text, what=here.last_words)
            await until(lambda asked=question: "Refused by" in asked.text, what=here.last_words)
            assert images_shown(refused) == 0
        await here.settled()
        assert settled_once(here)
        assert here.findings() == []
        assert here.logged_failures() == []


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_gateway_killed_at_the_decision_loses_none_and_repeats_none(tmp_path: Path, moment: str) -> None:
    async with short_timeouts_cluster(tmp_path, "worker-1") as here:
        await here.start("gateway-0", CRASH_AT="store.decide_review", CRASH_WHEN=moment)
        desk = await reviewed(here, 0)
        order, question = await waiting(here, "a marsh", desk, server=0)
        await here.discord.click(here.moderators[0], question, "Approve")
        assert await here.processes["gateway-0"].dead() == KILLED
        await here.start("gateway-0")
        if moment == "before":
            assert "Waiting for review" in order.text
            await here.discord.click(here.moderators[0], question, "Approve")
        await until(lambda: "Completed" in order.text, seconds=120, what=here.last_words)
        await here.settled()
        assert images_shown(order) == 1
        assert len(questions(desk, "a marsh")) == 1
        if moment == "after":  # the gateway ended before it showed the decision
            again = await here.discord.click(here.moderators[0], question, "Refuse")
            await until(lambda: again.follow_ups, what=here.last_words)
            assert "approved already" in again.follow_ups[0].text
        await until(lambda: "Completed" in question.text, what=here.last_words)
        assert "Refuse" not in str(question.components)
        assert settled_once(here)
        here.audit()


async def test_workers_killed_while_an_order_waits_do_not_matter(tmp_path: Path) -> None:
    async with short_timeouts_cluster(tmp_path, "gateway-0", "worker-1") as here:
        desk = await reviewed(here, 0)
        order, question = await waiting(here, "a heath", desk, server=0)
        here.processes["worker-1"].kill()
        await here.processes["worker-1"].dead()
        await here.discord.click(here.moderators[0], question, "Approve")
        await until(lambda: "Approved by" in question.text, what=here.last_words)
        await here.start("worker-2")
        await until(lambda: "Completed" in order.text, seconds=120, what=here.last_words)
        await here.settled()
        assert images_shown(order) == 1
        here.audit()


async def test_a_moderator_who_lost_the_role_decides_nothing(tmp_path: Path) -> None:
    async with short_timeouts_cluster(tmp_path, "gateway-0", "worker-1") as here:
        keeper = await a_keeper(here, 0)
        desk = await reviewed(here, 0)
        order, question = await waiting(here, "a dune", desk, server=0)
        form = await here.discord.click(keeper, question, "Refuse")
        await until(lambda: form.modal is not None, what=here.last_words)
        here.discord.set_roles(keeper)
        late = await here.discord.submit(form, {"reason": "I may not"})
        await until(lambda: "Manage Server" in late.text, what=here.last_words)
        for button in ("Approve", "Refuse"):
            said = await here.discord.click(keeper, question, button)
            await until(lambda said=said: "Manage Server" in said.text, what=here.last_words)
        assert "Waiting for review" in order.text
        assert here.count("SELECT count(*) FROM replies WHERE review = 'waiting'") == 1
        await here.discord.click(here.moderators[0], question, "Approve")
        await until(lambda: "Completed" in order.text, what=here.last_words)
        await here.settled()
        here.audit()
