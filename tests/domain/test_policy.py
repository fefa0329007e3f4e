"""The policy of a server: which rule decides, which words are found in a prompt, storing and recording it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.domain import word_list
from bot.domain.audit import Channel, Language, Models, Name, Standing
from bot.domain.deployment.database_url import Location
from bot.domain.errors import BadOption, ListFull, NotAllowedHere
from bot.domain.money.quota import Period, Window
from bot.domain.policy import MAX_ENTRIES, ChannelContext, Layer, Policy, PolicyEdit, matches
from bot.store.store import Store
from bot.store.tables import guild_settings
from cogs.text.audit_entries import AUDIT_ACTIONS
from tests.support.postgres_server import PostgresServer
from tests.support.processor_time import assert_linear
from tests.support.store_samples import ADA, NOON, a_command, limits

GUILD, CHANNEL, PARENT, CATEGORY = 1, 10, 11, 12
ARTISTS, NEWCOMERS = 20, 21
GPT, NANO, FLUX = "krea/openai/gpt-image", "krea/google/nano-banana-2", "krea/bfl/flux-1-dev"
HERE = ChannelContext(channel_ids=(CHANNEL, PARENT, CATEGORY), age_restricted=False)

# -- patterns ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("krea/openai/*", "krea/openai/gpt-image", True),
        ("krea/openai/*", "krea/openai", False),
        ("*", "", True),
        ("*", "anything", True),
        ("a*", "a", True),
        ("*a", "a", True),
        ("a*a", "a", False),
        ("a*a", "aa", True),
        ("*/flux-?-dev", "krea/bfl/flux-1-dev", True),
        ("*/flux-?-dev", "krea/bfl/flux-dev", False),
        ("*b*d*", "abcde", True),
        ("*d*b*", "abcde", False),
        ("a.c", "abc", False),
        ("", "", True),
        ("?", "", False),
        ("a**b", "ab", True),
        ("ab*ba", "aba", False),
    ],
)
def test_a_pattern_matches_the_whole_text(pattern: str, text: str, expected: bool) -> None:
    assert matches(pattern, text) is expected


def by_definition(pattern: str, text: str) -> bool:
    """Match by the definition, which takes exponential time."""
    if not pattern:
        return not text
    if pattern[0] == "*":
        return any(by_definition(pattern[1:], text[start:]) for start in range(len(text) + 1))
    return bool(text) and pattern[0] in ("?", text[0]) and by_definition(pattern[1:], text[1:])


@given(pattern=st.text("ab*?[]!-", max_size=7), text=st.text("ab[]!-\n", max_size=8))
def test_only_an_asterisk_and_a_question_mark_are_special_in_a_pattern(pattern: str, text: str) -> None:
    assert matches(pattern, text) is by_definition(pattern, text)


def test_no_pattern_takes_long_over_any_text() -> None:
    began = time.thread_time()
    assert not matches("*a" * 29 + "b", "a" * 6_000)
    assert not matches("*" + "?" * 28 + "b", "a" * 6_000)
    assert not matches("*" + "a" * 58 + "b", "a" * 6_000)
    assert not matches("*" + "?a" * 28 + "b*", "a" * 6_000)
    assert time.thread_time() - began < 0.5


# -- words ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "prompt", "found"),
    [
        ("gore", "a gore scene", "gore"),
        ("gore", "GORE!", "gore"),
        ("gore", "\uff27\uff2f\uff32\uff25", "gore"),
        ("gore", "go\u200bre", "gore"),
        ("gore", "go\u00adre", "gore"),
        ("gore", "gorey hills, Gorelick", None),
        ("ass", "a glass of water", None),
        ("blood*", "a bloodbath", "bloodbath"),
        ("*blood", "the lifeblood of it", "lifeblood"),
        ("bl??d", "some blood", "blood"),
        ("severed head", "a severed, head", "severed head"),
        ("severed head", "a head, severed", None),
        ("severed h*", "severed hands", "severed hands"),
        ("straße", "STRASSE", "strasse"),
        ("हिंसा", "हिंसा नहीं", "हिंसा"),
        ("हिंसा", "हंस", None),
        ("*暴力*", "とても暴力的な絵", "とても暴力的な絵"),
        ("a", "", None),
    ],
)
def test_whole_words_are_found_in_any_spelling(entry: str, prompt: str, found: str | None) -> None:
    assert word_list.find_listed((word_list.normalise_entry(entry),), prompt) == found


@pytest.mark.parametrize("entry", ["", "   ", "*", "**", "a * b", "?", "!!!", "\u200b", "x" * 61])
def test_an_entry_that_would_find_nothing_or_everything_is_refused(entry: str) -> None:
    with pytest.raises(ValueError, match="not a word"):
        word_list.normalise_entry(entry)


@pytest.mark.hostile("G-42")
@pytest.mark.parametrize("entry", ["\u3164", "\u1160\u115f*", "\u0301", "gore \u3164", "\uffa0\u0301 gore", "*\u0301?"])
def test_an_entry_that_nobody_can_see_is_refused_and_can_be_removed_where_it_is_stored(entry: str) -> None:
    with pytest.raises(ValueError, match="not a word"):
        word_list.normalise_entry(entry)
    assert word_list.stored_form(entry)


@given(prompt=st.text(max_size=60))
def test_an_entry_is_found_in_its_own_prompt(prompt: str) -> None:
    try:
        entry = word_list.normalise_entry(prompt.replace("*", "").replace("?", ""))
    except ValueError:
        return
    assert word_list.find_listed(
        (entry,), f"before {prompt.replace('*', ' ').replace('?', ' ')} after"
    ) is not None or ("*" in prompt or "?" in prompt)


def test_the_longest_list_is_searched_in_the_longest_prompt_without_backtracking() -> None:
    entries = tuple(word_list.normalise_entry(f"*a{number}*a*a*a*a*zz") for number in range(MAX_ENTRIES))
    prompt = " ".join(f"a{number}" for number in range(1_400))[:6_000] + " zz"
    # A matcher that backtracks would take days.
    assert word_list.find_listed(entries, prompt) is None


# -- channels ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("channels", "allowed", "layer"),
    [
        ({}, True, Layer.NOTHING_SET),
        ({99: False}, True, Layer.NOTHING_SET),
        ({99: True}, False, Layer.NOT_LISTED),
        ({CHANNEL: True}, True, Layer.CHANNEL),
        ({CHANNEL: False}, False, Layer.CHANNEL),
        ({PARENT: True}, True, Layer.PARENT),
        ({CATEGORY: False}, False, Layer.PARENT),
        ({CATEGORY: True, CHANNEL: False}, False, Layer.CHANNEL),
        ({CATEGORY: False, PARENT: True}, True, Layer.PARENT),
        ({99: True, CATEGORY: True}, True, Layer.PARENT),
    ],
)
def test_the_most_specific_channel_rule_decides(channels: dict[int, bool], allowed: bool, layer: Layer) -> None:
    verdict = Policy(channels=channels).channel_verdict(HERE)
    assert (verdict.allowed, verdict.layer) == (allowed, layer)


# -- models --------------------------------------------------------------------------------------------------

Rules = list[tuple[str, int | None, bool]]


def ruled(rules: Rules) -> Policy:
    policy = Policy()
    for pattern, role_id, allowed in rules:
        policy = policy.with_model_rule(pattern, role_id, allowed)
    return policy


@pytest.mark.parametrize(
    ("rules", "role_ids", "allowed", "layer"),
    [
        ([], [], True, Layer.NOTHING_SET),
        ([("krea/openai/*", None, False)], [], False, Layer.EVERYBODY),
        ([(FLUX, None, False)], [], True, Layer.NOTHING_SET),
        ([(FLUX, None, True)], [], False, Layer.NOT_LISTED),
        ([("krea/openai/*", None, False), (GPT, None, True)], [], True, Layer.EVERYBODY),
        ([("krea/*", None, True), ("krea/openai/*", None, False)], [], False, Layer.EVERYBODY),
        ([("krea/openai/*", None, False), (GPT, ARTISTS, True)], [ARTISTS], True, Layer.ROLE),
        ([("krea/openai/*", None, False), (GPT, ARTISTS, True)], [], False, Layer.EVERYBODY),
        ([(GPT, ARTISTS, True)], [], False, Layer.OTHER_ROLES),
        ([(GPT, ARTISTS, True)], [ARTISTS], True, Layer.ROLE),
        ([(GPT, NEWCOMERS, False)], [], True, Layer.NOTHING_SET),
        ([(GPT, NEWCOMERS, False)], [NEWCOMERS], False, Layer.ROLE),
        ([(GPT, NEWCOMERS, False), (GPT, ARTISTS, True)], [NEWCOMERS, ARTISTS], True, Layer.ROLE),
        ([("krea/*", ARTISTS, True), (GPT, NEWCOMERS, False)], [NEWCOMERS, ARTISTS], False, Layer.ROLE),
    ],
)
def test_the_most_specific_model_rule_decides(rules: Rules, role_ids: list[int], allowed: bool, layer: Layer) -> None:
    verdict = ruled(rules).model_verdict(GPT, role_ids)
    assert (verdict.allowed, verdict.layer) == (allowed, layer)


# -- the check of an order -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "reason", "facts"),
    [
        (Policy(channels={99: True}), "channel", {"channel_ids": (99,)}),
        (Policy(channels={CHANNEL: False}), "channel", {"channel_ids": ()}),
        (ruled([("krea/openai/*", None, False)]), "model", {"model_label": "GPT"}),
        (ruled([(GPT, ARTISTS, True)]), "other_roles", {"role_ids": (ARTISTS,)}),
        (Policy(age_restricted=("krea/open*",)), "age_restricted", {"model_label": "GPT"}),
        (Policy(words=("gore",)), "word", {"word": "gore"}),
    ],
)
def test_a_refused_order_names_the_rule(policy: Policy, reason: str, facts: dict[str, Any]) -> None:
    with pytest.raises(NotAllowedHere) as refused:
        policy.check(channel=HERE, role_ids=[], model_id=GPT, model_label="GPT", prompt="some gore")
    assert refused.value.reason == reason
    assert {name: getattr(refused.value, name) for name in facts} == facts
    assert policy.permits(GPT, channel=HERE, role_ids=[]) is (reason == "word")


def test_an_age_restricted_model_works_in_an_age_restricted_channel() -> None:
    policy = Policy(age_restricted=(GPT,))
    policy.check(
        channel=replace(HERE, age_restricted=True), role_ids=[], model_id=GPT, model_label="GPT", prompt="a red fox"
    )


# -- changes ---------------------------------------------------------------------------------------------


def test_a_rule_can_be_removed() -> None:
    policy = Policy().with_channel(CHANNEL, True).with_channel(CHANNEL, False)
    assert policy.channels == {CHANNEL: False}
    assert policy.with_channel(CHANNEL, None) == Policy()
    assert ruled([(GPT, None, True), (GPT, None, False), (GPT, None, None)]) == Policy()  # type: ignore[list-item]
    assert Policy().with_words(["a", "b", "a"], True).with_words(["a", "c"], False).words == ("b",)
    assert Policy().with_age_restricted(GPT, True).with_age_restricted(GPT, True).age_restricted == (GPT,)
    assert Policy().with_age_restricted(GPT, True).with_age_restricted(GPT, False) == Policy()


@pytest.mark.parametrize(
    "alter",
    [
        lambda policy, number: policy.with_channel(number, True),
        lambda policy, number: policy.with_model_rule(f"m/{number}", None, True),
        lambda policy, number: policy.with_age_restricted(f"m/{number}", True),
        lambda policy, number: policy.with_words([f"w{number}"], True),
    ],
)
def test_a_full_list_refuses_further_entries(alter: Callable[[Policy, int], Policy]) -> None:
    policy = Policy()
    for number in range(MAX_ENTRIES):
        policy = alter(policy, number)
    assert alter(policy, 0) != Policy()
    with pytest.raises(ListFull):
        alter(policy, MAX_ENTRIES)


# -- storing and recording -------------------------------------------------------------------------------


@pytest.fixture
async def store(location: Location) -> AsyncGenerator[Store]:
    async with await Store.open(location) as store:
        yield store


async def change(store: Store, alter: PolicyEdit, *, reason: str | None = None) -> tuple[Policy, Policy]:
    return await store.change_policy(GUILD, alter, actor_id=5, reason=reason, now=NOON)


FULL = Policy(
    channels={CHANNEL: True, PARENT: False},
    model_rules=ruled([("krea/openai/*", None, False), (GPT, ARTISTS, True)]).model_rules,
    age_restricted=(FLUX,),
    words=("gore", "हिंसा"),
    default_model_id=NANO,
    log_channel_id=PARENT,
    language="de",
)
WITH_EVERY_SETTING = replace(
    FULL,
    weekly_report_channel_id=CHANNEL,
    showcase_channel_id=CHANNEL,
    showcase_stars=3,
    greets=False,
    review_channel_id=PARENT,
    reviewed_channels=(CHANNEL,),
    reviewed_roles=(ARTISTS,),
    reviewed_models=("krea/*",),
    spoiler_channels=(CHANNEL, PARENT),
)


@pytest.mark.parametrize("name", [field.name for field in fields(Policy)])
async def test_every_setting_is_stored_and_recorded(name: str, location: Location) -> None:
    """A field that only `Policy` knows would be lost, or changed without a line in the record."""
    value = getattr(WITH_EVERY_SETTING, name)
    assert value != getattr(Policy(), name), f"give WITH_EVERY_SETTING a value for {name} that is not its default"
    async with await Store.open(location) as store:
        await change(store, lambda policy: replace(policy, **{name: value}))
        entries = await store.audit(GUILD, limit=10)
        assert entries, f"policy_changes() does not know {name}"
        assert {entry.action for entry in entries} <= AUDIT_ACTIONS.keys()
    async with await Store.open(location) as store:
        assert getattr(await store.policy(GUILD), name) == value


async def test_a_policy_survives_a_restart_and_concerns_its_server_alone(location: Location) -> None:
    async with await Store.open(location) as store:
        assert await store.policy(GUILD) == Policy()
        assert await change(store, lambda policy: FULL) == (Policy(), FULL)
        assert await store.policy(GUILD) == FULL
    async with await Store.open(location) as store:
        assert await store.policy(GUILD) == FULL
        assert await store.policy(2) == Policy()
        assert (await store.time_zone(GUILD)).key == "UTC"


async def test_every_difference_is_recorded_with_old_and_new(store: Store) -> None:
    await change(store, lambda policy: FULL, reason="house rules")
    await change(store, lambda policy: FULL)
    await change(store, lambda policy: policy.with_channel(CHANNEL, False))
    entries = (await store.audit(GUILD, limit=50))[::-1]
    assert [(entry.action, entry.topic, entry.old_value, entry.new_value) for entry in entries] == [
        ("channels", Channel(channel_id=CHANNEL), Standing.NOT_LISTED, Standing.ALLOWED),
        ("channels", Channel(channel_id=PARENT), Standing.NOT_LISTED, Standing.DENIED),
        ("models", Models(pattern="krea/openai/*"), Standing.NOT_LISTED, Standing.DENIED),
        ("models", Models(pattern=GPT, role_id=20), Standing.NOT_LISTED, Standing.ALLOWED),
        ("age_restricted", Name(name=FLUX), Standing.NOT_LISTED, Standing.LISTED),
        ("words", Name(name="gore"), Standing.NOT_LISTED, Standing.LISTED),
        ("words", Name(name="हिंसा"), Standing.NOT_LISTED, Standing.LISTED),
        ("default_model", None, Standing.NOT_SET, Name(name=NANO)),
        ("log_channel", None, Standing.NOT_SET, Channel(channel_id=PARENT)),
        ("language", None, Standing.NOT_SET, Language(tag="de")),
        ("channels", Channel(channel_id=CHANNEL), Standing.ALLOWED, Standing.DENIED),
    ]
    assert {(entry.actor_id, entry.subject, entry.reason) for entry in entries[:-1]} == {(5, "server", "house rules")}


async def test_the_policy_is_read_from_memory_not_from_the_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with await Store.open(tmp_path / "bot.sqlite3") as store:
        await store.policy(GUILD)

        def never(*args: Any, **kwargs: Any) -> None:
            raise AssertionError("read again")

        monkeypatch.setattr(guild_settings, "policy", never)
        assert await store.policy(GUILD) == Policy()


async def test_a_change_by_another_process_applies_at_once(postgres: PostgresServer) -> None:
    address = postgres.fresh()
    async with await Store.open(address) as ours, await Store.open(address) as theirs:
        assert await ours.policy(GUILD) == Policy()
        await change(theirs, lambda policy: FULL)
        assert await ours.policy(GUILD) == FULL


async def test_concurrent_changes_do_not_overwrite_each_other(store: Store) -> None:
    def adding(number: int) -> PolicyEdit:
        return lambda policy: policy.with_words([f"w{number}"], True)

    await asyncio.gather(*(change(store, adding(number)) for number in range(30)), store.policy(GUILD))
    assert sorted((await store.policy(GUILD)).words) == sorted(f"w{number}" for number in range(30))


async def test_a_refused_change_is_neither_stored_nor_recorded(store: Store) -> None:
    def too_much(policy: Policy) -> Policy:
        raise ListFull(1)

    await change(store, lambda policy: FULL)
    with pytest.raises(ListFull):
        await change(store, too_much)
    assert await store.policy(GUILD) == FULL
    assert len(await store.audit(GUILD, limit=50)) == 10


async def test_a_change_whose_caller_was_cancelled_is_seen_by_the_next_order(store: Store) -> None:
    await store.policy(GUILD)
    for number in range(20):
        task = asyncio.create_task(change(store, lambda policy, number=number: policy.with_channel(number, False)))
        for _ in range(number % 4):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
        await store.problem()  # a transaction of its own, so the one before it has ended
        on_disk = await store.database.read(lambda connection: guild_settings.policy(connection, GUILD))
        assert await store.policy(GUILD) == on_disk


# -- warnings and cancelling ---------------------------------------------------------------------------------


async def test_each_account_is_warned_once_in_a_window(store: Store) -> None:
    zone = await store.time_zone(GUILD)
    today = Window.containing(NOON, Period.DAY, zone)
    for who in ({"guild_id": GUILD, "user_id": 7}, {"guild_id": GUILD, "user_id": None}, {"guild_id": None}):
        account: dict[str, Any] = {"user_id": None, **who}
        assert await store.first_warning(**account, window=today)
        assert not await store.first_warning(**account, window=today)
        assert await store.first_warning(**account, window=Window.containing(today.end, Period.DAY, zone))
    assert await store.first_warning(guild_id=2, user_id=7, window=today)


async def test_the_operators_cap_counts_all_servers(store: Store) -> None:
    cap = limits(operator_usd_micros=1_000_000)
    await store.admit(member=ADA, reply=a_command(80_000), limits=cap, now=NOON)
    elsewhere = replace(ADA, guild_id=2)
    await store.admit(member=elsewhere, reply=a_command(20_000, member=elsewhere), limits=cap, now=NOON)
    found = await store.operator_cap(cap, now=NOON)
    assert (found.set_aside_usd_micros, found.available_usd_micros) == (100_000, 900_000)


async def test_a_reason_to_cancel_is_stored_and_recorded_while_the_job_is_unfinished(store: Store) -> None:
    reply = a_command(80_000)
    await store.admit(member=ADA, reply=reply, limits=limits(), now=NOON)
    noted = await store.ask_to_cancel(reply.id, actor_id=5, reason="not here", now=NOON)
    assert noted is not None
    assert noted.cancel_reason == "not here"
    entry = (await store.audit(GUILD))[0]
    assert (entry.action, entry.subject_id, entry.reason) == ("cancel", ADA.user_id, "not here")
    await store.cancel(reply.jobs[0].id, expected=reply.jobs[0].status, now=NOON)
    assert await store.ask_to_cancel(reply.id, actor_id=5, reason="too late", now=NOON) is None
    assert await store.ask_to_cancel("no such reply", actor_id=5, reason="x", now=NOON) is None
    assert len(await store.audit(GUILD)) == 1


@pytest.mark.hostile("G-01")
@pytest.mark.parametrize(
    ("entry", "word"),
    [
        ("*a" + "?" * 9 + "b", "ac"),
        ("*a" * 9 + "*b", "aa"),
        (" ".join(["a*"] * 10), "aa "),
        ("a" * 60, "a"),
    ],
)
@pytest.mark.parametrize("characters", [6_000, word_list.MAX_PLAIN_CHARACTERS])
def test_the_largest_list_and_prompt_take_a_moment(entry: str, word: str, characters: int) -> None:
    entries = tuple(word_list.normalise_entry(f"{entry[:56]}{number}") for number in range(100))
    prompt = word * (characters // len(word))
    word_list.find_listed(("warm",), "")
    began = time.thread_time()
    assert word_list.find_listed(entries, prompt) is None
    assert time.thread_time() - began < 1  # about 5 ms; a matcher that backtracks takes minutes


@pytest.mark.hostile("G-01")
@pytest.mark.parametrize("characters", ["\u0316\u0301", "\u0f73\u0316", "\uff9e\u0316", "\u0344\u0316"])
def test_a_long_run_of_marks_is_read_in_linear_time(characters: str) -> None:
    assert word_list.find_listed(("gore",), characters * 3_000) is None
    assert_linear(lambda count: lambda: word_list.find_listed(("gore",), characters * count), size=1_500)


@pytest.mark.hostile("G-01")
@pytest.mark.parametrize("prompt", ["\ufdfa" * 6_000, "x" * 20_000])
def test_a_prompt_that_is_too_long_in_plain_form_is_refused_with_its_length(prompt: str) -> None:
    policy = Policy(words=("gore",))
    with pytest.raises(BadOption) as caught:
        policy.check(
            channel=ChannelContext(channel_ids=(1,), age_restricted=False),
            role_ids=(),
            model_id="krea/a",
            model_label="A",
            prompt=prompt,
        )
    assert caught.value.length is not None
    assert caught.value.length > word_list.MAX_PLAIN_CHARACTERS


@pytest.mark.hostile("G-01")
@pytest.mark.parametrize("entry", [" ".join(["a"] * 11), "a" + "?" * 11, "a*" * 11])
def test_an_entry_above_the_limits_is_refused_yet_works_where_it_is_stored(entry: str) -> None:
    with pytest.raises(ValueError, match="not a word"):
        word_list.normalise_entry(entry)
    stored = word_list.stored_form(entry)
    prompt = entry.replace("?", "x").replace("*", "")
    assert word_list.find_listed((stored,), f"before {prompt} after") == prompt


@pytest.mark.hostile("G-01")
@given(entry=st.text("ab*? ", min_size=1, max_size=9), prompt=st.text("ab -", max_size=20))
def test_words_are_found_as_by_definition(entry: str, prompt: str) -> None:
    try:
        wanted = word_list.normalise_entry(entry).split(" ")
    except ValueError:
        return
    words = prompt.replace("-", " ").split()
    runs = [words[start : start + len(wanted)] for start in range(len(words) - len(wanted) + 1)]
    found = [run for run in runs if all(map(by_definition, wanted, run))]
    assert word_list.find_listed((" ".join(wanted),), prompt) == (" ".join(found[0]) if found else None)


@pytest.mark.hostile("G-01")
def test_a_model_id_as_long_as_an_option_matches_no_pattern() -> None:
    assert not matches("*a" * 2_000, "a" * 6_000)
    assert matches("*" * 6_000 + "a", "krea/a")
