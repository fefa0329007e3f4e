"""/quota: moderators decide what members of their server may spend. Every change is recorded."""

from __future__ import annotations

from typing import Any

import discord
from discord import app_commands, ui
from discord.ext import commands

from bot.domain.money.quota import LimitSubject, Member, Period, Quota, format_usd, parse_usd
from bot.domain.money.spendable import BindingLimit
from bot.service.job_service import JobService
from cogs.moderation import quota_page
from cogs.moderation.report import Reports
from cogs.text import formatting, limits_left, spending
from cogs.text.locale import Phrase
from cogs.ui import card
from cogs.ui.checks import member_of, requester_of, require_moderator, require_own_channel, require_own_role
from cogs.ui.client import Interaction
from cogs.ui.components import Layout
from cogs.ui.error_handler import REASON_CHARACTERS, DynamicComponent
from cogs.ui.initial_response import edit_in_place, refuse_privately, respond_privately

AUDIT_PAGE = 10
UNLIMITED = "unlimited"
MAX_DAYS = {Period.DAY: 1, Period.WEEK: 7, Period.MONTH: 31}

PERIODS = [
    app_commands.Choice(name="Per day", value=Period.DAY.value),
    app_commands.Choice(name="Per week", value=Period.WEEK.value),
    app_commands.Choice(name="Per month", value=Period.MONTH.value),
]
REPORT_PERIODS = [
    app_commands.Choice(name="Today", value=Period.DAY.value),
    app_commands.Choice(name="This week", value=Period.WEEK.value),
    app_commands.Choice(name="This month", value=Period.MONTH.value),
]

ABOUT_LIMIT = {
    "amount": "Dollars such as 5 or 2.50; 0 for none; unlimited",
    "period": "Period",
    "reason": "Reason, shown in the audit log",
}

Reason = app_commands.Range[str, 0, REASON_CHARACTERS]
Channel = app_commands.AppCommandChannel | app_commands.AppCommandThread


class QuotaCommands(commands.Cog):
    """The commands /quota, with which moderators set limits and read reports."""

    group = app_commands.Group(
        name="quota",
        description="What members may spend",
        default_permissions=discord.Permissions(manage_guild=True),
        guild_only=True,
    )

    def __init__(self, service: JobService, reports: Reports) -> None:
        self._service = service
        self._reports = reports
        self._store = service.store
        self._default = service.limits.default_quota

    async def interaction_check(self, interaction: discord.Interaction[Any]) -> bool:
        """Refuse members who are no moderators: a server's settings in Discord may show them the commands."""
        require_moderator(interaction)
        return True

    # -- limits ---------------------------------------------------------------------------------------

    @group.command(name="show", description="A member's limit, where it comes from, and what is left of it")
    @app_commands.describe(member="Member")
    async def show(self, interaction: discord.Interaction[Any], member: discord.Member) -> None:
        """Show a member's limit and its source, the amounts spent, reserved and left, the next reset and extras."""
        self._service.heavy_work.count_page(requester_of(interaction))
        now = self._service.now()
        who = member_of(interaction, member)
        spendable = await self._store.spendable(who, limits=self._service.limits, now=now)
        caps = await self._store.caps_of_channels(who.guild_id, now=now)
        await respond_privately(interaction, quota_page.quota_of(member.mention, spendable, caps))

    @group.command(name="set", description="Give a member a limit of their own")
    @app_commands.describe(member="Member", **ABOUT_LIMIT)
    @app_commands.choices(period=PERIODS)
    async def set_member(
        self,
        interaction: discord.Interaction[Any],
        member: discord.Member,
        amount: str,
        period: app_commands.Choice[str] | None = None,
        reason: Reason | None = None,
    ) -> None:
        """Set a member's own limit, which takes precedence over limits of roles and the default."""
        if member.bot:
            await refuse_privately(interaction, spending.BOT_HAS_NO_QUOTA(subject=member.mention))
            return
        await self._set(interaction, LimitSubject.MEMBER, member.id, member.mention, amount, period, reason)

    @group.command(name="role", description="Give everybody with a role a limit; the most generous role wins")
    @app_commands.describe(role="Role", **ABOUT_LIMIT)
    @app_commands.choices(period=PERIODS)
    async def set_role(
        self,
        interaction: discord.Interaction[Any],
        role: discord.Role,
        amount: str,
        period: app_commands.Choice[str] | None = None,
        reason: Reason | None = None,
    ) -> None:
        """Set the limit of members with a role."""
        require_own_role(interaction, role)
        await self._set(interaction, LimitSubject.ROLE, role.id, role.mention, amount, period, reason)

    @group.command(name="default", description="The limit for everybody without one of their own")
    @app_commands.describe(**ABOUT_LIMIT)
    @app_commands.choices(period=PERIODS)
    async def set_default(
        self,
        interaction: discord.Interaction[Any],
        amount: str,
        period: app_commands.Choice[str] | None = None,
        reason: Reason | None = None,
    ) -> None:
        """Set the limit of members without a limit of their own or of a role."""
        await self._set(interaction, LimitSubject.DEFAULT, None, spending.THE_DEFAULT(), amount, period, reason)

    @group.command(name="server", description="A cap for the whole server; it always applies")
    @app_commands.describe(**ABOUT_LIMIT)
    @app_commands.choices(period=PERIODS)
    async def set_server(
        self,
        interaction: discord.Interaction[Any],
        amount: str,
        period: app_commands.Choice[str] | None = None,
        reason: Reason | None = None,
    ) -> None:
        """Set the cap of the whole server."""
        await self._set(interaction, LimitSubject.SERVER, None, spending.THE_SERVER(), amount, period, reason)

    @group.command(name="channel", description="A cap for one channel or category; all other limits still apply")
    @app_commands.describe(channel="A channel, or a category for all channels in it", **ABOUT_LIMIT)
    @app_commands.choices(period=PERIODS)
    async def set_channel(
        self,
        interaction: discord.Interaction[Any],
        channel: Channel,
        amount: str,
        period: app_commands.Choice[str] | None = None,
        reason: Reason | None = None,
    ) -> None:
        """Set the cap of a channel, which includes its threads, or of a category, which includes its channels."""
        require_own_channel(interaction, channel)
        if isinstance(channel, app_commands.AppCommandThread):
            parent = formatting.channel(channel.parent_id)
            said = spending.THREAD_HAS_NO_CAP(thread=channel.mention, channel=parent)
            await refuse_privately(interaction, said)
            return
        await self._set(interaction, LimitSubject.CHANNEL, channel.id, channel.mention, amount, period, reason)

    async def _set(
        self,
        interaction: discord.Interaction[Any],
        subject: LimitSubject,
        subject_id: int | None,
        name: str,
        amount: str,
        period: app_commands.Choice[str] | None,
        reason: str | None,
    ) -> None:
        guild_id = require_moderator(interaction)
        try:
            limit = None if amount.strip().casefold() == UNLIMITED else parse_usd(amount)
        except ValueError:
            await refuse_privately(interaction, spending.AMOUNT_HELP(amount=formatting.inline(amount)))
            return
        before = await self._store.limit(guild_id, subject, subject_id)
        chosen = Period(period.value) if period else before.period if before else self._default.period
        new = Quota(amount_usd_micros=limit, period=chosen)
        if before is not None and before.allows_the_same_as(new):
            text = spending.LIMIT_SAME(subject=name, new=spending.quota(new))
            await respond_privately(interaction, card.note(text))
            return
        old = await self._store.set_limit(
            guild_id, subject, subject_id, new, actor_id=interaction.user.id, reason=reason, now=self._service.now()
        )
        lines = [spending.LIMIT_SET(subject=name, new=spending.quota(new), old=spending.quota(old))]
        lines += await self._what_it_means(interaction, new, subject, subject_id)
        await respond_privately(interaction, card.note("\n".join(lines)))

    async def _what_it_means(
        self, interaction: discord.Interaction[Any], new: Quota, subject: LimitSubject, subject_id: int | None
    ) -> list[str]:
        """Say what a limit means that looks like a slip: above the bot's own cap, zero, or below what is spent."""
        guild_id, now, limits = require_moderator(interaction), self._service.now(), self._service.limits
        own_cap = min(limits.operator_daily_cap_usd_micros, limits.operator_server_cap_usd_micros)
        if new.amount_usd_micros is None or new.amount_usd_micros > own_cap * MAX_DAYS[new.period]:
            said = spending.BOT_CAP_BINDS if new.amount_usd_micros is None else spending.ABOVE_BOT_CAP
            return [said(cap=format_usd(own_cap))]
        if new.amount_usd_micros == 0:
            return [spending.ZERO_MEANS()]
        used, until = 0, now
        if subject is LimitSubject.SERVER and (cap := await self._store.server_cap(guild_id, now=now)) is not None:
            used, until = cap.used_usd_micros, cap.window.end
        elif subject is LimitSubject.CHANNEL and subject_id is not None:
            if (cap := await self._store.channel_cap(guild_id, subject_id, now=now)) is not None:
                used, until = cap.used_usd_micros, cap.window.end
        elif subject is LimitSubject.MEMBER and subject_id is not None:
            who = Member(guild_id=guild_id, user_id=subject_id)
            balance = await self._store.balance(who, default=self._default, now=now)
            used, until = balance.used_usd_micros - balance.granted_usd_micros, balance.window.end
        if used >= new.amount_usd_micros:
            return [spending.STOPS_NOW(used=format_usd(used), when=formatting.day(until))]
        return []

    @group.command(name="clear", description="Remove the limit of a member, a role, a channel or a category")
    @app_commands.describe(
        member="A member with a limit of their own",
        role="A role with a limit",
        channel="A channel or category with a cap",
        reason="Reason, shown in the audit log",
    )
    async def clear(
        self,
        interaction: discord.Interaction[Any],
        member: discord.Member | None = None,
        role: discord.Role | None = None,
        channel: Channel | None = None,
        reason: Reason | None = None,
    ) -> None:
        """Remove the limit of a member or a role, so that limits of roles or the default apply, or a channel's cap."""
        guild_id = require_moderator(interaction)
        given = {LimitSubject.MEMBER: member, LimitSubject.ROLE: role, LimitSubject.CHANNEL: channel}
        chosen = [(subject, named) for subject, named in given.items() if named is not None]
        if len(chosen) != 1:
            await refuse_privately(interaction, spending.CLEAR_ONE())
            return
        if role is not None:
            require_own_role(interaction, role)
        subject, named = chosen[0]
        old = await self._store.set_limit(
            guild_id, subject, named.id, None, actor_id=interaction.user.id, reason=reason, now=self._service.now()
        )
        if old is None:
            await respond_privately(interaction, card.note(spending.LIMIT_NONE(subject=named.mention)))
        else:
            await respond_privately(
                interaction, card.note(spending.LIMIT_CLEARED(subject=named.mention, old=spending.quota(old)))
            )

    # -- one-offs -----------------------------------------------------------------------------------------

    @group.command(name="grant", description="A one-off extra for a member in the current period")
    @app_commands.describe(member="Member", amount="Dollars such as 5 or 2.50", reason="Reason, shown in the audit log")
    async def grant(
        self, interaction: discord.Interaction[Any], member: discord.Member, amount: str, reason: Reason | None = None
    ) -> None:
        """Grant an extra amount that counts until the current period ends."""
        require_moderator(interaction)
        if member.bot:
            await refuse_privately(interaction, spending.BOT_HAS_NO_QUOTA(subject=member.mention))
            return
        try:
            extra = parse_usd(amount)
        except ValueError:
            extra = 0
        if extra == 0:
            await refuse_privately(interaction, spending.GRANT_HELP(amount=formatting.inline(amount)))
            return
        who = member_of(interaction, member)
        await self._store.grant(
            who,
            extra,
            default=self._default,
            actor_id=interaction.user.id,
            reason=reason,
            now=self._service.now(),
            command_id=interaction.id,
        )
        await self._say_left(
            interaction,
            who,
            spending.GRANTED,
            spending.GRANTED_UNLIMITED,
            subject=member.mention,
            amount=format_usd(extra),
        )

    @group.command(name="reset", description="Count a member's spending in this period from zero again")
    @app_commands.describe(member="Member", reason="Reason, shown in the audit log")
    async def reset(
        self, interaction: discord.Interaction[Any], member: discord.Member, reason: Reason | None = None
    ) -> None:
        """Count a member's spending from zero in this period; the ledger keeps its entries."""
        require_moderator(interaction)
        who = member_of(interaction, member)
        before = await self._store.balance(who, default=self._default, now=self._service.now())
        if before.spent_usd_micros == 0:
            await respond_privately(interaction, card.note(spending.RESET_NOTHING(subject=member.mention)))
            return
        await self._store.reset(
            who,
            default=self._default,
            actor_id=interaction.user.id,
            reason=reason,
            now=self._service.now(),
        )
        await self._say_left(
            interaction, who, spending.RESET_DONE, spending.RESET_DONE_UNLIMITED, subject=member.mention
        )

    async def _say_left(
        self, interaction: discord.Interaction[Any], who: Member, some: Phrase, unlimited: Phrase, **facts: object
    ) -> None:
        """Say what a member has left by all limits, and which one binds if it is not their quota."""
        spendable = await self._store.spendable(who, limits=self._service.limits, now=self._service.now())
        lines = [formatting.left(spendable.left_usd_micros, some, unlimited, **facts)]
        if spendable.binding is not BindingLimit.QUOTA:
            lines.append(spending.BINDS(why=limits_left.binding_for_moderators(spendable)))
        await respond_privately(interaction, card.note("\n".join(lines)))

    @group.command(name="block", description="Stop a member from ordering images")
    @app_commands.describe(member="Member", reason="Reason, shown in the audit log")
    async def block(
        self, interaction: discord.Interaction[Any], member: discord.Member, reason: Reason | None = None
    ) -> None:
        """Refuse new jobs of a member; running jobs finish."""
        await self._set_blocked(interaction, member, reason, blocked=True)

    @group.command(name="unblock", description="Let a member order again")
    @app_commands.describe(member="Member", reason="Reason, shown in the audit log")
    async def unblock(
        self, interaction: discord.Interaction[Any], member: discord.Member, reason: Reason | None = None
    ) -> None:
        """Allow new jobs of a blocked member."""
        await self._set_blocked(interaction, member, reason, blocked=False)

    async def _set_blocked(
        self, interaction: discord.Interaction[Any], member: discord.Member, reason: str | None, *, blocked: bool
    ) -> None:
        guild_id = require_moderator(interaction)
        changed = await self._store.set_blocked(
            guild_id, member.id, blocked, actor_id=interaction.user.id, reason=reason, now=self._service.now()
        )
        if changed:
            said = spending.BLOCKED if blocked else spending.UNBLOCKED
        else:
            said = spending.BLOCKED_ALREADY if blocked else spending.UNBLOCKED_ALREADY
        await respond_privately(interaction, card.note(said(subject=member.mention)))

    # -- looking back -----------------------------------------------------------------------------------------

    @group.command(name="report", description="Who spent what, by member, model and channel")
    @app_commands.describe(period="Period (default: this month)")
    @app_commands.choices(period=REPORT_PERIODS)
    async def report(
        self, interaction: discord.Interaction[Any], period: app_commands.Choice[str] | None = None
    ) -> None:
        """Show spending in a period as a chart, rankings and CSV files."""
        await self._reports.show(interaction, Period(period.value) if period else Period.MONTH)

    @group.command(name="audit", description="Who changed which limit or setting, when and why")
    @app_commands.describe(member="Only changes about this member")
    async def audit(self, interaction: discord.Interaction[Any], member: discord.Member | None = None) -> None:
        """Show the record of changes, newest first, one page at a time."""
        guild_id = require_moderator(interaction)
        self._service.heavy_work.count_page(requester_of(interaction))
        user_id = member.id if member else None
        await respond_privately(interaction, await _audit_page(self._service, guild_id, user_id))


class AuditButton(DynamicComponent[ui.Button[Any]], template=quota_page.AUDIT_CUSTOM_ID):
    """'Older' under a page of the record of changes."""

    async def handle(self, interaction: Interaction) -> None:
        """Turn the page; only for moderators of this server."""
        guild_id = require_moderator(interaction)
        interaction.client.service.heavy_work.count_page(requester_of(interaction))
        user_id, before_id = int(self._match["user_id"]) or None, int(self._match["before_id"])
        page = await _audit_page(interaction.client.service, guild_id, user_id, before_id=before_id)
        await edit_in_place(interaction, page)


async def _audit_page(
    service: JobService, guild_id: int, user_id: int | None, *, before_id: int | None = None
) -> Layout:
    entries = await service.store.audit(guild_id, user_id=user_id, limit=AUDIT_PAGE + 1, before_id=before_id)
    return quota_page.audit(entries[:AUDIT_PAGE], user_id=user_id, more=len(entries) > AUDIT_PAGE)
