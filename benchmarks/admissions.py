"""Admissions: how quickly orders are admitted, and whether a million old ones make that any slower."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks.results import Result
from bot.domain.money.quota import LimitSubject, Member, Period, Quota
from bot.store.sqlite.connection import connect
from bot.store.store import Store
from tests.support.store_samples import a_command, limits

CALLERS, PAIRS = 1_000, 11
SERVER_ID, MEMBERS = 1, 1_000
FIRST_AT_MICROS, APART_MICROS = 1_760_000_000_000_000, 2_400_000

_NUMBERS = "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {last})"
_AT = f"({FIRST_AT_MICROS} + i * {APART_MICROS})"


async def admissions() -> list[Result]:
    """Measure 1,000 callers that wait for a commit: on an empty file, and beside 1,000 and 1,000,000 old jobs."""
    with TemporaryDirectory() as folder:
        async with await Store.open(Path(folder) / "empty.sqlite3") as store:
            empty = min([await _admitted(store, 0, attempt) for attempt in range(3)])
        few = await _filled(Path(folder) / "few.sqlite3", 1_000)
        many = await _filled(Path(folder) / "many.sqlite3", 1_000_000)
        ready_seconds = await _ready(many)
        ratio = await _slower_beside(few=(few, 1_000), many=(many, 1_000_000))
    return [
        Result(name="durable admissions, 1,000 callers", value=1 / empty, unit="/s", at_least=2_000),
        Result(name="admission beside 1,000,000 old jobs / 1,000", value=ratio, unit="×", at_most=1.2),
        Result(name="store ready with 1,000,000 old jobs", value=ready_seconds, unit="s", at_most=2),
    ]


async def _slower_beside(*, few: tuple[Path, int], many: tuple[Path, int]) -> float:
    """Return how many times as long an admission takes beside many old jobs as beside few.

    It is the median of pairs, and each pair begins with the other file: a slow phase of the machine hits both.
    """
    async with AsyncExitStack() as stack:
        stores: list[tuple[Store, int]] = []
        for path, old_jobs in (few, many):
            stores.append((await stack.enter_async_context(await Store.open(path)), old_jobs))
        ratios: list[float] = []
        for attempt in range(1 + PAIRS):
            in_turn = reversed(stores) if attempt % 2 else stores
            seconds = {old_jobs: await _admitted(store, old_jobs, attempt) for store, old_jobs in in_turn}
            ratios.append(seconds[many[1]] / seconds[few[1]])
        return median(ratios[1:])  # the first pair warmed up


async def _admitted(store: Store, old_jobs: int, attempt: int) -> float:
    """Return the seconds per admission, with a monthly quota and a monthly cap that count everything in the file."""
    now = datetime.fromtimestamp((FIRST_AT_MICROS + old_jobs * APART_MICROS) / 1_000_000, UTC)
    plenty = Quota(amount_usd_micros=10**12, period=Period.MONTH)
    await store.set_limit(SERVER_ID, LimitSubject.SERVER, None, plenty, actor_id=1, reason=None, now=now)
    bounds = limits(default=plenty)
    members = [Member(guild_id=SERVER_ID, user_id=number + 1) for number in range(CALLERS)]
    first = 10**9 + attempt * CALLERS
    replies = [
        a_command(member=member, now=now, interaction_id=first + number) for number, member in enumerate(members)
    ]
    begun_at = time.perf_counter()
    await asyncio.gather(
        *(
            store.admit(member=member, reply=reply, limits=bounds, now=now)
            for member, reply in zip(members, replies, strict=True)
        )
    )
    return (time.perf_counter() - begun_at) / CALLERS


async def _filled(path: Path, old_jobs: int) -> Path:
    async with await Store.open(path):
        pass
    await asyncio.to_thread(_fill, path, old_jobs)
    return path


async def _ready(path: Path) -> float:
    """Return the seconds until everything that a start reads has been read."""
    begun_at = time.perf_counter()
    async with await Store.open(path) as store:
        await store.recent_durations(25)
        await store.unfinished()
        return time.perf_counter() - begun_at


def _fill(path: Path, jobs: int) -> None:
    """Insert settled jobs of 1,000 members of one server, one every 2.4 seconds: a million of them are a month."""
    numbers = _NUMBERS.format(last=jobs - 1)
    connection = connect(path)
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("PRAGMA cache_size = -200000")
    with connection:
        connection.execute("BEGIN")
        connection.execute("INSERT INTO accounts (kind, guild_id) VALUES ('server', ?)", (SERVER_ID,))
        server_account = connection.execute("SELECT max(id) FROM accounts").fetchone()[0]
        members = _NUMBERS.format(last=MEMBERS - 1)
        connection.execute(
            f"INSERT INTO accounts (kind, guild_id, user_id) {members} SELECT 'member', {SERVER_ID}, i + 1 FROM n"
        )
        for statement in _FILLING:
            connection.execute(statement.format(numbers=numbers, at=_AT, server_account=server_account))
    connection.close()


_FILLING = (
    """
    INSERT INTO replies (id, user_id, role_ids, application_id, interaction_id, token, token_expires_at, guild_id,
        channel_id, message_id, private, file_limit_bytes, locale, language, accepted, delivery, created_at)
    {numbers} SELECT printf('%024x', i), i % 1000 + 1, '[]', 1, i, NULL, 1, 1, 1, 1, 0, 1, 'en', 'en', 1, 'delivered',
        {at} FROM n
    """,
    """
    INSERT INTO jobs (id, reply_id, ordinal, guild_id, user_id, kind, model_id, prompt, options, provider, path, body,
        reserved_usd_micros, status, created_at)
    {numbers} SELECT printf('%024x', i), printf('%024x', i), 0, 1, i % 1000 + 1, 'imagine',
        'krea/google/nano-banana-2', 'a cat on a hill', '{{}}', 'krea', '/x', '{{"prompt":"a cat on a hill"}}', 80000,
        'queued', {at}
    FROM n
    """,
    """
    INSERT INTO reservations (job_id, member_account_id, server_account_id, quarter, limit_usd_micros, window_start_at,
        window_end_at, reserved_usd_micros, held_usd_micros, reserved_at)
    {numbers} SELECT printf('%024x', i), (SELECT min(id) FROM accounts WHERE kind = 'member') + i % 1000,
        {server_account}, {at} / 900000000, NULL, {at} - 1, {at} + 1, 80000, 80000, {at}
    FROM n
    """,
    """
    UPDATE reservations
    SET state = 'settled', held_usd_micros = 0, settled_usd_micros = 80000, resolved_at = reserved_at + 1
    """,
    "UPDATE jobs SET status = 'submitting', submitted_at = created_at",
    "UPDATE jobs SET status = 'running', remote_id = id",
    "UPDATE jobs SET status = 'succeeded', charged_usd_micros = 80000, finished_at = created_at + 30000000",
)
"""Statements that fill a file like a month of use. Each status is set in turn: the schema checks the order."""
