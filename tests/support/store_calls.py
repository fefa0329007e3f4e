"""Every change of a job or of money: the preparation of the database, and the call itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from bot.domain.jobs import Delivery, Failure, FailureReason, JobStatus, Reply
from bot.domain.money.quota import LimitSubject
from bot.store.sqlite.connection import connect_for_reading
from bot.store.store import Store
from tests.support.store_samples import (
    A_DOLLAR_A_DAY,
    ADA,
    NOON,
    a_command,
    admitted,
    an_image,
    finished,
    limits,
    running,
)

MODERATOR: dict[str, Any] = {"actor_id": 1, "reason": "because", "now": NOON}


@dataclass(frozen=True, kw_only=True)
class Call:
    """One change: `prepare` brings the database into the state before it, `make` applies it."""

    prepare: Callable[[Store], Awaitable[Reply]]
    make: Callable[[Store, Reply], Awaitable[Any]]


async def nothing_yet(store: Store) -> Reply:
    await admitted(store)
    return a_command(80_000, 40_000)


async def unseen(store: Store) -> Reply:
    reply = a_command(80_000, 40_000)
    await store.admit(member=ADA, reply=reply, limits=limits(), now=NOON)
    return reply


async def in_line(store: Store) -> Reply:
    return await admitted(store)


async def leaving(store: Store) -> Reply:
    reply = await admitted(store)
    await _begin(store, reply)
    return reply


async def at_the_provider(store: Store) -> Reply:
    reply = await admitted(store)
    await running(store, reply.jobs[0].id)
    return reply


async def followed(store: Store) -> Reply:
    reply = await leaving(store)
    await store.mark_uncertain(_first(reply))
    await _give_up(store, reply)
    return reply


async def found_late(store: Store) -> Reply:
    reply = await followed(store)
    await _find_late(store, reply)
    return reply


def _give_up(store: Store, reply: Reply) -> Awaitable[Any]:
    failure, until = Failure(reason=FailureReason.OUTCOME_UNKNOWN), NOON + timedelta(hours=2)
    return store.fail(_first(reply), failure, now=NOON, follow_until=until)


def _find_late(store: Store, reply: Reply) -> Awaitable[Any]:
    return store.mark_found(_first(reply), remote_id="theirs", follow_until=NOON + timedelta(hours=4))


async def made(store: Store) -> Reply:
    reply = await admitted(store)
    await finished(store, reply.jobs[0].id)
    return reply


def _begin(store: Store, reply: Reply) -> Awaitable[Any]:
    deadline_at = NOON + timedelta(minutes=10)
    return store.begin_submission(reply.jobs[0].id, now=NOON, deadline_at=deadline_at, webhook_token="secret")


def _first(reply: Reply) -> str:
    return reply.jobs[0].id


CALLS = {
    "admit": Call(
        prepare=nothing_yet, make=lambda store, reply: store.admit(member=ADA, reply=reply, limits=limits(), now=NOON)
    ),
    "accept": Call(prepare=unseen, make=lambda store, reply: store.accept(reply.id, message_id=9)),
    "begin_submission": Call(prepare=in_line, make=_begin),
    "back_to_line": Call(prepare=leaving, make=lambda store, reply: store.requeue(_first(reply))),
    "mark_running": Call(
        prepare=leaving, make=lambda store, reply: store.mark_running(_first(reply), remote_id="theirs")
    ),
    "mark_uncertain": Call(prepare=leaving, make=lambda store, reply: store.mark_uncertain(_first(reply))),
    "mark_unfetched": Call(
        prepare=at_the_provider, make=lambda store, reply: store.mark_unfetched(_first(reply), now=NOON)
    ),
    "succeed": Call(
        prepare=at_the_provider,
        make=lambda store, reply: store.succeed(
            _first(reply), charged_usd_micros=60_000, operator_cost_usd_micros=5_000, images=[an_image()], now=NOON
        ),
    ),
    "lose_images": Call(prepare=made, make=lambda store, reply: store.lose_images(_first(reply), now=NOON)),
    "fail": Call(
        prepare=at_the_provider,
        make=lambda store, reply: store.fail(
            _first(reply), Failure(reason=FailureReason.TIMED_OUT), now=NOON, operator_cost_usd_micros=80_000
        ),
    ),
    "fail_and_follow": Call(prepare=at_the_provider, make=_give_up),
    "keep_callback": Call(prepare=leaving, make=lambda store, _: store.keep_callback("secret", "theirs", now=NOON)),
    "mark_found": Call(prepare=followed, make=_find_late),
    "deliver_late": Call(
        prepare=found_late,
        make=lambda store, reply: store.deliver_late(
            _first(reply), operator_cost_usd_micros=80_000, images=[an_image()], now=NOON
        ),
    ),
    "end_follow": Call(
        prepare=followed,
        make=lambda store, reply: store.end_follow(_first(reply), operator_cost_usd_micros=80_000, now=NOON),
    ),
    "cancel": Call(
        prepare=at_the_provider,
        make=lambda store, reply: store.cancel(_first(reply), expected=JobStatus.RUNNING, now=NOON),
    ),
    "set_delivery": Call(
        prepare=made,
        make=lambda store, reply: store.set_delivery(
            reply.id, Delivery.DELIVERED, attachment_ids={an_image().sha256: 4}, message_id=5, channel_id=6
        ),
    ),
    "remember_upload": Call(
        prepare=in_line, make=lambda store, _: store.remember_upload("krea", "ab" * 32, "http://127.0.0.1/x", now=NOON)
    ),
    "set_limit": Call(
        prepare=in_line,
        make=lambda store, _: store.set_limit(1, LimitSubject.MEMBER, ADA.user_id, A_DOLLAR_A_DAY, **MODERATOR),
    ),
    "grant": Call(
        prepare=in_line, make=lambda store, _: store.grant(ADA, 500_000, default=A_DOLLAR_A_DAY, **MODERATOR)
    ),
    "reset": Call(prepare=made, make=lambda store, _: store.reset(ADA, default=A_DOLLAR_A_DAY, **MODERATOR)),
    "set_blocked": Call(prepare=in_line, make=lambda store, _: store.set_blocked(1, ADA.user_id, True, **MODERATOR)),
}


def contents(path: Path) -> str:
    """Return all rows of the file as text: equal for files with equal contents."""
    with closing(connect_for_reading(path)) as connection:
        return "\n".join(connection.iterdump())
