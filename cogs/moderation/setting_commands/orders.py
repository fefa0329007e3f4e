"""/settings channels, models, default-model, age-restricted, words: what may be ordered, and where."""

from __future__ import annotations

from typing import Any

import discord
from discord import app_commands

from bot.domain import word_list as wordlist
from bot.domain.jobs import JobKind
from bot.domain.policy import Policy
from cogs.generate.ordering import autocomplete as suggestions
from cogs.generate.ordering.autocomplete import completion
from cogs.moderation import settings_page
from cogs.moderation.quota import Reason
from cogs.moderation.setting_commands.base import (
    ABOUT_LIST,
    ADD,
    ALLOW,
    CLEAR,
    DENY,
    LIST,
    LIST_ACTIONS,
    REMOVE,
    RULE_ACTIONS,
    Action,
    Channel,
    SettingsCog,
    group,
    known_entries,
    model_pattern,
)
from cogs.text import formatting, moderation
from cogs.ui.checks import require_own_channel, require_own_role
from cogs.ui.initial_response import refuse_privately

_VERDICTS = {ALLOW: True, DENY: False, CLEAR: None}


class OrderSettings(SettingsCog):
    """Sets the rules about orders."""

    # -- where ----------------------------------------------------------------------------------------

    @group.command(name="channels", description="Where images can be ordered")
    @app_commands.describe(channel="A channel, thread or category", **ABOUT_LIST)
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
            await self._set(interaction, reason, settings_page.channels, channels={})
        else:
            await refuse_privately(interaction, moderation.NAME_CHANNEL())

    # -- models ---------------------------------------------------------------------------------------

    @group.command(name="models", description="Which models may be used, by everybody or by a role")
    @app_commands.describe(
        model="A model, or a pattern such as krea/openai/*",
        role="Only for members with this role",
        **ABOUT_LIST,
    )
    @app_commands.choices(action=RULE_ACTIONS)
    @app_commands.autocomplete(
        model=known_entries(
            lambda policy: [rule.pattern for rule in policy.model_rules],
            when=CLEAR,
            otherwise=suggestions.models_and_patterns,
        )
    )
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
            await self._set(interaction, reason, settings_page.models, model_rules=())
        else:
            await refuse_privately(interaction, moderation.NAME_MODEL())

    @group.command(name="default-model", description="The model of commands that name none")
    @app_commands.describe(model="Model", clear="Back to the bot's default", reason="Reason, shown in the audit log")
    @app_commands.autocomplete(model=completion(suggestions.models, JobKind.IMAGINE, uses_own_settings=False))
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
        await self._set(interaction, reason, self._default_model_line, default_model_id=chosen_id)

    @group.command(name="age-restricted", description="Models that work only in age-restricted channels")
    @app_commands.describe(model="A model, or a pattern such as krea/bfl/*", **ABOUT_LIST)
    @app_commands.choices(action=LIST_ACTIONS)
    @app_commands.autocomplete(
        model=known_entries(
            lambda policy: policy.age_restricted, when=REMOVE, otherwise=suggestions.models_and_patterns
        )
    )
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
            await self._set(interaction, reason, settings_page.age_restricted, age_restricted=())
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
        entries="With commas between them; * and ? stand for any letters: gore, blood*",
        **ABOUT_LIST,
    )
    @app_commands.choices(action=LIST_ACTIONS)
    @app_commands.rename(entries="words")
    @app_commands.autocomplete(entries=known_entries(lambda policy: policy.words, when=REMOVE))
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
            await self._set(interaction, reason, settings_page.word_list, words=())
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

    def _default_model_line(self, policy: Policy) -> str:
        default_id = self._default_of(policy)
        said = (
            moderation.DEFAULT_MODEL_SET if default_id == policy.default_model_id else moderation.DEFAULT_MODEL_OF_BOT
        )
        return said(model=self._service.model_label(default_id))


def _not_a_word(entry: str) -> str:
    return moderation.NOT_A_WORD(
        word=formatting.inline(entry),
        characters=wordlist.MAX_ENTRY_CHARACTERS,
        words=wordlist.MAX_ENTRY_WORDS,
        wildcards=wordlist.MAX_ENTRY_WILDCARDS,
    )
