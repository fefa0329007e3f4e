"""/settings: moderators decide where, with which models and what prompts images are made; changes are recorded."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from functools import partial
from typing import Any

import discord
from discord import app_commands
from discord.ext import commands

from bot.catalogue.catalogue import Catalogue
from bot.domain import word_list as wordlist
from bot.domain.jobs import JobKind
from bot.domain.money.quota import LimitSubject, Member, Window
from bot.domain.policy import Policy, PolicyEdit, is_pattern, matches
from bot.service.job_service import JobService
from cogs.alerts import log_channel
from cogs.alerts.log_channel import LogChannel
from cogs.generate.ordering import autocomplete as suggestions
from cogs.generate.ordering.permissions import Permissions, channel_context, default_model
from cogs.moderation import settings_page, time_zones
from cogs.moderation.quota import Reason
from cogs.moderation.weekly_reports import WeeklyReports
from cogs.text import formatting, moderation
from cogs.text.locale import LANGUAGES, use_locale
from cogs.ui import card
from cogs.ui.checks import (
    is_moderator,
    place_of,
    require_moderator,
    require_own_channel,
    require_own_role,
    role_ids_of,
)
from cogs.ui.initial_response import refuse_privately, respond_privately

ALLOW, DENY, ADD, REMOVE, CLEAR, LIST = "allow", "deny", "add", "remove", "clear", "list"
RULE_ACTIONS = [
    app_commands.Choice(name="Allow", value=ALLOW),
    app_commands.Choice(name="Deny", value=DENY),
    app_commands.Choice(name="Forget the rule, or all of them", value=CLEAR),
    app_commands.Choice(name="List", value=LIST),
]
LIST_ACTIONS = [
    app_commands.Choice(name="Add", value=ADD),
    app_commands.Choice(name="Remove", value=REMOVE),
    app_commands.Choice(name="Remove all", value=CLEAR),
    app_commands.Choice(name="List", value=LIST),
]
LANGUAGE_CHOICES = [app_commands.Choice(name=name, value=tag) for tag, name in LANGUAGES.items()]
MAX_STARS = 25
_MODEL_PATTERN = re.compile(r"[a-z0-9._/*?-]{1,100}")
_VERDICTS = {ALLOW: True, DENY: False, CLEAR: None}

Channel = app_commands.AppCommandChannel | app_commands.AppCommandThread
Action = app_commands.Choice[str]


def model_pattern(text: str, catalogue: Catalogue, known: Collection[str]) -> str | None:
    """Return the id of a model, or the pattern if it matches a model or is `known`; None if it matches nothing.

    Raises UnknownModel.
    """
    typed = text.strip().casefold()
    if typed in known:
        return typed
    if not is_pattern(typed):
        return catalogue.get(text).id
    if not _MODEL_PATTERN.fullmatch(typed):
        return None
    return typed if any(matches(typed, model.id) for model in catalogue.models) else None


class SettingsCommands(commands.Cog):
    """The commands /settings, with which moderators change the policy of their server."""

    group = app_commands.Group(
        name="settings",
        description="Where images can be ordered, with which models, and what is logged",
        default_permissions=discord.Permissions(manage_guild=True),
        guild_only=True,
    )

    def __init__(
        self, *, service: JobService, default_model: str, log: LogChannel, weekly_reports: WeeklyReports
    ) -> None:
        self._weekly_reports = weekly_reports
        self._service = service
        self._default_model = default_model
        self._store = service.store
        self._catalogue = service.catalogue
        self._server_log = log

    async def cog_load(self) -> None:
        """Read the names of time zones before the first member types one."""
        await asyncio.to_thread(time_zones.load)

    async def interaction_check(self, interaction: discord.Interaction[Any]) -> bool:
        """Refuse members who are no moderators: a server's settings in Discord may show them the commands."""
        require_moderator(interaction)
        return True

    # -- overview -----------------------------------------------------------------------

    @group.command(name="show", description="What is in force here, and which rule decides")
    @app_commands.describe(
        channel="Look at this channel instead of here",
        member="Look at what this member may do",
        model="Look at this model instead of the default one",
    )
    async def show(
        self,
        interaction: discord.Interaction[Any],
        channel: Channel | None = None,
        member: discord.Member | None = None,
        model: str | None = None,
    ) -> None:
        """Show the effective settings; before the first decision, list what to decide."""
        guild_id = require_moderator(interaction)
        self._service.heavy_work.count_page(interaction.user.id)
        policy = await self._store.policy(guild_id)
        who = member or interaction.user
        context = channel_context(interaction.guild, channel.id if channel else interaction.channel_id or 0)
        permissions = Permissions(policy=policy, channel=context, role_ids=role_ids_of(who))
        default_id = self._default_of(policy)
        asked = self._catalogue.get(model or default_id)
        zone = await self._store.time_zone(guild_id)
        limits = await self._store.limits_of(guild_id)
        own = {subject: quota for subject, subject_id, quota in limits if subject_id is None}
        server_default = own.get(LimitSubject.DEFAULT)
        bot_default = self._service.limits.default_quota
        seen = settings_page.Overview(
            policy=policy,
            zone=zone.key,
            next_reset=Window.containing(self._service.now(), (server_default or bot_default).period, zone).end,
            default_model=self._service.model_label(default_id),
            default_is_ours=default_id != policy.default_model_id,
            models=self._service.offered(),
            server_default=server_default,
            bot_default=bot_default,
            cap=own.get(LimitSubject.SERVER),
            role_limits=[
                (role_id, quota) for subject, role_id, quota in limits if subject is LimitSubject.ROLE and role_id
            ],
            channel_caps=[
                (place, quota) for subject, place, quota in limits if subject is LimitSubject.CHANNEL and place
            ],
            log_trouble=" ".join(
                filter(
                    None,
                    (
                        log_channel.permission_warning(interaction.guild, policy),
                        self._log_audience(interaction, policy),
                    ),
                )
            ),
            locale=interaction.guild_locale,
        )
        spendable = await self._store.spendable(
            Member(
                guild_id=guild_id,
                user_id=who.id,
                role_ids=role_ids_of(who),
                place=place_of(interaction.guild, channel.id if channel else interaction.channel_id),
            ),
            limits=self._service.limits,
            now=self._service.now(),
        )
        case = settings_page.case_lines(
            permissions, member=who.mention, model=asked, models=self._service.offered(), spendable=spendable
        )
        await respond_privately(interaction, settings_page.overview(seen, case))

    # -- where ----------------------------------------------------------------------------------------

    @group.command(name="channels", description="Where images can be ordered")
    @app_commands.describe(
        action="What to do (default: list)",
        channel="A channel, thread or category",
        reason="Reason, shown in the audit log",
    )
    @app_commands.choices(action=RULE_ACTIONS)
    async def channels(
        self,
        interaction: discord.Interaction[Any],
        action: Action | None = None,
        channel: Channel | None = None,
        reason: Reason | None = None,
    ) -> None:
        """Allow or deny a channel, or remove its rule."""
        what = action.value if action else LIST
        if what == LIST:
            await self._list(interaction, settings_page.channels, meant_more=action is None and channel is not None)
        elif channel is not None:
            if what != CLEAR:
                require_own_channel(interaction, channel)
            await self._change(
                interaction,
                lambda policy: policy.with_channel(channel.id, _VERDICTS[what]),
                reason,
                settings_page.channels,
            )
        elif what == CLEAR:
            await self._change(interaction, lambda policy: replace(policy, channels={}), reason, settings_page.channels)
        else:
            await refuse_privately(interaction, moderation.NAME_CHANNEL())

    # -- models ---------------------------------------------------------------------------------------

    @group.command(name="models", description="Which models may be used, by everybody or by a role")
    @app_commands.describe(
        action="What to do (default: list)",
        model="A model, or a pattern such as krea/openai/*",
        role="Only for members with this role",
        reason="Reason, shown in the audit log",
    )
    @app_commands.choices(action=RULE_ACTIONS)
    async def models(
        self,
        interaction: discord.Interaction[Any],
        action: Action | None = None,
        model: str | None = None,
        role: discord.Role | None = None,
        reason: Reason | None = None,
    ) -> None:
        """Allow or deny models, or remove their rules."""
        what = action.value if action else LIST
        if what == LIST:
            await self._list(interaction, settings_page.models, meant_more=action is None and model is not None)
        elif model is not None:
            if role is not None and what != CLEAR:
                require_own_role(interaction, role)
            known = [rule.pattern for rule in (await self._policy(interaction)).model_rules]
            pattern = model_pattern(model, self._catalogue, known)
            role_id = None if role is None or role.is_default() else role.id
            if pattern is None:
                await refuse_privately(interaction, moderation.NO_MODEL_MATCHES(pattern=formatting.inline(model)))
                return
            await self._change(
                interaction,
                lambda policy: policy.with_model_rule(pattern, role_id, _VERDICTS[what]),
                reason,
                settings_page.models,
            )
        elif what == CLEAR and role is None:
            await self._change(
                interaction, lambda policy: replace(policy, model_rules=()), reason, settings_page.models
            )
        else:
            await refuse_privately(interaction, moderation.NAME_MODEL())

    @group.command(name="default-model", description="The model of commands that name none")
    @app_commands.describe(model="Model", clear="Back to the bot's default", reason="Reason, shown in the audit log")
    async def default_model(
        self,
        interaction: discord.Interaction[Any],
        model: str | None = None,
        clear: bool = False,
        reason: Reason | None = None,
    ) -> None:
        """Set or clear the default model, which must be one that all members may use."""
        if model is not None and clear:
            await refuse_privately(interaction, moderation.EITHER())
            return
        if model is None and not clear:
            await self._list(interaction, self._default_model_line)
            return
        chosen = None if model is None else self._catalogue.get(model)
        if chosen is not None:
            policy = await self._policy(interaction)
            if chosen not in self._service.offered() or not (
                chosen.supports(JobKind.IMAGINE) or chosen.supports(JobKind.EDIT)
            ):
                await refuse_privately(interaction, moderation.DEFAULT_MODEL_UNAVAILABLE(model=chosen.label))
                return
            if not policy.model_verdict(chosen.id, ()).allowed or policy.is_age_restricted(chosen.id):
                await refuse_privately(interaction, moderation.DEFAULT_MODEL_FORBIDDEN(model=chosen.label))
                return
        chosen_id = None if chosen is None else chosen.id
        await self._change(
            interaction, lambda policy: replace(policy, default_model_id=chosen_id), reason, self._default_model_line
        )

    @group.command(name="age-restricted", description="Models that work only in age-restricted channels")
    @app_commands.describe(
        action="What to do (default: list)",
        model="A model, or a pattern such as krea/bfl/*",
        reason="Reason, shown in the audit log",
    )
    @app_commands.choices(action=LIST_ACTIONS)
    async def age_restricted(
        self,
        interaction: discord.Interaction[Any],
        action: Action | None = None,
        model: str | None = None,
        reason: Reason | None = None,
    ) -> None:
        """Add models to the age-restricted ones, or remove them."""
        what = action.value if action else LIST
        if what == LIST:
            await self._list(interaction, settings_page.age_restricted, meant_more=action is None and model is not None)
        elif what == CLEAR:
            await self._change(
                interaction, lambda policy: replace(policy, age_restricted=()), reason, settings_page.age_restricted
            )
        elif model is None:
            await refuse_privately(interaction, moderation.NAME_MODEL())
        else:
            pattern = model_pattern(model, self._catalogue, (await self._policy(interaction)).age_restricted)
            if pattern is None:
                await refuse_privately(interaction, moderation.NO_MODEL_MATCHES(pattern=formatting.inline(model)))
                return
            await self._change(
                interaction,
                lambda policy: policy.with_age_restricted(pattern, what == ADD),
                reason,
                settings_page.age_restricted,
            )

    # -- words ----------------------------------------------------------------------------------------

    @group.command(name="words", description="Words that may not be in a prompt")
    @app_commands.describe(
        action="What to do (default: list)",
        entries="With commas between them; * and ? stand for any letters: gore, blood*",
        reason="Reason, shown in the audit log",
    )
    @app_commands.choices(action=LIST_ACTIONS)
    @app_commands.rename(entries="words")
    async def words(
        self,
        interaction: discord.Interaction[Any],
        action: Action | None = None,
        entries: str | None = None,
        reason: Reason | None = None,
    ) -> None:
        """Add words that may not be in a prompt, or remove them."""
        what = action.value if action else LIST
        if what == LIST:
            await self._list(interaction, settings_page.word_list, meant_more=action is None and entries is not None)
            return
        if what == CLEAR:
            await self._change(interaction, lambda policy: replace(policy, words=()), reason, settings_page.word_list)
            return
        found: list[str] = []
        for entry in (entries or "").split(","):
            if entry.strip():
                try:
                    # An entry of an earlier version may exceed the limits of new ones, and can be removed all the same.
                    found.append(wordlist.normalise_entry(entry) if what == ADD else wordlist.stored_form(entry))
                except ValueError:
                    await refuse_privately(interaction, _not_a_word(entry))
                    return
        if not found:
            await refuse_privately(interaction, moderation.NAME_WORDS())
            return
        await self._change(
            interaction, lambda policy: policy.with_words(found, what == ADD), reason, settings_page.word_list
        )

    # -- log, language and clock --------------------------------------------------------------------------------

    @group.command(name="log-channel", description="Where every finished order is posted for moderators")
    @app_commands.describe(channel="Channel", clear="Stop logging", reason="Reason, shown in the audit log")
    async def log_channel(
        self,
        interaction: discord.Interaction[Any],
        channel: Channel | None = None,
        clear: bool = False,
        reason: Reason | None = None,
    ) -> None:
        """Set or clear the log channel, after a first post in it shows that the bot may post there."""
        if channel is not None and clear:
            await refuse_privately(interaction, moderation.EITHER())
        elif channel is None and not clear:
            await self._list(interaction, settings_page.log_channel)
        elif channel is None:
            await self._change(
                interaction,
                lambda policy: replace(policy, log_channel_id=None),
                reason,
                settings_page.log_channel,
                warn=self._log_audience,
            )
        else:
            refusal = _why_not_in(interaction.guild, channel.id)
            if refusal is not None:
                await refuse_privately(interaction, refusal)
            elif (await self._policy(interaction)).log_channel_id != channel.id and not await self._greet(
                interaction, channel.id
            ):
                await refuse_privately(interaction, moderation.LOG_REFUSED(channel=f"<#{channel.id}>"))
            else:
                await self._change(
                    interaction,
                    lambda policy: replace(policy, log_channel_id=channel.id),
                    reason,
                    settings_page.log_channel,
                    warn=self._log_audience,
                )

    @group.command(name="weekly-report", description="Where each week's spending is posted, with a chart")
    @app_commands.describe(channel="Channel", clear="Stop posting it", reason="Reason, shown in the audit log")
    async def weekly_report(
        self,
        interaction: discord.Interaction[Any],
        channel: Channel | None = None,
        clear: bool = False,
        reason: Reason | None = None,
    ) -> None:
        """Set or clear the channel of the weekly report. The first one is of the week that is under way now."""
        page = settings_page.weekly_report
        if channel is not None and clear:
            await refuse_privately(interaction, moderation.EITHER())
        elif channel is None and not clear:
            await self._list(interaction, page)
        elif channel is None:
            await self._change(interaction, lambda policy: replace(policy, weekly_report_channel_id=None), reason, page)
        elif (refusal := _why_not_in(interaction.guild, channel.id)) is not None:
            await refuse_privately(interaction, refusal)
        else:
            await self._weekly_reports.begin(require_moderator(interaction), self._service.now())
            await self._change(
                interaction, lambda policy: replace(policy, weekly_report_channel_id=channel.id), reason, page
            )

    @group.command(name="showcase", description="Where members share finished images")
    @app_commands.describe(
        channel="Channel",
        stars="How many members must press Share (default: 1)",
        clear="No more sharing",
        reason="Reason, shown in the audit log",
    )
    async def showcase(
        self,
        interaction: discord.Interaction[Any],
        channel: Channel | None = None,
        stars: app_commands.Range[int, 1, MAX_STARS] | None = None,
        clear: bool = False,
        reason: Reason | None = None,
    ) -> None:
        """Set or clear the channel in which members share images. What was shared stays where it is."""
        page = settings_page.showcase
        changes: dict[str, Any] = {}
        if channel is not None:
            changes["showcase_channel_id"] = channel.id
        if stars is not None:
            changes["showcase_stars"] = stars
        if changes and clear:
            await refuse_privately(interaction, moderation.EITHER())
        elif clear:
            await self._change(interaction, lambda policy: replace(policy, showcase_channel_id=None), reason, page)
        elif not changes:
            await self._list(interaction, page)
        elif channel is not None and (refusal := _why_not_in(interaction.guild, channel.id)) is not None:
            await refuse_privately(interaction, refusal)
        else:
            await self._change(interaction, lambda policy: replace(policy, **changes), reason, page)

    @group.command(name="review", description="Images that moderators see and approve before everybody else")
    @app_commands.describe(
        action="What to do (default: list)",
        channel="A channel, thread or category whose images are reviewed",
        role="A role whose members' images are reviewed",
        model="A model, or a pattern such as krea/openai/*, whose images are reviewed",
        review_channel="Where moderators see the images and decide",
        reason="Reason, shown in the audit log",
    )
    @app_commands.choices(action=LIST_ACTIONS)
    async def review(
        self,
        interaction: discord.Interaction[Any],
        action: Action | None = None,
        channel: Channel | None = None,
        role: discord.Role | None = None,
        model: str | None = None,
        review_channel: Channel | None = None,
        reason: Reason | None = None,
    ) -> None:
        """Choose whose images are reviewed, and where. What waits for a decision keeps waiting, whatever changes."""
        policy = await self._policy(interaction)
        is_named = channel is not None or role is not None or model is not None
        what = action.value if action else ADD if review_channel is not None and not is_named else LIST
        if what == LIST:
            waiting = await self._store.waiting_reviews(require_moderator(interaction))
            text = "\n".join(
                filter(
                    None,
                    (
                        moderation.ACTION_FIRST() if is_named else "",
                        settings_page.review(policy),
                        moderation.REVIEW_WAITING(waiting) if waiting else "",
                        self._review_trouble(interaction, policy),
                    ),
                )
            )
            await respond_privately(interaction, card.note(text))
            return
        if what == CLEAR:
            nothing: dict[str, Any] = {"reviewed_channels": (), "reviewed_roles": (), "reviewed_models": ()}
            await self._change(
                interaction,
                lambda old: replace(old, review_channel_id=None, **nothing),
                reason,
                settings_page.review,
                warn=self._review_trouble,
            )
            return
        pattern = None if model is None else model_pattern(model, self._catalogue, policy.reviewed_models)
        if (refusal := self._why_no_review(interaction, policy, what, is_named, review_channel)) is not None:
            await refuse_privately(interaction, refusal)
            return
        if model is not None and pattern is None:
            await refuse_privately(interaction, moderation.NO_MODEL_MATCHES(pattern=formatting.inline(model)))
            return
        if what == ADD and channel is not None:
            require_own_channel(interaction, channel)
        if what == ADD and role is not None:
            require_own_role(interaction, role)

        def changed(old: Policy) -> Policy:
            new = old.with_reviewed(
                channel_id=channel.id if channel else None,
                role_id=role.id if role else None,
                model=pattern,
                reviewed=what == ADD,
            )
            return new if review_channel is None else replace(new, review_channel_id=review_channel.id)

        await self._change(interaction, changed, reason, settings_page.review, warn=self._review_trouble)

    def _why_no_review(
        self,
        interaction: discord.Interaction[Any],
        policy: Policy,
        what: str,
        is_named: bool,
        review_channel: Channel | None,
    ) -> str | None:
        """Return what is missing or wrong in a change of what is reviewed; None if nothing is."""
        if not is_named and (what == REMOVE or review_channel is None):
            return moderation.NAME_REVIEW()
        if what == ADD and review_channel is None and policy.review_channel_id is None:
            return moderation.NAME_REVIEW_CHANNEL()
        return None if review_channel is None else _why_not_in(interaction.guild, review_channel.id)

    def _review_trouble(self, interaction: discord.Interaction[Any], policy: Policy) -> str:
        """Say why the bot cannot post in the review channel, or who else sees the images there; '' if nothing."""
        channel_id = policy.review_channel_id
        if channel_id is None:
            return ""
        if (trouble := _why_not_in(interaction.guild, channel_id)) is not None:
            return f"⚠️ {trouble}"
        if log_channel.audience(interaction.guild, channel_id, takes_orders=False) is None:
            return ""
        return moderation.REVIEW_AUDIENCE(channel=formatting.channel(channel_id))

    @group.command(name="spoilers", description="Channels in which images are covered until they are clicked")
    @app_commands.describe(
        action="What to do (default: list)",
        channel="A channel, thread or category",
        reason="Reason, shown in the audit log",
    )
    @app_commands.choices(action=LIST_ACTIONS)
    async def spoilers(
        self,
        interaction: discord.Interaction[Any],
        action: Action | None = None,
        channel: Channel | None = None,
        reason: Reason | None = None,
    ) -> None:
        """Cover the images of a channel, or no longer."""
        what = action.value if action else LIST
        page = settings_page.spoilers
        if what == LIST:
            await self._list(interaction, page, meant_more=action is None and channel is not None)
        elif what == CLEAR:
            await self._change(interaction, lambda policy: replace(policy, spoiler_channels=()), reason, page)
        elif channel is None:
            await refuse_privately(interaction, moderation.NAME_CHANNEL())
        else:
            if what == ADD:
                require_own_channel(interaction, channel)
            await self._change(interaction, lambda policy: policy.with_spoilers(channel.id, what == ADD), reason, page)

    @group.command(name="welcome", description="Whether I introduce myself when I join this server")
    @app_commands.describe(on="On or off (default: show)", reason="Reason, shown in the audit log")
    async def welcome(
        self, interaction: discord.Interaction[Any], on: bool | None = None, reason: Reason | None = None
    ) -> None:
        """Show or set whether the bot introduces itself when it joins the server."""
        if on is None:
            await self._list(interaction, settings_page.welcome)
        else:
            await self._change(interaction, lambda policy: replace(policy, greets=on), reason, settings_page.welcome)

    @group.command(name="language", description="What public cards and the log are written in")
    @app_commands.describe(
        language="Language",
        clear="Back to the language of this server in Discord",
        reason="Reason, shown in the audit log",
    )
    @app_commands.choices(language=LANGUAGE_CHOICES)
    async def language(
        self,
        interaction: discord.Interaction[Any],
        language: Action | None = None,
        clear: bool = False,
        reason: Reason | None = None,
    ) -> None:
        """Set the language of public cards and of the log. Existing cards and private responses keep their own."""
        page = partial(settings_page.language, locale=interaction.guild_locale)
        if language is not None and clear:
            await refuse_privately(interaction, moderation.EITHER())
        elif language is None and not clear:
            await self._list(interaction, page)
        else:
            tag = None if language is None else language.value
            await self._change(interaction, lambda policy: replace(policy, language=tag), reason, page)

    @group.command(name="time-zone", description="When days, weeks and months begin for quotas")
    @app_commands.describe(zone="A city of that zone, such as Berlin", reason="Reason, shown in the audit log")
    async def time_zone(
        self, interaction: discord.Interaction[Any], zone: str | None = None, reason: Reason | None = None
    ) -> None:
        """Set the time zone, and show when the next period begins."""
        guild_id = require_moderator(interaction)
        now = self._service.now()
        current = await self._store.time_zone(guild_id)
        if zone is not None:
            found = time_zones.find(zone)
            if found is None:
                await refuse_privately(interaction, moderation.ZONE_UNKNOWN(zone=formatting.inline(zone)))
                return
            if found.key != current.key:
                await self._store.set_time_zone(guild_id, found, actor_id=interaction.user.id, reason=reason, now=now)
            current = found
        limit = await self._store.limit(guild_id, LimitSubject.DEFAULT, None) or self._service.limits.default_quota
        reset = Window.containing(now, limit.period, current).end
        text = moderation.ZONE_IS[limit.period](
            zone=current.key,
            when=formatting.moment(reset),
            exactly=formatting.day(reset),
        )
        await respond_privately(interaction, card.note(text))

    async def _greet(self, interaction: discord.Interaction[Any], channel_id: int) -> bool:
        """Post the first entry of the log, in the language of the log; False if Discord does not accept it."""
        policy = await self._policy(interaction)
        with use_locale(self._server_log.language(policy, require_moderator(interaction))):
            hello = card.note(moderation.LOG_HELLO())
        return await self._server_log.post(channel_id, hello, nonce=f"hello{interaction.id}")

    # -- suggestions ----------------------------------------------------------------------------------

    @default_model.autocomplete("model")
    async def _everyday_model(self, interaction: discord.Interaction[Any], text: str) -> suggestions.Choices:
        return await suggestions.models(
            self._service, interaction, text, kind=JobKind.IMAGINE, default_model=self._default_model
        )

    @show.autocomplete("model")
    async def _one_model(self, interaction: discord.Interaction[Any], text: str) -> suggestions.Choices:
        return suggestions.any_models(self._service, text)

    @models.autocomplete("model")
    async def _rules(self, interaction: discord.Interaction[Any], text: str) -> suggestions.Choices:
        if interaction.namespace.action == CLEAR:
            return await self._known(interaction, text, lambda policy: [rule.pattern for rule in policy.model_rules])
        return suggestions.models_and_patterns(self._service, text)

    @age_restricted.autocomplete("model")
    async def _patterns(self, interaction: discord.Interaction[Any], text: str) -> suggestions.Choices:
        if interaction.namespace.action == REMOVE:
            return await self._known(interaction, text, lambda policy: policy.age_restricted)
        return suggestions.models_and_patterns(self._service, text)

    @review.autocomplete("model")
    async def _reviewed_patterns(self, interaction: discord.Interaction[Any], text: str) -> suggestions.Choices:
        if interaction.namespace.action == REMOVE:
            return await self._known(interaction, text, lambda policy: policy.reviewed_models)
        return suggestions.models_and_patterns(self._service, text)

    @words.autocomplete("entries")
    async def _listed_words(self, interaction: discord.Interaction[Any], text: str) -> suggestions.Choices:
        if interaction.namespace.action != REMOVE:
            return []
        return await self._known(interaction, text, lambda policy: policy.words)

    @time_zone.autocomplete("zone")
    async def _zones(self, interaction: discord.Interaction[Any], text: str) -> suggestions.Choices:
        now = self._service.now()
        names = time_zones.search(text, limit=suggestions.MAX_CHOICES)
        return [app_commands.Choice(name=time_zones.described(name, now), value=name) for name in names]

    async def _known(
        self, interaction: discord.Interaction[Any], text: str, entries: Callable[[Policy], Iterable[str]]
    ) -> suggestions.Choices:
        """Suggest entries of a list of this server, to moderators alone."""
        if not is_moderator(interaction):
            return []
        found = dict.fromkeys(entries(await self._policy(interaction)))
        return suggestions.plain([entry for entry in found if text.strip().casefold() in entry])

    # -- shared by commands ------------------------------------------------------------------------------

    async def _policy(self, interaction: discord.Interaction[Any]) -> Policy:
        return await self._store.policy(require_moderator(interaction))

    async def _list(
        self, interaction: discord.Interaction[Any], page: settings_page.Page, *, meant_more: bool = False
    ) -> None:
        """Show a list; `meant_more` if the member named an entry but no action."""
        text = page(await self._policy(interaction))
        await respond_privately(interaction, card.note(f"{moderation.ACTION_FIRST()}\n{text}" if meant_more else text))

    async def _change(
        self,
        interaction: discord.Interaction[Any],
        alter: PolicyEdit,
        reason: str | None,
        page: settings_page.Page,
        *,
        warn: Callable[[discord.Interaction[Any], Policy], str] | None = None,
    ) -> None:
        """Change the policy and show the changed part, with what `warn` says about it."""
        old, new = await self._store.change_policy(
            require_moderator(interaction), alter, actor_id=interaction.user.id, reason=reason, now=self._service.now()
        )
        lines = [moderation.UNCHANGED() if old == new else moderation.CHANGED(), page(new)]
        if warn is not None:
            lines.append(warn(interaction, new))
        if old.channels != new.channels:
            lines.append(self._log_audience(interaction, new))
        if old.model_rules != new.model_rules or old.age_restricted != new.age_restricted:
            default = self._catalogue.get(self._default_of(new))
            if not new.model_verdict(default.id, ()).allowed or new.is_age_restricted(default.id):
                lines.append(moderation.DEFAULT_NOT_ALLOWED(model=default.label))
        await respond_privately(
            interaction,
            card.note(formatting.shorten("\n".join(filter(None, lines)), settings_page.TEXT_CHARACTERS)),
        )

    def _log_audience(self, interaction: discord.Interaction[Any], policy: Policy) -> str:
        """Say that prompts and images of the log are read by more than moderators, if they are."""
        channel_id = policy.log_channel_id
        if channel_id is None:
            return ""
        context = channel_context(interaction.guild, channel_id)
        is_here = channel_id == interaction.channel_id
        is_allowed = any(policy.channels.values()) and policy.channel_verdict(context).allowed
        audience = log_channel.audience(interaction.guild, channel_id, takes_orders=is_here or is_allowed)
        return settings_page.log_audience(audience, channel_id)

    def _default_of(self, policy: Policy) -> str:
        return default_model(self._service, policy, kind=JobKind.IMAGINE, fallback=self._default_model)

    def _default_model_line(self, policy: Policy) -> str:
        default_id = self._default_of(policy)
        said = (
            moderation.DEFAULT_MODEL_SET if default_id == policy.default_model_id else moderation.DEFAULT_MODEL_OF_BOT
        )
        return said(model=self._service.model_label(default_id))


def _why_not_in(guild: discord.Guild | None, channel_id: int) -> str | None:
    """Return why the bot cannot post images in a channel; None if it can."""
    missing = log_channel.missing_permissions(guild, channel_id)
    if missing is None:
        return moderation.LOG_UNKNOWN_CHANNEL(channel=formatting.channel(channel_id))
    if missing:
        return moderation.LOG_PERMISSIONS(channel=formatting.channel(channel_id), permissions=", ".join(missing))
    return None


def _not_a_word(entry: str) -> str:
    return moderation.NOT_A_WORD(
        word=formatting.inline(entry),
        characters=wordlist.MAX_ENTRY_CHARACTERS,
        words=wordlist.MAX_ENTRY_WORDS,
        wildcards=wordlist.MAX_ENTRY_WILDCARDS,
    )
