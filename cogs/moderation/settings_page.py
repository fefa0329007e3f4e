"""The pages of /settings: a server's policy as text. Pure functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import discord

from bot.catalogue.models import Model
from bot.domain.audit import Standing
from bot.domain.money.quota import Quota
from bot.domain.money.spendable import Spendable
from bot.domain.policy import Policy
from cogs.alerts.log_channel import LogAudience
from cogs.generate.ordering.permissions import Permissions
from cogs.text import formatting, limits_left, moderation, spending
from cogs.text.audit_entries import STANDINGS
from cogs.text.locale import LANGUAGES, Phrase, language_for, language_of_server
from cogs.ui import card, components
from cogs.ui.components import Layout

LINES_SHOWN = 25
NAMES_IN_A_LINE = 5
TEXT_CHARACTERS = 3_900
"""Limit of a text, below the 4,000 characters that Discord allows in a message."""

Page = Callable[[Policy], str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Overview:
    """Everything that `/settings show` shows. `server_default` and `cap` are None where the moderators set none."""

    policy: Policy
    zone: str
    next_reset: datetime
    default_model: str
    default_is_ours: bool
    """Whether the default model is the bot's own, not one that moderators chose."""
    models: Sequence[Model]
    server_default: Quota | None
    bot_default: Quota
    cap: Quota | None
    role_limits: Sequence[tuple[int, Quota]]
    channel_caps: Sequence[tuple[int, Quota]]
    """By channel or category."""
    locale: discord.Locale | None
    """The language of the server in Discord."""
    warnings: Mapping[int, str] = field(default_factory=dict[int, str])
    """Why nothing may arrive in a channel in which something is posted, by channel."""
    log_readers: str = ""
    """Who reads the log besides moderators."""


def overview(seen: Overview, case: Sequence[str]) -> Layout:
    """Build the overview: what is in force and which layer decided; at first, what to decide.

    `case` is about one member in one channel.
    """
    parts = [components.text_display(f"### {moderation.TITLE()}")]
    if first := _decide_first(seen):
        parts.extend((components.text_display(first), components.separator()))
    entries = _entries(seen)
    for layer, is_set in ((moderation.SET_BY_MODERATORS(), True), (moderation.BOT_DEFAULT(), False)):
        if lines := [entry.line for entry in entries if entry.is_set is is_set]:
            parts.append(components.text_display("\n".join([f"-# {layer}", *lines])))
    parts.extend((components.separator(), components.text_display("\n".join(case))))
    return components.container(parts, accent=card.NOTE_ACCENT)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Entry:
    """One setting: what it is now, who decided that, and the command that changes it."""

    name: str
    value: str
    is_set: bool
    command: str

    @property
    def line(self) -> str:
        return moderation.LINE(name=self.name, value=self.value, command=self.command)


def _entries(seen: Overview) -> list[_Entry]:
    policy = seen.policy
    quota = spending.quota(seen.server_default or seen.bot_default)
    age_restricted = _names([f"`{pattern}`" for pattern in policy.age_restricted])
    found: list[tuple[str, str, object, str]] = [
        (moderation.CHANNELS(), channels_in_short(policy), policy.channels, "/settings channels"),
        (moderation.MODELS(), _models_in_short(seen), policy.model_rules, "/settings models"),
        (moderation.DEFAULT_MODEL(), seen.default_model, not seen.default_is_ours, "/settings default-model"),
        (
            moderation.AGE_RESTRICTED(),
            age_restricted or moderation.NO_MODELS(),
            policy.age_restricted,
            "/settings age-restricted",
        ),
        (
            moderation.WORDS(),
            moderation.WORDS_COUNTED(len(policy.words)) if policy.words else moderation.NO_WORDS(),
            policy.words,
            "/settings words",
        ),
        (
            moderation.LOG_CHANNEL(),
            _posts(seen, policy.log_channel_id, seen.log_readers),
            policy.log_channel_id,
            "/settings log-channel",
        ),
        (
            moderation.SHOWCASE(),
            _posts(seen, policy.showcase_channel_id),
            policy.showcase_channel_id,
            "/settings showcase",
        ),
        (moderation.REVIEW(), _review_in_short(seen), policy.review_channel_id, "/settings review"),
        (moderation.SPOILERS(), _spoilers_in_short(policy), policy.spoiler_channels, "/settings spoilers"),
        (
            moderation.WEEKLY_REPORT(),
            _posts(seen, policy.weekly_report_channel_id),
            policy.weekly_report_channel_id,
            "/settings weekly-report",
        ),
        (
            moderation.WELCOME_MESSAGE(),
            STANDINGS[Standing.ON if policy.greets else Standing.OFF](),
            not policy.greets,
            "/settings welcome",
        ),
        (moderation.LANGUAGE(), _language_in_short(seen), policy.language, "/settings language"),
        (moderation.TIME_ZONE(), seen.zone, seen.zone != "UTC", "/settings time-zone"),
        (
            moderation.QUOTA(),
            moderation.QUOTA_NOW(quota=quota, when=formatting.moment(seen.next_reset)),
            seen.server_default,
            "/quota default",
        ),
        (moderation.CAP(), spending.quota(seen.cap), seen.cap, "/quota server"),
    ]
    if seen.role_limits:
        limits = [f"<@&{role_id}> {spending.quota(quota)}" for role_id, quota in seen.role_limits]
        found.append((moderation.ROLE_LIMITS(), _names(limits), True, "/quota role"))
    if seen.channel_caps:
        caps = [f"{formatting.channel(channel_id)} {spending.quota(quota)}" for channel_id, quota in seen.channel_caps]
        found.append((moderation.CHANNEL_CAPS(), _names(caps), True, "/quota channel"))
    return [
        _Entry(name=name, value=value, is_set=bool(is_set), command=command) for name, value, is_set, command in found
    ]


def _models_in_short(seen: Overview) -> str:
    """Return 'all 21', or how many of them all members may use."""
    rules = seen.policy.model_rules
    if not rules:
        return moderation.ALL_MODELS(total=len(seen.models))
    allowed = sum(seen.policy.model_verdict(model.id, ()).allowed for model in seen.models)
    return moderation.SOME_MODELS(len(rules), allowed=allowed, total=len(seen.models))


def case_lines(
    permissions: Permissions, *, member: str, model: Model, models: Sequence[Model], spendable: Spendable
) -> list[str]:
    """Describe what one member may do in one channel, and which layer or limit decides it.

    `models` are those that can be ordered at all. "May order here" is said only where one of them could be ordered now.
    """
    channel = permissions.channel
    lines = [moderation.ASKED_FOR(member=member, channel=f"<#{channel.channel_ids[0]}>")]
    verdict = permissions.policy.channel_verdict(channel)
    why_not = _why_nothing(permissions, models, spendable) if verdict.allowed else moderation.channel_layer(verdict)
    if why_not:
        lines.append(moderation.MAY_NOT_ORDER(why=why_not))
    else:
        lines.append(moderation.MAY_ORDER(why=moderation.channel_layer(verdict)))
    verdict = permissions.policy.model_verdict(model.id, permissions.role_ids)
    if verdict.allowed and permissions.policy.is_age_restricted(model.id) and not channel.age_restricted:
        lines.append(moderation.NEEDS_AGE_RESTRICTED(model=model.label))
    else:
        may_use = moderation.MAY_USE if verdict.allowed else moderation.MAY_NOT_USE
        lines.append(may_use(model=model.label, why=moderation.model_layer(verdict)))
    return lines


def _why_nothing(permissions: Permissions, models: Sequence[Model], spendable: Spendable) -> str:
    """Return why a member can order nothing in a channel that is allowed; '' if they can."""
    prices = [model.starting_usd_micros or 0 for model in models if permissions.permits(model)]
    if not prices:
        return moderation.NO_MODEL_HERE()
    left = spendable.left_usd_micros
    if spendable.blocked or spendable.paused_until is not None or (left is not None and left < min(prices)):
        return limits_left.binding_for_moderators(spendable)
    return ""


def channels(policy: Policy) -> str:
    """Return the rules about channels."""
    if not policy.channels:
        return moderation.CHANNELS_EMPTY()
    lines = [_rule(f"<#{channel_id}>", allowed) for channel_id, allowed in policy.channels.items()]
    now = _where(policy, moderation.CHANNELS_ONLY_IN, moderation.CHANNELS_NOT_IN, moderation.CHANNELS_ONLY_IN_NOT_IN)
    return _listed(f"{moderation.CHANNELS()}\n{now}", lines, moderation.CHANNELS_HINT())


def models(policy: Policy) -> str:
    """Return the rules about models."""
    if not policy.model_rules:
        return moderation.MODELS_EMPTY()
    lines: list[str] = []
    for rule in policy.model_rules:
        name = f"`{rule.pattern}`"
        if rule.role_id is not None:
            name = moderation.FOR_ROLE(name=name, role=f"<@&{rule.role_id}>")
        lines.append(_rule(name, rule.allows))
    return _listed(moderation.MODELS(), lines, moderation.MODELS_HINT())


def age_restricted(policy: Policy) -> str:
    """Return the models that need an age-restricted channel."""
    if not policy.age_restricted:
        return moderation.AGE_EMPTY()
    return _listed(moderation.AGE_RESTRICTED(), [f"`{pattern}`" for pattern in policy.age_restricted], "")


def word_list(policy: Policy) -> str:
    """Return the words that may not be in a prompt."""
    if not policy.words:
        return f"{moderation.WORDS_EMPTY()}\n{moderation.WORDS_HINT()}"
    return _listed(moderation.WORDS(), [", ".join(f"`{word}`" for word in policy.words)], moderation.WORDS_HINT())


def channels_in_short(policy: Policy) -> str:
    """Return 'everywhere', 'only in #a, #b' or 'not in #c'."""
    return (
        _where(policy, moderation.ONLY_IN, moderation.NOT_IN, moderation.ONLY_IN_NOT_IN)
        if policy.channels
        else moderation.EVERYWHERE()
    )


def _where(policy: Policy, only_in: Phrase, not_in: Phrase, both: Phrase) -> str:
    """Return where images are made, in one of three phrases."""
    allowed = [f"<#{channel_id}>" for channel_id, allows in policy.channels.items() if allows]
    denied = [f"<#{channel_id}>" for channel_id, allows in policy.channels.items() if not allows]
    said = both if allowed and denied else only_in if allowed else not_in
    return said(allowed=_names(allowed), denied=_names(denied))


def log_channel(policy: Policy) -> str:
    """Return where finished orders are posted."""
    if policy.log_channel_id is None:
        return moderation.LOG_IS_OFF()
    return moderation.LOG_IS(channel=f"<#{policy.log_channel_id}>")


def weekly_report(policy: Policy) -> str:
    """Return where the weekly report is posted."""
    if policy.weekly_report_channel_id is None:
        return moderation.WEEKLY_IS_OFF()
    return moderation.WEEKLY_IS(channel=formatting.channel(policy.weekly_report_channel_id))


def showcase(policy: Policy) -> str:
    """Return where members share images."""
    if policy.showcase_channel_id is None:
        return moderation.SHOWCASE_IS_OFF()
    said = moderation.SHOWCASE_IS(channel=formatting.channel(policy.showcase_channel_id))
    if policy.showcase_stars <= 1:
        return said
    return f"{said} {moderation.SHOWCASE_STARS(needed=policy.showcase_stars)}"


def review(policy: Policy) -> str:
    """Return whose images are reviewed, and where."""
    if policy.review_channel_id is None:
        return moderation.REVIEW_IS_OFF()
    channel, lines = formatting.channel(policy.review_channel_id), _reviewed(policy)
    if not lines:
        return moderation.REVIEW_NAMES_NOTHING(channel=channel)
    return _listed(f"{moderation.REVIEW()}\n{moderation.REVIEW_IS(channel=channel)}", lines, moderation.REVIEW_HINT())


def _reviewed(policy: Policy) -> list[str]:
    channels = [formatting.channel(channel_id) for channel_id in policy.reviewed_channels]
    roles = [f"<@&{role_id}>" for role_id in policy.reviewed_roles]
    return [*channels, *roles, *(f"`{pattern}`" for pattern in policy.reviewed_models)]


def _review_in_short(seen: Overview) -> str:
    lines, channel_id = _reviewed(seen.policy), seen.policy.review_channel_id
    if channel_id is None or not lines:
        return spending.NOT_SET()
    where = moderation.REVIEW_IN_SHORT(channel=_posts(seen, channel_id))
    return f"{_names(lines)} · {where}"


def spoilers(policy: Policy) -> str:
    """Return the channels in which images are covered."""
    if not policy.spoiler_channels:
        return moderation.SPOILERS_ARE_OFF()
    lines = [formatting.channel(channel_id) for channel_id in policy.spoiler_channels]
    return _listed(moderation.SPOILERS(), lines, moderation.SPOILERS_HINT())


def _spoilers_in_short(policy: Policy) -> str:
    return _names([formatting.channel(channel_id) for channel_id in policy.spoiler_channels]) or spending.NOT_SET()


def welcome(policy: Policy) -> str:
    """Return whether the bot introduces itself."""
    return moderation.WELCOME_IS_ON() if policy.greets else moderation.WELCOME_IS_OFF()


def log_audience(audience: LogAudience | None, channel_id: int) -> str:
    """Return what it means that others than moderators read the log; '' if none do."""
    if audience is None:
        return ""
    return moderation.LOG_AUDIENCES[audience](channel=f"<#{channel_id}>")


def language(policy: Policy, *, locale: discord.Locale | None) -> str:
    """Return the language of public messages, and who chose it."""
    said = moderation.LANGUAGE_SET if policy.language else moderation.LANGUAGE_OF_DISCORD
    return f"{said(language=_language_name(policy, locale))}\n{moderation.LANGUAGE_HINT()}"


def _language_in_short(seen: Overview) -> str:
    name = _language_name(seen.policy, seen.locale)
    return name if seen.policy.language else moderation.LANGUAGE_NOW(language=name)


def _language_name(policy: Policy, locale: discord.Locale | None) -> str:
    return LANGUAGES[language_for(language_of_server(policy, locale))]


def _decide_first(seen: Overview) -> str:
    """List the first decisions, as long as none has been made."""
    if seen.policy != Policy() or seen.server_default or seen.cap or seen.zone != "UTC":
        return ""
    return "\n".join(phrase() for phrase in (moderation.FIRST_TITLE, moderation.FIRST_NOTE, *moderation.FIRST_STEPS))


def _posts(seen: Overview, channel_id: int | None, *notes: str) -> str:
    """Name a channel in which something is posted, with what to know about it."""
    if channel_id is None:
        return spending.NOT_SET()
    about = " ".join(filter(None, (seen.warnings.get(channel_id), *notes)))
    return " · ".join(filter(None, (formatting.channel(channel_id), about)))


def _rule(name: str, allowed: bool) -> str:
    return f"{'✅' if allowed else '🚫'} {name}"


def _names(names: Sequence[str]) -> str:
    more = [moderation.MORE(len(names) - NAMES_IN_A_LINE)] if len(names) > NAMES_IN_A_LINE else []
    return ", ".join([*names[:NAMES_IN_A_LINE], *more])


def _listed(title: str, lines: Sequence[str], hint: str) -> str:
    more = [moderation.MORE(len(lines) - LINES_SHOWN)] if len(lines) > LINES_SHOWN else []
    return formatting.shorten(
        "\n".join([f"### {title}", *lines[:LINES_SHOWN], *more, *([hint] if hint else [])]), TEXT_CHARACTERS
    )
