"""Policy: what a server's moderators allow, as one frozen value, and the checks an order has to pass. No I/O.

What nobody decided is allowed. Of several rules the one closest to the case counts, see the two verdicts.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import lru_cache

from bot.domain import word_list
from bot.domain.audit import Channel, Fact, Models, Name, Standing, Topic, as_channel, as_language, as_name
from bot.domain.errors import ListFull, NotAllowedHere
from bot.domain.patterns import Pattern, is_pattern

MAX_ENTRIES = 100
"""Entries in each list of a server."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ChannelContext:
    """Where an order comes from: the channel, then what it lies in (a thread's channel, a channel's category)."""

    channel_ids: tuple[int, ...]
    age_restricted: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelRule:
    """Members with the role, or everybody, may or may not use the models whose ids match the pattern."""

    pattern: str
    role_id: int | None
    allows: bool


class Layer(StrEnum):
    """Which layer of the rules decided."""

    NOTHING_SET = "nothing_set"
    CHANNEL = "channel"
    """A rule for this very channel."""
    AROUND = "around"
    """A rule for the channel or category around it."""
    NOT_LISTED = "not_listed"
    """Others are allowed, and only what is listed is."""
    ROLE = "role"
    EVERYBODY = "everybody"
    OTHER_ROLES = "other_roles"
    """Allowed for roles that the member does not have."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """Whether something is allowed, the layer that decided, and the rule of that layer where it is one rule."""

    allowed: bool
    layer: Layer
    channel_id: int | None = None
    rule: ModelRule | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Alteration:
    """One difference between two policies, for the record of changes."""

    setting: str
    old: Fact
    new: Fact
    topic: Topic | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """Everything the moderators of one server decided but money. `channels` says of each whether it is allowed."""

    channels: Mapping[int, bool] = field(default_factory=dict[int, bool])
    model_rules: tuple[ModelRule, ...] = ()
    age_restricted: tuple[str, ...] = ()
    """Models, or patterns, that work only in age-restricted channels."""
    words: tuple[str, ...] = ()
    default_model_id: str | None = None
    log_channel_id: int | None = None
    language: str | None = None
    """What the bot speaks where everybody reads it. None: what Discord says the server speaks."""

    # -- what is allowed ------------------------------------------------------------------------------

    def check(
        self, *, place: ChannelContext, role_ids: Collection[int], model_id: str, model_label: str, prompt: str
    ) -> None:
        """Raises NotAllowedHere, which says what is in the way."""
        if not self.channel_verdict(place).allowed:
            allowed = tuple(channel_id for channel_id, allows in self.channels.items() if allows)
            raise NotAllowedHere("channel", channel_ids=allowed)
        verdict = self.model_verdict(model_id, role_ids)
        if not verdict.allowed:
            reason = "other_roles" if verdict.layer is Layer.OTHER_ROLES else "model"
            raise NotAllowedHere(reason, model_label=model_label, role_ids=self._roles_allowed(model_id))
        if self.is_age_restricted(model_id) and not place.age_restricted:
            raise NotAllowedHere("age_restricted", model_label=model_label)
        if (word := word_list.find(self.words, prompt)) is not None:
            raise NotAllowedHere("word", word=word)

    def permits(self, model_id: str, *, place: ChannelContext, role_ids: Collection[int]) -> bool:
        """Whether an order of that model could pass, whatever its prompt."""
        return (
            self.channel_verdict(place).allowed
            and self.model_verdict(model_id, role_ids).allowed
            and (place.age_restricted or not self.is_age_restricted(model_id))
        )

    def channel_verdict(self, place: ChannelContext) -> Verdict:
        """The rule closest to the channel decides: its own, its channel's if it is a thread, its category's.

        Where there is none: allowed, unless others are, because then only those are.
        """
        for channel_id in place.channel_ids:
            if (allowed := self.channels.get(channel_id)) is not None:
                layer = Layer.CHANNEL if channel_id == place.channel_ids[0] else Layer.AROUND
                return Verdict(allowed=allowed, layer=layer, channel_id=channel_id)
        if any(self.channels.values()):
            return Verdict(allowed=False, layer=Layer.NOT_LISTED)
        return Verdict(allowed=True, layer=Layer.NOTHING_SET)

    def model_verdict(self, model_id: str, role_ids: Collection[int]) -> Verdict:
        """Rules for the member's roles come before rules for everybody; the longest pattern decides, then 'allow'.

        Where there is none: a model that is allowed for other roles is for those, and where models are allowed for
        everybody, only those are.
        """
        fitting = [rule for rule in self.model_rules if _matches(rule.pattern, model_id)]
        for layer, rules in (
            (Layer.ROLE, [rule for rule in fitting if rule.role_id is not None and rule.role_id in role_ids]),
            (Layer.EVERYBODY, [rule for rule in fitting if rule.role_id is None]),
        ):
            if rules:
                rule = max(rules, key=_closeness)
                return Verdict(allowed=rule.allows, layer=layer, rule=rule)
        if any(rule.allows for rule in fitting):
            return Verdict(allowed=False, layer=Layer.OTHER_ROLES)
        if any(rule.allows and rule.role_id is None for rule in self.model_rules):
            return Verdict(allowed=False, layer=Layer.NOT_LISTED)
        return Verdict(allowed=True, layer=Layer.NOTHING_SET)

    def is_age_restricted(self, model_id: str) -> bool:
        """Whether the model works only in age-restricted channels."""
        return any(_matches(pattern, model_id) for pattern in self.age_restricted)

    def _roles_allowed(self, model_id: str) -> tuple[int, ...]:
        return tuple(
            rule.role_id
            for rule in self.model_rules
            if rule.allows and rule.role_id is not None and _matches(rule.pattern, model_id)
        )

    # -- changing it: each returns a new policy, or raises ListFull -----------------------------------

    def with_channel(self, channel_id: int, allowed: bool | None) -> Policy:
        """Allow or deny a channel or category, or (None) forget about it."""
        channels = {key: value for key, value in self.channels.items() if key != channel_id}
        if allowed is not None:
            _require_room(channels)
            channels[channel_id] = allowed
        return replace(self, channels=channels)

    def with_model_rule(self, pattern: str, role_id: int | None, allowed: bool | None) -> Policy:
        """Allow or deny models for a role or everybody (None), or (None) forget that rule."""
        rules = tuple(rule for rule in self.model_rules if (rule.pattern, rule.role_id) != (pattern, role_id))
        if allowed is not None:
            _require_room(rules)
            rules = (*rules, ModelRule(pattern=pattern, role_id=role_id, allows=allowed))
        return replace(self, model_rules=rules)

    def with_age_restricted(self, pattern: str, restricted: bool) -> Policy:
        """Let models work only in age-restricted channels, or everywhere again."""
        patterns = tuple(other for other in self.age_restricted if other != pattern)
        if restricted:
            _require_room(patterns)
            patterns = (*patterns, pattern)
        return replace(self, age_restricted=patterns)

    def with_words(self, entries: Collection[str], listed: bool) -> Policy:
        """Add normalised entries to the word list, or take them off."""
        words = tuple(word for word in self.words if word not in entries)
        if listed:
            words = (*words, *dict.fromkeys(entries))
            if len(words) > MAX_ENTRIES:
                raise ListFull(MAX_ENTRIES)
        return replace(self, words=words)


Alter = Callable[[Policy], Policy]


def alterations(old: Policy, new: Policy) -> Iterator[Alteration]:
    """What is different, one line for each thing, so that the record of changes says it all."""
    yield from _differences("channels", _channel_standings(old), _channel_standings(new))
    yield from _differences("models", _rule_standings(old), _rule_standings(new))
    yield from _differences("age_restricted", _listed(old.age_restricted), _listed(new.age_restricted))
    yield from _differences("words", _listed(old.words), _listed(new.words))
    if old.default_model_id != new.default_model_id:
        yield Alteration(setting="default_model", old=as_name(old.default_model_id), new=as_name(new.default_model_id))
    if old.log_channel_id != new.log_channel_id:
        yield Alteration(setting="log_channel", old=as_channel(old.log_channel_id), new=as_channel(new.log_channel_id))
    if old.language != new.language:
        yield Alteration(setting="language", old=as_language(old.language), new=as_language(new.language))


def _differences(setting: str, old: Mapping[Topic, Standing], new: Mapping[Topic, Standing]) -> Iterator[Alteration]:
    for topic in dict.fromkeys((*old, *new)):
        before, after = old.get(topic, Standing.NOT_LISTED), new.get(topic, Standing.NOT_LISTED)
        if before is not after:
            yield Alteration(setting=setting, topic=topic, old=before, new=after)


def _listed(names: Collection[str]) -> dict[Topic, Standing]:
    return {Name(name=name): Standing.LISTED for name in names}


def _channel_standings(policy: Policy) -> dict[Topic, Standing]:
    return {Channel(channel_id=channel_id): _allowed(allows) for channel_id, allows in policy.channels.items()}


def _rule_standings(policy: Policy) -> dict[Topic, Standing]:
    return {Models(pattern=rule.pattern, role_id=rule.role_id): _allowed(rule.allows) for rule in policy.model_rules}


def _allowed(allows: bool) -> Standing:
    return Standing.ALLOWED if allows else Standing.DENIED


def _require_room(entries: Collection[object]) -> None:
    if len(entries) >= MAX_ENTRIES:
        raise ListFull(MAX_ENTRIES)


def _closeness(rule: ModelRule) -> tuple[bool, int, bool]:
    return not is_pattern(rule.pattern), len(rule.pattern), rule.allows


@lru_cache(maxsize=4096)
def _compiled(pattern: str) -> Pattern:
    return Pattern(pattern)


def _matches(pattern: str, model_id: str) -> bool:
    return pattern == model_id or (is_pattern(pattern) and _compiled(pattern).matches(model_id))
