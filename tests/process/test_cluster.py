"""Several real processes on one PostgreSQL with a local Discord and provider: they are killed, stopped and stalled."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path

import aiohttp
import pytest

from bot.domain.deployment.fleet import NO_WORKER
from bot.startup.fleet_check import check_fleet
from bot.store.postgres.connection import CONNECTIONS_PER_PROCESS
from sandbox.plans import Plan
from tests.support.child_processes import STOP_TIMEOUT_SECONDS
from tests.support.cluster import Cluster, a_cluster
from tests.support.crashes import IMPATIENT
from tests.support.fakes import until
from tests.support.postgres_server import the_server

pytestmark = pytest.mark.slow

TAKEOVER_TIMEOUT_SECONDS = 120
"""Limit for a busy machine. `benchmarks.cluster_drill` holds the product to 40 s."""

short_timeouts_cluster = partial(a_cluster, **IMPATIENT)
LONG = Plan(words=(("processing", 10_000.0),))


async def test_workers_share_the_slots_for_orders_from_every_gateway(tmp_path: Path) -> None:
    async with short_timeouts_cluster(
        tmp_path, "gateway-0", "gateway-1", "worker-1", "worker-2", KREA_MAX_CONCURRENCY="3"
    ) as here:
        here.provider.default_plan = LONG
        orders = [await here.imagine(f"a lighthouse {number}", server=number % 2) for number in range(24)]
        await until_running(here, 3)
        here.provider.default_plan = Plan()
        here.provider.complete_all()
        await here.settled()
        assert all("Completed" in order.text for order in orders)
        assert here.provider.peak_in_flight == 3
        here.audit()
        assert here.logged_failures() == []
        for name, process in here.processes.items():
            status, seconds = await process.stop()
            assert (name, status) == (name, 0), here.last_words()
            assert seconds < STOP_TIMEOUT_SECONDS


async def test_other_workers_claim_the_replies_of_a_killed_worker(tmp_path: Path) -> None:
    async with short_timeouts_cluster(tmp_path, "gateway-0", "worker-1", "worker-2", KREA_MAX_CONCURRENCY="6") as here:
        here.provider.default_plan = LONG
        for number in range(16):
            await here.imagine(f"a storm {number}")
        await until_running(here, 6)
        here.provider.default_plan = Plan()
        here.processes["worker-1"].kill()
        await here.processes["worker-1"].dead()
        here.provider.complete_all()
        await here.settled(seconds=TAKEOVER_TIMEOUT_SECONDS)
        here.audit()
        assert here.logged_failures() == []


async def test_a_worker_that_stops_returns_its_replies_at_once(tmp_path: Path) -> None:
    async with short_timeouts_cluster(tmp_path, "gateway-0", "worker-1", KREA_MAX_CONCURRENCY="4") as here:
        here.provider.default_plan = LONG
        for number in range(8):
            await here.imagine(f"a sail {number}")
        await until_running(here, 4)
        here.provider.default_plan = Plan()
        status, seconds = await here.processes["worker-1"].stop()
        assert status == 0, here.last_words()
        assert seconds < STOP_TIMEOUT_SECONDS
        assert here.count("SELECT count(*) FROM reply_queue WHERE worker IS NULL") == 8, "all of them"
        assert here.count("SELECT count(*) FROM jobs WHERE status IN ('submitting', 'uncertain')") == 0
        here.provider.complete_all()
        await here.start("worker-2")
        await here.settled()
        here.audit()


async def test_a_worker_without_a_key_leaves_the_replies_to_one_that_has_it(tmp_path: Path) -> None:
    async with short_timeouts_cluster(tmp_path, "gateway-0") as here:
        only_pixazo = {
            "KREA_API_KEY": "",
            "PIXAZO_API_KEY": here.provider.pixazo_key,
            "PIXAZO_API_BASE": here.provider.pixazo_base,
            "DEFAULT_MODEL": "pixazo/krea-2-large",
        }
        assert ("fleet", False, NO_WORKER) in check_fleet(here.address)
        early = await here.imagine("an early lock")
        assert "as soon as the operator" in early.text
        await here.start("worker-1", OPERATOR_DAILY_CAP_USD="30", **only_pixazo)
        rows = await fleet_of(here, 2)
        assert [works for _, works, what in rows if "keys for pixazo" in what] == [True]
        assert "no worker has a key for krea" in [what for _, _, what in rows]
        assert "no gateway serves shard 1 of 2" in [what for _, _, what in rows]
        assert any(what.startswith("OPERATOR_DAILY_CAP_USD differs: $100,000.00 in ") for _, _, what in rows)
        for number in range(4):
            await here.imagine(f"a lock {number}")
        assert "as soon as the operator" in early.text, "a worker without the key does not help"
        await here.start("worker-2")
        await here.settled()
        assert "as soon as the operator" not in early.text
        await here.processes["worker-2"].stop()
        await fleet_of(here, 2)
        here.audit()


async def test_cards_in_line_say_that_they_wait_once_the_last_worker_is_gone(tmp_path: Path) -> None:
    port = free_port()
    async with short_timeouts_cluster(tmp_path, "worker-1", KREA_MAX_CONCURRENCY="1") as here:
        await here.start("gateway-0", HTTP_PORT=str(port))
        await until_metrics(port, 'image_bot_fleet_processes{role="worker"} 1.0', what=here.last_words)
        here.provider.default_plan = LONG
        await here.imagine("a slow lock")
        await until_running(here, 1)
        waiting = await here.imagine("a lock in line")
        assert "as soon as the operator" not in waiting.text
        here.processes["worker-1"].kill()
        await until(lambda: "as soon as the operator" in waiting.text, seconds=120, what=here.last_words)
        await until_metrics(port, 'image_bot_fleet_processes{role="worker"} 0.0', what=here.last_words)
        await until_metrics(port, 'image_bot_fleet_disagreements{check="fleet"} 2.0', what=here.last_words)
        here.provider.default_plan = Plan()
        here.provider.complete_all()
        await here.start("worker-2")
        await here.settled()
        assert "as soon as the operator" not in waiting.text
        here.audit()


async def test_a_worker_without_room_at_the_server_does_not_start_and_the_others_go_on(tmp_path: Path) -> None:
    async with short_timeouts_cluster(tmp_path) as here:
        name = here.address.url.rpartition("/")[2]
        with the_server().a_modest_user(name) as url:
            # A worker opens one more than a gateway, which has no reply queue.
            the_server().execute(f"ALTER ROLE modest CONNECTION LIMIT {2 * CONNECTIONS_PER_PROCESS - 1 + 3}")
            await here.start("gateway-0", "worker-1", DATABASE_URL=url)
            refused = await here.spawn("worker-2", DATABASE_URL=url)
            assert await refused.dead() == 1
            assert refused.said("does not give this process the connections that it needs, up to 8. Raise max_conn")
            order = await here.imagine("a full harbour")
            await here.settled()
            assert "Completed" in order.text
            here.audit()
            await here.close()


async def test_a_worker_that_stalled_and_resumes_does_nothing_twice(tmp_path: Path) -> None:
    async with short_timeouts_cluster(tmp_path, "gateway-0", "worker-1") as here:
        here.provider.default_plan = LONG
        for number in range(4):
            await here.imagine(f"a slow tide {number}")
        await until_running(here, 4)
        ((first_worker,),) = here.query("SELECT DISTINCT worker FROM reply_queue")
        await here.start("worker-2")
        stalled = here.processes["worker-1"].inner
        stalled.send_signal(signal.SIGSTOP)
        taken_over = f"SELECT count(*) FROM reply_queue WHERE worker <> '{first_worker}'"
        await until(lambda: here.count(taken_over) == 4, seconds=TAKEOVER_TIMEOUT_SECONDS, what=here.last_words)
        here.provider.complete_all()
        stalled.send_signal(signal.SIGCONT)
        await here.settled()
        here.audit()


async def test_orders_of_killed_gateways_are_released_or_run(tmp_path: Path) -> None:
    """The worker asks Discord whether it shows the card: if so the order runs, otherwise it is released."""
    async with short_timeouts_cluster(tmp_path, "worker-1") as here:
        moments = ("before", "after")
        for shard, moment in enumerate(moments):
            await here.start(f"gateway-{shard}", CRASH_AT="answer.show", CRASH_WHEN=moment)
        unseen, seen = [await here.send(f"a wreck {shard}", server=shard) for shard in range(len(moments))]
        for shard in range(len(moments)):
            assert await here.processes[f"gateway-{shard}"].dead() == -signal.SIGKILL
        assert here.unfinished == len(moments)
        await here.settled(seconds=TAKEOVER_TIMEOUT_SECONDS)
        assert unseen.reply is None
        assert "Completed" in seen.text
        here.audit()


async def test_a_cancellation_reaches_the_worker_that_runs_the_job(tmp_path: Path) -> None:
    async with short_timeouts_cluster(tmp_path, "gateway-0", "worker-1", KREA_MAX_CONCURRENCY="1") as here:
        here.provider.next_order(LONG)
        running = await here.imagine("a storm")
        await until(lambda: "Processing" in running.text, what=here.last_words)
        waiting = await here.imagine("a sail")
        for order in (waiting, running):
            assert order.reply is not None
            await here.discord.click(here.members[0], order.reply, "Cancel")
            await until(lambda order=order: "Cancelled" in order.text, what=here.last_words)
        await here.settled()
        here.audit()


async def test_any_process_accepts_a_webhook(tmp_path: Path) -> None:
    """The provider calls a gateway, which notifies the worker. Polling alone would take ten minutes."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    async with short_timeouts_cluster(tmp_path, "worker-1", PUBLIC_URL=address, KREA_POLL_SECONDS="600") as here:
        await here.start("gateway-0", HTTP_PORT=str(port))
        order = await here.imagine("a ferry")
        assert await here.settled() < 300, "sooner than the first poll"
        assert "Completed" in order.text
        here.audit()


async def test_one_process_opens_the_circuit_breaker_for_all_and_alerts_the_operator(tmp_path: Path) -> None:
    async with short_timeouts_cluster(tmp_path, "gateway-0", "worker-1", "worker-2") as here:
        here.provider.balance_usd_micros = 0
        await here.imagine("a reef")
        await until(lambda: here.count("SELECT count(*) FROM closings") == 1, what=here.last_words)

        async def is_refused() -> bool:
            return "Queued" not in (await here.imagine("another reef")).text

        await until(is_refused, what=here.last_words)
        await here.settled()
        # It stays so until one order is let through, minutes later: that the account can be read proves nothing.
        assert here.count("SELECT count(*) FROM closings") == 1
        assert here.count("SELECT count(*) FROM jobs WHERE status = 'succeeded'") == 0
        everywhere = [
            message for channel in here.discord.world.channels.values() for message in channel.messages.values()
        ]
        alerts = [message for message in everywhere if "takes no jobs" in message.text]
        assert len(alerts) == 1


async def test_a_worker_whose_key_is_refused_leaves_the_jobs_to_one_that_is_answered(tmp_path: Path) -> None:
    """As in a rotation of keys that missed one process. Before, each of its orders closed the provider for all."""
    async with short_timeouts_cluster(tmp_path, "gateway-0", "worker-1") as here:
        await here.start("worker-2", KREA_API_KEY="a-revoked-key")
        refused = here.processes["worker-2"]
        for number in range(50):
            await here.imagine(f"a key {number}")
            if refused.said("left to them"):
                break
        await here.settled()
        orders = [await here.imagine(f"a lock {number}") for number in range(8)]
        await here.settled()
        assert [order.text for order in orders if "Completed" not in order.text] == []

        def is_listed_without_it() -> bool:
            return any("keys for no provider" in what for _, _, what in check_fleet(here.address))

        await until(is_listed_without_it, what=here.last_words)
        here.audit()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


async def until_metrics(port: int, line: str, *, what: Callable[[], object]) -> None:
    """Wait until a process serves this line of its metrics."""
    async with aiohttp.ClientSession() as session:

        async def serves() -> bool:
            async with session.get(f"http://127.0.0.1:{port}/metrics") as response:
                return line in (await response.text()).splitlines()

        await until(serves, seconds=60, what=what)


async def fleet_of(here: Cluster, count: int) -> list[tuple[str, bool, str]]:
    await until(lambda: here.count("SELECT count(*) FROM processes") == count, what=here.last_words)
    return check_fleet(here.address)


async def until_running(here: Cluster, count: int) -> None:
    running = "SELECT count(*) FROM jobs WHERE status = 'running'"
    await until(lambda: here.count(running) >= count, what=here.last_words)


async def test_every_command_is_answered_while_the_database_is_silent(tmp_path: Path) -> None:
    """As with a stand-by that vanished, or a disk that hangs: nothing fails, and nothing answers either."""
    async with short_timeouts_cluster(tmp_path, "gateway-0", "worker-1") as here:
        ada, mo, studio = here.members[0], here.moderators[0], here.channels[0]
        here.forget_connection()
        the_server().freeze()
        try:
            used = [
                await here.discord.slash(mo, studio, "quota grant", member=ada, amount="0.01"),
                await here.discord.slash(mo, studio, "quota block", member=ada),
                await here.discord.slash(mo, studio, "settings show"),
                await here.discord.slash(ada, studio, "imagine", prompt="a silent sea"),
                await here.discord.slash(ada, studio, "usage"),
                await here.discord.slash(ada, studio, "history"),
            ]
            await until(lambda: all(one.answer is not None for one in used), seconds=25)
        finally:
            the_server().thaw()
        await until(lambda: all(one.text or one.follow_ups for one in used), seconds=60, what=here.last_words)
        await here.settled()
        here.audit()
