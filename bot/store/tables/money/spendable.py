"""Spendable: every limit that applies to one member now, read in one snapshot.

Synchronous functions inside the caller's transaction.
"""

from __future__ import annotations

from datetime import datetime

from bot.domain.jobs import DIRECT_GUILD_ID, Reply
from bot.domain.money.quota import Limits, Member
from bot.domain.money.spendable import BindingLimit, Spendable
from bot.store.core.connection import Connection
from bot.store.tables import jobs
from bot.store.tables.money import balances, ledger
from bot.store.tables.money.limits import terms_for


def spendable(connection: Connection, member: Member, *, limits: Limits, now: datetime) -> Spendable:
    """Return what the member may spend now in the server, and what every limit leaves."""
    terms = terms_for(connection, member, default=limits.default_quota_of(member.guild_id))
    caps = balances.caps_of_channel(connection, member, terms, now)
    if (server_cap := balances.server_cap(connection, member.guild_id, now=now)) is not None:
        caps[BindingLimit.SERVER_CAP] = server_cap
    of_operator = BindingLimit.OPERATOR_SERVER_CAP
    if member.guild_id == DIRECT_GUILD_ID:
        of_operator = BindingLimit.OPERATOR_DIRECT_CAP
    caps[of_operator] = balances.operator_server_cap(connection, member.guild_id, limits, now=now)
    caps[BindingLimit.OPERATOR_CAP] = balances.operator_cap(connection, limits, now=now)
    return Spendable(
        balance=balances.balance_in(connection, member, terms.quota, balances.window_of(terms, terms.quota, now)),
        caps=caps,
        blocked=terms.blocked,
        wallet=balances.wallet_of(connection, member.user_id),
        paused_until=ledger.cost_limit_ends_at(connection, member.user_id, limits=limits, now=now),
    )


def reply_and_spendable(
    connection: Connection, reply_id: str, *, limits: Limits, now: datetime
) -> tuple[Reply, Spendable] | None:
    """Return a reply and what the member who ordered it may spend, both of the same moment."""
    reply = jobs.reply(connection, reply_id)
    if reply is None:
        return None
    member = Member(
        guild_id=reply.address.guild_id,
        user_id=reply.user_id,
        role_ids=reply.role_ids,
        place=balances.place_of_job(connection, reply.jobs[0].id),
    )
    return reply, spendable(connection, member, limits=limits, now=now)
