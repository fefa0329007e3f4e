"""The policy of a server: what its moderators allow, as one frozen value, and the checks of an order. No I/O.

What no rule mentions is allowed. Of several rules the most specific one decides, see `channel_verdict` and
`model_verdict`.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import lru_cache
from typing import TypeVar

from bot.domain import word_list
from bot.domain.audit import Channel, Fact, Models, Name, Role, Standing, Topic, as_channel, as_language, as_name
from bot.domain.constraints import Text
from bot.domain.errors import BadOption, ListFull, NotAllowedHere
from bot.domain.jobs import Visibility

MAX_ENTRIES = 100
"""In each list of a server's settings."""

MAX_MODEL_ID_CHARACTERS = 200
"""No id in the catalogue is as long; what a member typed instead of one matches no pattern."""

_Entry = TypeVar("_Entry")

_ASTERISKS = re.compile(r"\*{2,}")


def is_pattern(text: str) -> bool:
    """Return whether the text contains a wildcard: `*` (any characters) or `?` (one character)."""
    return "*" in text or "?" in text


def matches(pattern: str, model_id: str) -> bool:
    """Return whether the whole model id matches the pattern. Case counts, and only `*` and `?` are special."""
    if pattern == model_id:
        return True
    if not is_pattern(pattern) or len(model_id) > MAX_MODEL_ID_CHARACTERS:
        return False
    shortest = _ASTERISKS.sub("*", pattern)
    # A longer one has more characters beside its asterisks than a model id.
    if len(shortest) > 2 * MAX_MODEL_ID_CHARACTERS + 1:
        return False
    return _compile(shortest).match(model_id) is not None


@lru_cache(maxsize=1024)
def _compile(pattern: str) -> re.Pattern[str]:
    # A bracket would begin a set of characters.
    return re.compile(fnmatch.translate(pattern.replace("[", "[[]")))


@dataclass(frozen=True, kw_only=True, slots=True)
class ChannelContext:
    """The channel of an order: its id, then those of its parents (a thread's channel, a channel's category)."""

    channel_ids: tuple[int, ...]
    age_restricted: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelRule:
    """Allows or denies the models whose ids match the pattern to members with the role, or to everyone (None)."""

    pattern: str
    role_id: int | None
    allows: bool


class Layer(StrEnum):
    """The kind of rule that decided."""

    NOTHING_SET = "nothing_set"
    CHANNEL = "channel"
    """A rule for the channel itself."""
    PARENT = "parent"
    """A rule for a parent of the channel."""
    NOT_LISTED = "not_listed"
    """No rule, but others are allowed, and so only those are."""
    ROLE = "role"
    EVERYBODY = "everybody"
    OTHER_ROLES = "other_roles"
    """Allowed only for roles that the member does not have."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """Whether something is allowed, the kind of rule that decided, and the rule itself where it is a single one."""

    allowed: bool
    layer: Layer
    channel_id: int | None = None
    rule: ModelRule | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class PolicyChange:
    """One difference between two policies, for the audit log."""

    setting: str
    old: Fact
    new: Fact
    topic: Topic | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """All settings of one server except limits. `channels` maps channel ids to whether they are allowed."""

    channels: Mapping[int, bool] = field(default_factory=dict[int, bool])
    model_rules: tuple[ModelRule, ...] = ()
    age_restricted: tuple[str, ...] = ()
    """Model ids, or patterns, that work only in age-restricted channels."""
    words: tuple[str, ...] = ()
    default_model_id: str | None = None
    log_channel_id: int | None = None
    language: str | None = None
    """The language of public messages; None for the server's locale at Discord."""
    weekly_report_channel_id: int | None = None
    """Where the report of each week is posted; None for nowhere."""
    showcase_channel_id: int | None = None
    """Where members share finished images; None for nowhere."""
    showcase_stars: int = 1
    """Members who must press Share before an image is shared; a moderator shares it at once."""
    greets: bool = True
    """Whether the bot introduces itself when it joins the server."""
    review_channel_id: int | None = None
    """Where moderators see the images of `reviewed_…` before everybody else; None for no review."""
    reviewed_channels: tuple[int, ...] = ()
    """Channels or categories."""
    reviewed_roles: tuple[int, ...] = ()
    reviewed_models: tuple[str, ...] = ()
    """Model ids, or patterns."""
    spoiler_channels: tuple[int, ...] = ()
    """Channels or categories in which images are covered until they are clicked."""

    # -- what is allowed ------------------------------------------------------------------------------

    def check(
        self, *, channel: ChannelContext, role_ids: Collection[int], model_id: str, model_label: str, prompt: str
    ) -> None:
        """Check an order against all rules. Raises NotAllowedHere, or BadOption for a prompt that is too long."""
        if not self.channel_verdict(channel).allowed:
            allowed = tuple(channel_id for channel_id, allows in self.channels.items() if allows)
            raise NotAllowedHere("channel", channel_ids=allowed)
        verdict = self.model_verdict(model_id, role_ids)
        if not verdict.allowed:
            reason = "other_roles" if verdict.layer is Layer.OTHER_ROLES else "model"
            raise NotAllowedHere(reason, model_label=model_label, role_ids=self._roles_allowed(model_id))
        if self.is_age_restricted(model_id) and not channel.age_restricted:
            raise NotAllowedHere("age_restricted", model_label=model_label)
        try:
            word = word_list.find_listed(self.words, prompt)
        except word_list.PromptTooLong as error:
            limit = Text(max_characters=word_list.MAX_PLAIN_CHARACTERS)
            raise BadOption("prompt", model_label, "wrong_length", limit, length=error.length) from error
        if word is not None:
            raise NotAllowedHere("word", word=word)

    def permits(self, model_id: str, *, channel: ChannelContext, role_ids: Collection[int]) -> bool:
        """Return whether `check` would allow an order of that model with an unobjectionable prompt."""
        return (
            self.channel_verdict(channel).allowed
            and self.model_verdict(model_id, role_ids).allowed
            and (channel.age_restricted or not self.is_age_restricted(model_id))
        )

    def channel_verdict(self, channel: ChannelContext) -> Verdict:
        """Decide by the most specific rule: of the channel, else of a thread's channel, else of the category.

        Without such a rule the channel is allowed, unless other channels are: then only those are.
        """
        for channel_id in channel.channel_ids:
            if (allowed := self.channels.get(channel_id)) is not None:
                layer = Layer.CHANNEL if channel_id == channel.channel_ids[0] else Layer.PARENT
                return Verdict(allowed=allowed, layer=layer, channel_id=channel_id)
        if any(self.channels.values()):
            return Verdict(allowed=False, layer=Layer.NOT_LISTED)
        return Verdict(allowed=True, layer=Layer.NOTHING_SET)

    def model_verdict(self, model_id: str, role_ids: Collection[int]) -> Verdict:
        """Decide by rules for the member's roles, else by rules for everyone; the most specific pattern wins.

        Without such a rule the model is allowed, unless it is allowed for other roles or other models are allowed for
        everyone: then it is denied.
        """
        matching = [rule for rule in self.model_rules if matches(rule.pattern, model_id)]
        for layer, rules in (
            (Layer.ROLE, [rule for rule in matching if rule.role_id is not None and rule.role_id in role_ids]),
            (Layer.EVERYBODY, [rule for rule in matching if rule.role_id is None]),
        ):
            if rules:
                rule = max(rules, key=_specificity)
                return Verdict(allowed=rule.allows, layer=layer, rule=rule)
        if any(rule.allows for rule in matching):
            return Verdict(allowed=False, layer=Layer.OTHER_ROLES)
        if any(rule.allows and rule.role_id is None for rule in self.model_rules):
            return Verdict(allowed=False, layer=Layer.NOT_LISTED)
        return Verdict(allowed=True, layer=Layer.NOTHING_SET)

    def is_age_restricted(self, model_id: str) -> bool:
        """Return whether the model works only in age-restricted channels."""
        return any(matches(pattern, model_id) for pattern in self.age_restricted)

    def visibility(
        self, *, channel: ChannelContext, role_ids: Collection[int], model_ids: Collection[str], private: bool
    ) -> Visibility:
        """Return how the images of an order may be shown. A private one is seen by its member alone."""
        if private:
            return Visibility()
        is_reviewed = (
            any(channel_id in self.reviewed_channels for channel_id in channel.channel_ids)
            or any(role_id in self.reviewed_roles for role_id in role_ids)
            or any(matches(pattern, model_id) for pattern in self.reviewed_models for model_id in model_ids)
        )
        return Visibility(
            review_channel_id=self.review_channel_id if is_reviewed else None,
            spoiler=any(channel_id in self.spoiler_channels for channel_id in channel.channel_ids),
        )

    def _roles_allowed(self, model_id: str) -> tuple[int, ...]:
        return tuple(
            rule.role_id
            for rule in self.model_rules
            if rule.allows and rule.role_id is not None and matches(rule.pattern, model_id)
        )

    # -- changes: each returns a new policy, or raises ListFull ----------------------------------------

    def with_channel(self, channel_id: int, allowed: bool | None) -> Policy:
        """Allow or deny a channel or category, or remove its rule (None)."""
        channels = {key: value for key, value in self.channels.items() if key != channel_id}
        if allowed is not None:
            _require_space(channels)
            channels[channel_id] = allowed
        return replace(self, channels=channels)

    def with_model_rule(self, pattern: str, role_id: int | None, allowed: bool | None) -> Policy:
        """Allow or deny models for a role or for everyone (`role_id` None), or remove that rule (`allowed` None)."""
        rules = tuple(rule for rule in self.model_rules if (rule.pattern, rule.role_id) != (pattern, role_id))
        if allowed is not None:
            _require_space(rules)
            rules = (*rules, ModelRule(pattern=pattern, role_id=role_id, allows=allowed))
        return replace(self, model_rules=rules)

    def with_age_restricted(self, pattern: str, restricted: bool) -> Policy:
        """Restrict models to age-restricted channels, or remove that restriction."""
        return replace(self, age_restricted=_with(self.age_restricted, pattern, restricted))

    def with_words(self, entries: Collection[str], listed: bool) -> Policy:
        """Add normalised entries to the word list, or remove them."""
        words = tuple(word for word in self.words if word not in entries)
        if listed:
            words = (*words, *dict.fromkeys(entries))
            if len(words) > MAX_ENTRIES:
                raise ListFull(MAX_ENTRIES)
        return replace(self, words=words)

    def with_reviewed(
        self, *, channel_id: int | None, role_id: int | None, model: str | None, reviewed: bool
    ) -> Policy:
        """Have images of a channel, of members with a role, or of a model reviewed, or no longer."""
        return replace(
            self,
            reviewed_channels=_with(self.reviewed_channels, channel_id, reviewed),
            reviewed_roles=_with(self.reviewed_roles, role_id, reviewed),
            reviewed_models=_with(self.reviewed_models, model, reviewed),
        )

    def with_spoilers(self, channel_id: int, covered: bool) -> Policy:
        """Cover the images of a channel or category, or no longer."""
        return replace(self, spoiler_channels=_with(self.spoiler_channels, channel_id, covered))


PolicyEdit = Callable[[Policy], Policy]


def policy_changes(old: Policy, new: Policy) -> Iterator[PolicyChange]:
    """Yield every difference between two policies, one entry for each setting or element of a list."""
    yield from _differences("channels", _channel_standings(old), _channel_standings(new))
    yield from _differences("models", _rule_standings(old), _rule_standings(new))
    yield from _differences("age_restricted", _listed(old.age_restricted), _listed(new.age_restricted))
    yield from _differences("words", _listed(old.words), _listed(new.words))
    yield from _change("default_model", as_name(old.default_model_id), as_name(new.default_model_id))
    yield from _change("log_channel", as_channel(old.log_channel_id), as_channel(new.log_channel_id))
    yield from _change(
        "weekly_report", as_channel(old.weekly_report_channel_id), as_channel(new.weekly_report_channel_id)
    )
    yield from _change("showcase", as_channel(old.showcase_channel_id), as_channel(new.showcase_channel_id))
    yield from _change("showcase_stars", as_name(str(old.showcase_stars)), as_name(str(new.showcase_stars)))
    yield from _change("review_channel", as_channel(old.review_channel_id), as_channel(new.review_channel_id))
    yield from _differences("review", _reviewed(old), _reviewed(new))
    yield from _differences("spoilers", _channels(old.spoiler_channels), _channels(new.spoiler_channels))
    yield from _change("welcome", _on_or_off(old.greets), _on_or_off(new.greets))
    yield from _change("language", as_language(old.language), as_language(new.language))


def _change(setting: str, old: Fact, new: Fact) -> Iterator[PolicyChange]:
    if old != new:
        yield PolicyChange(setting=setting, old=old, new=new)


def _differences(setting: str, old: Mapping[Topic, Standing], new: Mapping[Topic, Standing]) -> Iterator[PolicyChange]:
    for topic in dict.fromkeys((*old, *new)):
        before, after = old.get(topic, Standing.NOT_LISTED), new.get(topic, Standing.NOT_LISTED)
        if before is not after:
            yield PolicyChange(setting=setting, topic=topic, old=before, new=after)


def _listed(names: Collection[str]) -> dict[Topic, Standing]:
    return {Name(name=name): Standing.LISTED for name in names}


def _channels(channel_ids: Collection[int]) -> dict[Topic, Standing]:
    return {Channel(channel_id=channel_id): Standing.LISTED for channel_id in channel_ids}


def _reviewed(policy: Policy) -> dict[Topic, Standing]:
    roles: dict[Topic, Standing] = {Role(role_id=role_id): Standing.LISTED for role_id in policy.reviewed_roles}
    return {**_channels(policy.reviewed_channels), **roles, **_listed(policy.reviewed_models)}


def _channel_standings(policy: Policy) -> dict[Topic, Standing]:
    return {Channel(channel_id=channel_id): _allowed(allows) for channel_id, allows in policy.channels.items()}


def _rule_standings(policy: Policy) -> dict[Topic, Standing]:
    return {Models(pattern=rule.pattern, role_id=rule.role_id): _allowed(rule.allows) for rule in policy.model_rules}


def _on_or_off(is_on: bool) -> Standing:
    return Standing.ON if is_on else Standing.OFF


def _allowed(allows: bool) -> Standing:
    return Standing.ALLOWED if allows else Standing.DENIED


def _with(entries: tuple[_Entry, ...], entry: _Entry | None, listed: bool) -> tuple[_Entry, ...]:
    """Return the list with or without an entry; unchanged for None. Raises ListFull."""
    if entry is None:
        return entries
    others = tuple(other for other in entries if other != entry)
    if not listed:
        return others
    _require_space(others)
    return (*others, entry)


def _require_space(entries: Collection[object]) -> None:
    if len(entries) >= MAX_ENTRIES:
        raise ListFull(MAX_ENTRIES)


def _specificity(rule: ModelRule) -> tuple[bool, int, bool]:
    """Return a sort key: exact ids above patterns, then longer patterns, then allowing rules."""
    return not is_pattern(rule.pattern), len(rule.pattern), rule.allows
