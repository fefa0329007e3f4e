"""Verification of the ledger: checks every invariant over the whole database and lists what breaks one.

It relies on no trigger, CHECK or running total, but computes each again from the ledger entries.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bot.domain.deployment.database_url import Location, PostgresAddress
from bot.domain.errors import StoreError
from bot.domain.money.quota import format_usd
from bot.store.admin.readonly import open_server_readonly
from bot.store.core.columns import QUARTER_MICROS
from bot.store.core.connection import Connection, Row
from bot.store.postgres import schema as postgres_schema
from bot.store.postgres.connection import PostgresConnection
from bot.store.sqlite import schema
from bot.store.sqlite.connection import SqliteConnection, connect_for_reading


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One violation of an invariant: the rule and where it is broken."""

    rule: str
    detail: str


_EVERY_JOB_IS_RESERVED = """
SELECT jobs.id || ' has no reservation' FROM jobs LEFT JOIN reservations ON job_id = jobs.id WHERE job_id IS NULL
UNION ALL
SELECT jobs.id || ' reserved ' || reservations.reserved_usd_micros || ', not ' || jobs.reserved_usd_micros
FROM jobs JOIN reservations ON job_id = jobs.id WHERE reservations.reserved_usd_micros <> jobs.reserved_usd_micros
"""
_RESERVED_WITH_THE_RIGHT_ACCOUNTS = """
SELECT jobs.id || ' is paid by another member'
FROM jobs JOIN reservations ON job_id = jobs.id
    LEFT JOIN accounts member ON member.id = member_account_id AND member.kind = 'member'
    LEFT JOIN accounts server ON server.id = server_account_id AND server.kind = 'server'
WHERE member.guild_id IS NULL OR member.guild_id <> jobs.guild_id
    OR server.guild_id IS NULL OR server.guild_id <> jobs.guild_id
    OR (member.user_id IS NOT NULL AND jobs.user_id IS NOT NULL AND member.user_id <> jobs.user_id)
"""
_RESOLVED_WHEN_THE_JOB_ENDS = """
SELECT jobs.id || ' is ' || jobs.status || ', its reservation ' || state
FROM jobs JOIN reservations ON job_id = jobs.id
WHERE state <> CASE
    WHEN jobs.status = 'succeeded' AND jobs.charged_usd_micros > 0 THEN 'settled'
    WHEN jobs.id IN (SELECT job_id FROM refunds) THEN 'settled'
    WHEN jobs.status IN ('succeeded', 'failed', 'cancelled') THEN 'released'
    ELSE 'open'
END
"""
_CHARGED_AS_SHOWN = """
SELECT jobs.id || ' shows ' || coalesce(CAST(charged_usd_micros AS TEXT), 'nothing') || ', was charged '
    || settled_usd_micros
FROM jobs JOIN reservations ON job_id = jobs.id
WHERE coalesce(charged_usd_micros, 0) <> settled_usd_micros
    - coalesce((SELECT usd_micros FROM refunds WHERE refunds.job_id = jobs.id), 0)
"""
_REFUNDED_WHEN_LOST = """
SELECT refunds.job_id || ' was given back ' || usd_micros || ' of ' || coalesce(settled_usd_micros, 0) || ', and is '
    || coalesce(jobs.failure_reason, jobs.status)
FROM refunds LEFT JOIN reservations ON reservations.job_id = refunds.job_id LEFT JOIN jobs ON jobs.id = refunds.job_id
WHERE coalesce(state, '') <> 'settled' OR usd_micros <> settled_usd_micros
    OR refunds.wallet_usd_micros <> wallet_settled_usd_micros OR coalesce(jobs.failure_reason, '') <> 'image_lost'
"""
_CHARGED_ONLY_FOR_IMAGES = """
SELECT job_id || ' was charged without a picture' FROM reservations
WHERE settled_usd_micros > 0 AND NOT EXISTS (SELECT 1 FROM pictures WHERE pictures.job_id = reservations.job_id)
    AND job_id NOT IN (SELECT job_id FROM refunds)
    AND NOT EXISTS (  -- unless the member asked to be forgotten, or the order was deleted
        SELECT 1 FROM jobs JOIN replies ON replies.id = reply_id
        WHERE jobs.id = reservations.job_id AND erased_at IS NOT NULL
            AND (jobs.user_id IS NULL OR deleted_at IS NOT NULL)
    )
"""
_ERASED_IS_GONE = """
SELECT id || ' was erased, but something of it is left' FROM jobs
WHERE erased_at IS NOT NULL AND (
    prompt <> '' OR options <> '{}' OR body <> '{}' OR seed IS NOT NULL OR failure_hint <> ''
    OR EXISTS (SELECT 1 FROM inputs WHERE inputs.job_id = jobs.id)
)
UNION ALL
SELECT replies.id || ' was deleted, but something of it is left' FROM replies JOIN jobs ON jobs.reply_id = replies.id
WHERE deleted_at IS NOT NULL AND (
    erased_at IS NULL OR message_id IS NOT NULL OR token IS NOT NULL
    OR EXISTS (SELECT 1 FROM pictures WHERE pictures.job_id = jobs.id)
    OR EXISTS (SELECT 1 FROM reply_copies WHERE reply_copies.reply_id = replies.id)
    OR EXISTS (SELECT 1 FROM shared_images WHERE shared_images.reply_id = replies.id)
    OR EXISTS (SELECT 1 FROM reviews WHERE reviews.reply_id = replies.id)
    OR EXISTS (SELECT 1 FROM votes WHERE votes.reply_id = replies.id)
    OR EXISTS (SELECT 1 FROM favourites WHERE favourites.reply_id = replies.id)
)
"""
_LATE_IS_FREE = """
SELECT jobs.id || ' came late and was charged' FROM jobs
WHERE late_at IS NOT NULL AND (status <> 'succeeded' OR charged_usd_micros <> 0)
UNION ALL
SELECT jobs.id || ' is followed, but ' || status FROM jobs WHERE follow_until_at IS NOT NULL AND status <> 'failed'
UNION ALL
SELECT job_id || ' cost something late, but is ' || state FROM reservations
WHERE late_cost_at IS NOT NULL AND state <> 'released'
"""
_NEVER_MORE_THAN_RESERVED = """
SELECT job_id || ' was charged ' || settled_usd_micros || ' of ' || reserved_usd_micros FROM reservations
WHERE settled_usd_micros NOT BETWEEN 0 AND reserved_usd_micros
"""
_SENT_AT_MOST_ONCE = """
SELECT provider || ' ' || remote_id || ' belongs to ' || count(*) || ' jobs' FROM jobs
WHERE remote_id IS NOT NULL GROUP BY provider, remote_id HAVING count(*) > 1
"""
_SENT_ONLY_WHEN_ACCEPTED = """
SELECT jobs.id || ' was sent before Discord accepted the reply' FROM jobs JOIN replies ON replies.id = reply_id
WHERE submitted_at IS NOT NULL AND NOT accepted
"""
_ONE_COMMAND_ONE_REPLY = """
SELECT 'command ' || interaction_id || ' has ' || count(*) || ' replies' FROM replies
GROUP BY interaction_id HAVING count(*) > 1
"""
_EVERY_REPLY_HAS_ITS_JOBS = """
SELECT replies.id || ' shows ' || count(jobs.id) || ' jobs, numbered up to '
    || coalesce(CAST(max(ordinal) AS TEXT), 'nothing')
FROM replies LEFT JOIN jobs ON jobs.reply_id = replies.id GROUP BY replies.id
HAVING count(jobs.id) = 0 OR max(ordinal) <> count(jobs.id) - 1
"""
_EVERY_TRANSFER_SUMS_TO_ZERO = """
SELECT 'entry ' || id || ': ' || kind || ' ' || amount_usd_micros || ' from ' || from_bucket || ' to ' || to_bucket
FROM ledger WHERE amount_usd_micros <= 0 OR from_bucket = to_bucket
    OR kind || ': ' || from_bucket || ' to ' || to_bucket NOT IN (
        'reserve: available to set_aside', 'settle: set_aside to spent', 'remainder: set_aside to available',
        'release: set_aside to available', 'house: available to spent'
    )
"""
_EVERY_ENTRY_ONCE = """
SELECT job_id || ' has ' || count(*) || ' entries of one sort'
FROM ledger GROUP BY job_id, CASE kind WHEN 'settle' THEN 'resolve' WHEN 'release' THEN 'resolve' ELSE kind END
HAVING count(*) > 1
"""
# What a reservation takes from the quota must equal the sums of its entries.
_RESERVATIONS_EQUAL_THEIR_ENTRIES = """
WITH entries AS (
    SELECT job_id,
        sum(CASE kind WHEN 'reserve' THEN amount_usd_micros ELSE 0 END) AS reserved,
        sum(CASE kind WHEN 'settle' THEN amount_usd_micros ELSE 0 END) AS settled,
        sum(CASE kind WHEN 'house' THEN amount_usd_micros ELSE 0 END) AS house,
        sum(CASE 'set_aside' WHEN to_bucket THEN amount_usd_micros WHEN from_bucket THEN -amount_usd_micros ELSE 0 END)
            AS held,
        max(CASE WHEN account_id <> CASE kind WHEN 'house' THEN 2 ELSE
            (SELECT member_account_id FROM reservations WHERE reservations.job_id = ledger.job_id) END
        THEN 1 ELSE 0 END) AS foreign_accounts
    FROM ledger GROUP BY job_id
)
SELECT reservations.job_id || ' does not equal its ledger entries' FROM reservations
    LEFT JOIN entries ON entries.job_id = reservations.job_id
WHERE reserved_usd_micros - wallet_usd_micros <> coalesce(reserved, 0)
    OR settled_usd_micros - wallet_settled_usd_micros <> coalesce(settled, 0)
    OR house_usd_micros <> coalesce(house, 0)
    OR held_usd_micros - CASE state WHEN 'open' THEN wallet_usd_micros ELSE 0 END <> coalesce(held, 0)
    OR foreign_accounts > 0
UNION ALL
SELECT job_id || ' has ledger entries but no reservation' FROM entries
WHERE job_id NOT IN (SELECT job_id FROM reservations)
"""
_TOTALS_EQUAL_THE_RESERVATIONS = """
WITH parts AS (
    SELECT member_account_id AS account_id, quarter, held_usd_micros AS held, settled_usd_micros AS settled,
        house_usd_micros AS cost, CASE state WHEN 'open' THEN wallet_usd_micros ELSE 0 END AS wallet_held,
        wallet_settled_usd_micros AS wallet_settled
    FROM reservations
    UNION ALL SELECT server_account_id, quarter, held_usd_micros, settled_usd_micros, house_usd_micros,
        CASE state WHEN 'open' THEN wallet_usd_micros ELSE 0 END, wallet_settled_usd_micros
    FROM reservations
    UNION ALL SELECT 1, quarter, held_usd_micros, settled_usd_micros, house_usd_micros,
        CASE state WHEN 'open' THEN wallet_usd_micros ELSE 0 END, wallet_settled_usd_micros
    FROM reservations
    UNION ALL SELECT member_account_id, quarter, 0, -usd_micros, usd_micros, 0, -refunds.wallet_usd_micros
    FROM refunds JOIN reservations ON reservations.job_id = refunds.job_id
    UNION ALL SELECT server_account_id, quarter, 0, -usd_micros, usd_micros, 0, -refunds.wallet_usd_micros
    FROM refunds JOIN reservations ON reservations.job_id = refunds.job_id
    UNION ALL SELECT 1, quarter, 0, -usd_micros, usd_micros, 0, -refunds.wallet_usd_micros
    FROM refunds JOIN reservations ON reservations.job_id = refunds.job_id
    UNION ALL SELECT account_id, quarter, -held_usd_micros, -settled_usd_micros, -operator_cost_usd_micros,
        -wallet_held_usd_micros, -wallet_settled_usd_micros
    FROM totals
)
SELECT 'account ' || account_id || ', quarter ' || quarter || ': held off by ' || sum(held)
    || ', settled by ' || sum(settled) || ', operator''s cost by ' || sum(cost)
    || ', wallets by ' || sum(wallet_held) || ' and ' || sum(wallet_settled)
FROM parts GROUP BY account_id, quarter
HAVING sum(held) <> 0 OR sum(settled) <> 0 OR sum(cost) <> 0 OR sum(wallet_held) <> 0 OR sum(wallet_settled) <> 0
"""
_DAYS_EQUAL_THEIR_QUARTERS = """
WITH parts AS (
    SELECT account_id, quarter / 96 AS day, held_usd_micros AS held, settled_usd_micros AS settled,
        forgiven_usd_micros AS forgiven, operator_cost_usd_micros AS cost, wallet_held_usd_micros AS wallet_held,
        wallet_settled_usd_micros AS wallet_settled
    FROM totals
    UNION ALL
    SELECT account_id, day, -held_usd_micros, -settled_usd_micros, -forgiven_usd_micros, -operator_cost_usd_micros,
        -wallet_held_usd_micros, -wallet_settled_usd_micros
    FROM daily_totals
)
SELECT 'account ' || account_id || ', day ' || day || ': held off by ' || sum(held) || ', settled by ' || sum(settled)
    || ', forgiven by ' || sum(forgiven) || ', operator''s cost by ' || sum(cost)
    || ', wallets by ' || sum(wallet_held) || ' and ' || sum(wallet_settled)
FROM parts GROUP BY account_id, day
HAVING sum(held) <> 0 OR sum(settled) <> 0 OR sum(forgiven) <> 0 OR sum(cost) <> 0 OR sum(wallet_held) <> 0
    OR sum(wallet_settled) <> 0
"""
_CHANNEL_TOTALS_EQUAL_THE_RESERVATIONS = """
WITH parts AS (
    SELECT channel_id, quarter, held_usd_micros AS held, settled_usd_micros AS settled
    FROM reservations WHERE channel_id IS NOT NULL
    UNION ALL SELECT category_id, quarter, held_usd_micros, settled_usd_micros
    FROM reservations WHERE category_id IS NOT NULL
    UNION ALL SELECT channel_id, quarter, 0, -usd_micros
    FROM refunds JOIN reservations ON reservations.job_id = refunds.job_id WHERE channel_id IS NOT NULL
    UNION ALL SELECT category_id, quarter, 0, -usd_micros
    FROM refunds JOIN reservations ON reservations.job_id = refunds.job_id WHERE category_id IS NOT NULL
    UNION ALL SELECT channel_id, quarter, -held_usd_micros, -settled_usd_micros FROM channel_totals
)
SELECT 'channel ' || channel_id || ', quarter ' || quarter || ': held off by ' || sum(held)
    || ', settled by ' || sum(settled)
FROM parts GROUP BY channel_id, quarter HAVING sum(held) <> 0 OR sum(settled) <> 0
"""
_CHANNEL_DAYS_EQUAL_THEIR_QUARTERS = """
WITH parts AS (
    SELECT channel_id, quarter / 96 AS day, held_usd_micros AS held, settled_usd_micros AS settled FROM channel_totals
    UNION ALL SELECT channel_id, day, -held_usd_micros, -settled_usd_micros FROM channel_daily_totals
)
SELECT 'channel ' || channel_id || ', day ' || day || ': held off by ' || sum(held) || ', settled by ' || sum(settled)
FROM parts GROUP BY channel_id, day HAVING sum(held) <> 0 OR sum(settled) <> 0
"""
_EVERY_WALLET_TRANSFER_SUMS_TO_ZERO = """
SELECT 'wallet entry ' || id || ': ' || kind || ' ' || amount_usd_micros || ' from ' || from_bucket || ' to '
    || to_bucket
FROM wallet_ledger WHERE amount_usd_micros <= 0 OR from_bucket = to_bucket
    OR kind || ': ' || from_bucket || ' to ' || to_bucket NOT IN (
        'credit: paid_in to available', 'take_back: available to paid_in', 'reserve: available to set_aside',
        'settle: set_aside to spent', 'remainder: set_aside to available', 'release: set_aside to available'
    )
    OR (kind IN ('credit', 'take_back')) <> (entitlement_id IS NOT NULL)
    OR (entitlement_id IS NULL) <> (job_id IS NOT NULL)
UNION ALL
SELECT coalesce(job_id, 'purchase ' || entitlement_id) || ' has ' || count(*) || ' wallet entries of one sort'
FROM wallet_ledger
GROUP BY job_id, entitlement_id, CASE kind WHEN 'settle' THEN 'resolve' WHEN 'release' THEN 'resolve' ELSE kind END
HAVING count(*) > 1
"""
_PURCHASES_EQUAL_THEIR_ENTRIES = """
WITH entries AS (
    SELECT entitlement_id, min(wallet_id) AS wallet_id, max(wallet_id) AS other_wallet_id,
        sum(CASE kind WHEN 'credit' THEN amount_usd_micros ELSE 0 END) AS credited,
        sum(CASE kind WHEN 'take_back' THEN amount_usd_micros ELSE 0 END) AS taken_back
    FROM wallet_ledger WHERE entitlement_id IS NOT NULL GROUP BY entitlement_id
)
SELECT 'purchase ' || id || ' does not equal its wallet entries' FROM entitlements
    LEFT JOIN entries ON entitlement_id = id
WHERE amount_usd_micros <> coalesce(credited, 0) OR taken_back_usd_micros <> coalesce(taken_back, 0)
    OR taken_back_usd_micros NOT BETWEEN 0 AND amount_usd_micros
    OR entries.wallet_id <> entitlements.wallet_id OR other_wallet_id <> entitlements.wallet_id
UNION ALL
SELECT 'purchase ' || entitlement_id || ' has wallet entries but is not recorded' FROM entries
WHERE entitlement_id NOT IN (SELECT id FROM entitlements)
"""
# A job is paid from the quota first. Whose wallet it was is not known any more once a member was forgotten.
_WALLET_PARTS_EQUAL_THEIR_ENTRIES = """
WITH entries AS (
    SELECT job_id, min(wallet_id) AS wallet_id, max(wallet_id) AS other_wallet_id,
        sum(CASE kind WHEN 'reserve' THEN amount_usd_micros ELSE 0 END) AS reserved,
        sum(CASE kind WHEN 'settle' THEN amount_usd_micros ELSE 0 END) AS settled,
        sum(CASE 'set_aside' WHEN to_bucket THEN amount_usd_micros WHEN from_bucket THEN -amount_usd_micros ELSE 0 END)
            AS held
    FROM wallet_ledger WHERE job_id IS NOT NULL GROUP BY job_id
)
SELECT reservations.job_id || ' does not equal its wallet entries' FROM reservations
    LEFT JOIN entries ON entries.job_id = reservations.job_id
WHERE wallet_usd_micros <> coalesce(reserved, 0) OR wallet_settled_usd_micros <> coalesce(settled, 0)
    OR CASE state WHEN 'open' THEN wallet_usd_micros ELSE 0 END <> coalesce(held, 0)
    OR wallet_usd_micros NOT BETWEEN 0 AND reserved_usd_micros
    OR wallet_settled_usd_micros <> CASE WHEN settled_usd_micros > reserved_usd_micros - wallet_usd_micros
        THEN settled_usd_micros - (reserved_usd_micros - wallet_usd_micros) ELSE 0 END
    OR entries.wallet_id <> reservations.wallet_id OR other_wallet_id <> reservations.wallet_id
    OR (wallet_usd_micros > 0 AND reservations.wallet_id IS NULL)
    OR (SELECT user_id FROM wallets WHERE wallets.id = reservations.wallet_id)
        <> (SELECT user_id FROM jobs WHERE jobs.id = reservations.job_id)
UNION ALL
SELECT job_id || ' has wallet entries but no reservation' FROM entries
WHERE job_id NOT IN (SELECT job_id FROM reservations)
"""
_WALLETS_EQUAL_THEIR_ENTRIES = """
WITH entries AS (
    SELECT wallet_id,
        sum(CASE 'available' WHEN to_bucket THEN amount_usd_micros WHEN from_bucket THEN -amount_usd_micros ELSE 0 END)
            AS available,
        sum(CASE 'set_aside' WHEN to_bucket THEN amount_usd_micros WHEN from_bucket THEN -amount_usd_micros ELSE 0 END)
            AS held
    FROM wallet_ledger GROUP BY wallet_id
)
SELECT 'wallet ' || id || ' does not equal its entries' FROM wallets LEFT JOIN entries ON wallet_id = id
WHERE available_usd_micros <> coalesce(available, 0) + coalesce((
        SELECT sum(refunds.wallet_usd_micros) FROM refunds JOIN reservations ON reservations.job_id = refunds.job_id
        WHERE reservations.wallet_id = wallets.id
    ), 0)
    OR held_usd_micros <> coalesce(held, 0)
UNION ALL
SELECT 'wallet ' || wallet_id || ' has entries but is missing' FROM entries
WHERE wallet_id NOT IN (SELECT id FROM wallets)
"""
_NO_WALLET_WAS_OVERDRAWN = """
SELECT 'wallet ' || wallet_id || ' was short by ' || -left_then || ' at entry ' || id FROM (
    SELECT id, wallet_id, sum(usd_micros) OVER (PARTITION BY wallet_id ORDER BY id, is_refund) AS left_then
    FROM (
        SELECT id, wallet_id, 0 AS is_refund, CASE 'available'
            WHEN to_bucket THEN amount_usd_micros WHEN from_bucket THEN -amount_usd_micros ELSE 0 END AS usd_micros
        FROM wallet_ledger
        UNION ALL SELECT through_wallet_ledger_id, wallet_id, 1, refunds.wallet_usd_micros
        FROM refunds JOIN reservations ON reservations.job_id = refunds.job_id WHERE wallet_id IS NOT NULL
    ) AS changes
) AS history WHERE left_then < 0
"""

_RULES = {
    "every job is reserved at its price": _EVERY_JOB_IS_RESERVED,
    "every job is paid by its member, in its server": _RESERVED_WITH_THE_RIGHT_ACCOUNTS,
    "a reservation ends exactly when its job does": _RESOLVED_WHEN_THE_JOB_ENDS,
    "what is shown is what was charged": _CHARGED_AS_SHOWN,
    "a charge needs a picture": _CHARGED_ONLY_FOR_IMAGES,
    "what was erased is gone": _ERASED_IS_GONE,
    "what comes late is free": _LATE_IS_FREE,
    "a refund is of the whole charge for a lost image": _REFUNDED_WHEN_LOST,
    "never charged more than reserved": _NEVER_MORE_THAN_RESERVED,
    "a remote job belongs to one job": _SENT_AT_MOST_ONCE,
    "nothing is sent before Discord accepted the reply": _SENT_ONLY_WHEN_ACCEPTED,
    "one command, one reply": _ONE_COMMAND_ONE_REPLY,
    "every reply has its jobs": _EVERY_REPLY_HAS_ITS_JOBS,
    "every transfer sums to zero": _EVERY_TRANSFER_SUMS_TO_ZERO,
    "every reservation is booked and resolved once": _EVERY_ENTRY_ONCE,
    "reservations equal their ledger entries": _RESERVATIONS_EQUAL_THEIR_ENTRIES,
    "totals equal the reservations": _TOTALS_EQUAL_THE_RESERVATIONS,
    "days equal their quarters": _DAYS_EQUAL_THEIR_QUARTERS,
    "totals of channels equal the reservations": _CHANNEL_TOTALS_EQUAL_THE_RESERVATIONS,
    "days of channels equal their quarters": _CHANNEL_DAYS_EQUAL_THEIR_QUARTERS,
    "every transfer of a wallet sums to zero, once": _EVERY_WALLET_TRANSFER_SUMS_TO_ZERO,
    "purchases equal their wallet entries": _PURCHASES_EQUAL_THEIR_ENTRIES,
    "what wallets pay equals their entries": _WALLET_PARTS_EQUAL_THEIR_ENTRIES,
    "wallets equal their entries": _WALLETS_EQUAL_THEIR_ENTRIES,
    "no wallet was overdrawn": _NO_WALLET_WAS_OVERDRAWN,
}
WITHIN_QUOTA = "no reservation exceeded its quota when it was granted"
FORGIVEN = "forgiven is what the resets forgave"
SOUND = "the database is sound"
SCHEMA = "the schema is the program's"

_HISTORY = """
SELECT ledger.kind, ledger.amount_usd_micros AS amount, ledger.id AS ledger_id, reservations.job_id,
    reservations.member_account_id AS account_id, reservations.quarter, reservations.limit_usd_micros,
    reservations.window_start_at, reservations.window_end_at
FROM ledger JOIN reservations ON reservations.job_id = ledger.job_id
WHERE ledger.kind <> 'house' ORDER BY ledger.id
"""
_RESETS = "SELECT * FROM adjustments WHERE kind = 'reset' ORDER BY through_ledger_id, id"
_REFUNDS = """
SELECT member_account_id AS account_id, quarter, usd_micros - refunds.wallet_usd_micros AS amount,
    forgiven_usd_micros AS forgiven, refunds.through_ledger_id
FROM refunds JOIN reservations ON reservations.job_id = refunds.job_id ORDER BY refunds.through_ledger_id
"""
_FORGIVEN = "SELECT account_id, quarter, forgiven_usd_micros FROM totals"


def verify_location(location: Location) -> list[Finding]:
    """Check a database that may be in use. Raises StoreError, DatabaseUnusable."""
    return verify_file(location) if isinstance(location, Path) else verify_server(location)


def verify_file(path: Path) -> list[Finding]:
    """Check a file that may be in use. Raises StoreError, and DatabaseUnusable for a file that is not ours."""
    if not path.is_file():
        raise StoreError(f"There is no database {path}.")
    schema.check_header(path)
    try:
        with closing(connect_for_reading(path)) as connection:
            schema.check_ours(connection, path)
            if schema.version_of(connection) < schema.newest_version():
                raise _older(path)
            return verify(connection)
    except sqlite3.DatabaseError as error:
        raise schema.unusable(path, f"is damaged ({error})") from error


def verify_server(address: PostgresAddress) -> list[Finding]:
    """Check a database on a server, as `verify_file` does a file."""
    with open_server_readonly(address) as connection:
        if postgres_schema.version_of(connection) < postgres_schema.newest_version():
            raise _older(address)
        expected = postgres_schema.expected_objects(connection)
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        return findings_of_server(connection, expected)


def _older(location: Location) -> StoreError:
    return StoreError(f"{location} is of an older version. Start the bot on it once, which makes a backup of a file.")


def findings_of_server(connection: PostgresConnection, expected: Mapping[str, str]) -> list[Finding]:
    """Check every invariant in the caller's transaction, and that the schema is `expected`."""
    findings = list(_schema_findings(expected, postgres_schema.objects(connection)))
    findings += [Finding(rule=SOUND, detail=detail) for detail in postgres_schema.violations(connection)]
    return [*findings, *_ledger_findings(connection, connection.stream)]


def verify(connection: SqliteConnection) -> list[Finding]:
    """Check every invariant of a file in one transaction."""
    connection.execute("BEGIN")
    try:
        return [*_file_findings(connection), *_ledger_findings(connection, connection.execute)]
    finally:
        connection.execute("ROLLBACK")


def _file_findings(connection: sqlite3.Connection) -> Iterator[Finding]:
    for (message,) in connection.execute("PRAGMA integrity_check"):
        if message != "ok":
            yield Finding(rule=SOUND, detail=message)
    for row in connection.execute("PRAGMA foreign_key_check"):
        yield Finding(rule=SOUND, detail=f"row {row[1]} of {row[0]} refers to a missing row of {row[2]}")
    yield from _schema_findings(schema.expected_objects(), schema.schema_objects(connection))


def _schema_findings(expected: Mapping[str, str], actual: Mapping[str, str]) -> Iterator[Finding]:
    for name in sorted(expected.keys() | actual.keys()):
        if expected.get(name) != actual.get(name):
            yield Finding(rule=SCHEMA, detail=f"{name} is missing, changed or not ours")


def _ledger_findings(connection: Connection, stream: Callable[[str], Iterable[Any]]) -> Iterator[Finding]:
    """Check every rule. `stream` runs a query whose result may not fit in memory."""
    for rule, query in _RULES.items():
        for (detail,) in connection.execute(query):
            yield Finding(rule=rule, detail=detail)
    yield from _replay(connection, stream)


@dataclass(slots=True)
class _Account:
    """One member's amounts per quarter hour while the ledger is replayed."""

    held: defaultdict[int, int] = field(default_factory=lambda: defaultdict(int))
    settled: defaultdict[int, int] = field(default_factory=lambda: defaultdict(int))
    forgiven: defaultdict[int, int] = field(default_factory=lambda: defaultdict(int))

    def used(self, first: int, end: int) -> int:
        """Return the amount that counts against the quota in the quarters from `first` up to but without `end`."""
        if end - first < len(self.held):
            quarters = [quarter for quarter in range(first, end) if quarter in self.held]
        else:
            quarters = [quarter for quarter in self.held if first <= quarter < end]
        return sum(self.held[quarter] + self.settled[quarter] - self.forgiven[quarter] for quarter in quarters)

    def forgive(self, first: int, end: int) -> None:
        """Count nothing that was settled in these quarters: a moderator reset the quota."""
        for quarter, amount in self.settled.items():
            if first <= quarter < end:
                self.forgiven[quarter] = amount


def _replay(connection: Connection, stream: Callable[[str], Iterable[Any]]) -> Iterator[Finding]:
    """Replay the ledger entry by entry, and check that each reservation was within its quota when it was granted."""
    accounts: defaultdict[int, _Account] = defaultdict(_Account)
    # A reset forgives what is settled then, so it does not matter that a refund comes before one of the same time.
    resets = connection.execute(_RESETS).fetchall()[::-1]
    refunds = connection.execute(_REFUNDS).fetchall()[::-1]
    for row in stream(_HISTORY):
        _correct(accounts, resets, refunds, before_ledger_id=row["ledger_id"])
        account, quarter, amount = accounts[row["account_id"]], row["quarter"], row["amount"]
        if row["kind"] == "reserve":
            limit = row["limit_usd_micros"]
            if limit is not None and (used := account.used(*_quarters(row))) + amount > limit:
                detail = f"{row['job_id']}: {format_usd(amount)} after {format_usd(used)} of {format_usd(limit)}"
                yield Finding(rule=WITHIN_QUOTA, detail=detail)
            account.held[quarter] += amount
        else:
            account.held[quarter] -= amount
        if row["kind"] == "settle":
            account.settled[quarter] += amount
    _correct(accounts, resets, refunds, before_ledger_id=None)
    for account_id, quarter, forgiven in connection.execute(_FORGIVEN).fetchall():
        expected = accounts[account_id].forgiven[quarter] if account_id in accounts else 0
        if forgiven != expected:
            detail = f"account {account_id}, quarter {quarter}: {format_usd(forgiven)}, not {format_usd(expected)}"
            yield Finding(rule=FORGIVEN, detail=detail)


def _correct(
    accounts: defaultdict[int, _Account], resets: list[Row], refunds: list[Row], *, before_ledger_id: int | None
) -> None:
    """Take resets and refunds from the ends of their lists and apply them, in the order of their times."""
    while True:
        reset_at = resets[-1]["through_ledger_id"] if resets else None
        refund_at = refunds[-1]["through_ledger_id"] if refunds else None
        is_refund = refund_at is not None and (reset_at is None or refund_at <= reset_at)
        next_at = refund_at if is_refund else reset_at
        if next_at is None or (before_ledger_id is not None and next_at >= before_ledger_id):
            return
        if is_refund:
            refund = refunds.pop()
            account, quarter = accounts[refund["account_id"]], refund["quarter"]
            account.settled[quarter] -= refund["amount"]
            account.forgiven[quarter] -= refund["forgiven"]
        else:
            _forgive(accounts, resets.pop())


def _forgive(accounts: defaultdict[int, _Account], reset: Row) -> None:
    accounts[reset["account_id"]].forgive(*_quarters(reset))


def _quarters(row: Row) -> tuple[int, int]:
    return row["window_start_at"] // QUARTER_MICROS, row["window_end_at"] // QUARTER_MICROS
