"""Text of users stays inside its code marks; every error has its sentence."""

from __future__ import annotations

import inspect
import re
import unicodedata
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.catalogue.models import IMAGE_COUNT, PRESENT, PriceCondition
from bot.domain import errors
from bot.domain.audit import (
    Amount,
    AuditEntry,
    Channel,
    Fact,
    Limit,
    Models,
    Name,
    Standing,
    Topic,
    as_channel,
    as_language,
    as_limit,
    as_name,
)
from bot.domain.constraints import (
    Assignments,
    AtLeastImages,
    AtMostImages,
    AttachedImages,
    Constraint,
    Identifiers,
    Number,
    OneOf,
    Pattern,
    Text,
    TrueOrFalse,
    Uuid,
)
from bot.domain.errors import RequestRefused, UnusableImage
from bot.domain.jobs import Failure, FailureReason
from bot.domain.money.quota import Period
from cogs.text import audit_entries, facts, formatting, job_card, refusals

ANY_TEXT = st.text() | st.text(alphabet="`@#<>[]()*_~|\\\n\r\t \u202e\u2066\u200b\u00ad\ufeff\x00\x1b🦊")
DIRECTION_MARKS = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


@given(ANY_TEXT)
def test_text_inside_code_marks_cannot_get_out_or_hide_anything(text: str) -> None:
    shown = formatting.inline(text)
    assert 1 <= len(shown) <= 100
    assert "`" not in shown
    assert "\n" not in shown
    assert not any(unicodedata.category(character) == "Cc" for character in shown)
    assert not set(shown) & set(DIRECTION_MARKS)


@given(ANY_TEXT, st.integers(10, 4_000))
def test_a_code_block_cannot_be_ended_from_inside(text: str, limit: int) -> None:
    shown = formatting.block(text, limit)
    assert shown.startswith("```\n")
    assert shown.endswith("\n```")
    inside = shown[4:-4]
    assert inside
    assert "`" not in inside
    assert len(inside) <= limit
    assert not set(inside) & set(DIRECTION_MARKS)


@given(st.text(), st.integers(1, 200))
def test_a_text_is_cut_only_when_it_has_to_be(text: str, limit: int) -> None:
    short = formatting.shorten(text, limit)
    assert len(short) <= limit
    assert short == text or short.endswith("…")


def test_a_text_is_cut_between_words() -> None:
    assert formatting.shorten("the quick brown fox", 15) == "the quick…"
    assert formatting.shorten("Donaudampfschifffahrt", 10) == "Donaudamp…"


NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
EVERY_REFUSAL = [
    errors.QuotaExceeded(
        asked_usd_micros=80_000, available_usd_micros=20_000, limit_usd_micros=1_000_000, resets_at=NOON
    ),
    errors.ServerCapReached(
        asked_usd_micros=80_000, available_usd_micros=0, limit_usd_micros=1_000_000, resets_at=NOON
    ),
    errors.ServerCapReached(asked_usd_micros=80_000, available_usd_micros=0, limit_usd_micros=0, resets_at=NOON),
    errors.OperatorCapReached(resets_at=NOON),
    errors.OperatorServerCapReached(asked_usd_micros=80_000, available_usd_micros=20_000, resets_at=NOON),
    errors.MemberCostReached(resets_at=NOON),
    errors.OperatorCostCapReached(resets_at=NOON),
    errors.TooMuchAtRisk(resets_at=NOON),
    errors.TooManyRunning(running=3, limit=3),
    errors.TooFast(free_at=NOON),
    errors.StillBusyForYou(),
    errors.MemberBlocked(),
    errors.UnknownModel(model_id="nano", suggestions=("krea/a", "krea/b", "krea/c", "krea/d")),
    errors.UnknownModel(model_id="nano"),
    *(
        errors.ModelUnavailable(model_id="krea/a", model_label="A", reason=reason)
        for reason in ("no_price", "no_key", "retired", "not_for_this_command")
    ),
    errors.BadOption(option="seed", model_label="Nano", reason="unknown", supported_options=("resolution",)),
    errors.BadOption(option="seed", model_label="Nano", reason="unknown"),
    errors.BadOption(option="prompt", model_label="Nano", reason="missing", constraint=Text()),
    errors.BadOption(option="seed", model_label="Nano", reason="invalid", constraint=Number(whole=True)),
    errors.BadOption(
        option="style_strength", model_label="Nano", reason="not_without", constraint=Identifiers(), other="style"
    ),
    errors.BadOption(
        option="prompt", model_label="Nano", reason="wrong_length", constraint=Text(max_characters=3), length=4
    ),
    *(
        UnusableImage("fox.png", reason)
        for reason in re.findall(r"'(\w+)'", (UnusableImage.__doc__ or "").replace("\n", " "))
    ),
    UnusableImage("fox.png", "too_many_bytes", limit_bytes=25_000_000),
    UnusableImage("fox.png", "too_many_pixels", limit_pixels=50_000_000),
    UnusableImage("fox.png", "too_small", side_pixels=16),
    errors.ProviderPaused("krea"),
    errors.StillUnderWay(commands=1),
    errors.StillUnderWay(commands=2, checked_until=NOON),
    errors.DuplicateCommand(),
    errors.ChannelCapReached(
        asked_usd_micros=80_000, available_usd_micros=0, limit_usd_micros=1_000_000, resets_at=NOON, channel_id=5
    ),
    errors.OperatorDirectCapReached(asked_usd_micros=80_000, available_usd_micros=20_000, resets_at=NOON),
    errors.DearerThanAgreed(amount_usd_micros=80_000),
    errors.ServerBusy(running=9, limit=9),
    errors.DirectBusy(running=9, limit=9),
    errors.AskedTooOften(free_at=NOON),
    errors.ManyAsking(free_at=NOON),
    errors.SameModelTwice(model_label="Nano"),
    errors.UnknownPreset(name="night"),
    *(
        errors.NotAllowedHere(reason, model_label="Nano", word="gore", channel_ids=channels, role_ids=roles)
        for reason, channels, roles in (
            ("channel", (), ()),
            ("channel", (5, 6), ()),
            ("model", (), ()),
            ("other_roles", (), (7,)),
            ("age_restricted", (), ()),
            ("age_restricted_model", (), ()),
            ("direct", (), ()),
            ("word", (), ()),
        )
    ),
    errors.ListFull(limit=200),
]


@pytest.mark.parametrize("error", EVERY_REFUSAL, ids=repr)
def test_every_refusal_is_a_sentence_without_holes(error: RequestRefused) -> None:
    text = refusals.refusal(error)
    assert text.endswith((".", "?"))
    assert not re.search(r"\{|None|%s", text)
    assert text != refusals.UNEXPECTED()
    assert len(text) < 500


def test_every_kind_of_refusal_has_words() -> None:
    def kinds(kind: type[RequestRefused]) -> set[type[RequestRefused]]:
        return {kind, *(found for child in kind.__subclasses__() for found in kinds(child))}

    own = {kind for kind in kinds(RequestRefused) if kind.__module__ == "bot.domain.errors"} - {RequestRefused}
    handled = set(re.findall(r"case (\w+)\(", inspect.getsource(refusals.refusal)))
    assert {kind.__name__ for kind in own} <= handled
    assert own - {type(error) for error in EVERY_REFUSAL} == set(), "add an example to EVERY_REFUSAL"


def test_a_refusal_without_words_of_its_own_is_still_answered() -> None:
    class NewRefusal(RequestRefused):
        pass

    assert refusals.refusal(NewRefusal()) == refusals.UNEXPECTED()


@pytest.mark.parametrize("reason", FailureReason)
def test_every_reason_to_fail_has_its_sentence(reason: FailureReason) -> None:
    assert job_card.FAILURES[reason]().endswith(".")


@pytest.mark.hostile("G-02")
@pytest.mark.parametrize("reason", FailureReason)
def test_a_cause_invites_no_other_try(reason: FailureReason) -> None:
    cause = job_card.CAUSES[reason]()
    assert cause.endswith(".")
    assert not re.search(r"\b(try|again|pick|change|attach)", cause, re.IGNORECASE)


def test_did_you_mean_names_at_most_three() -> None:
    error = errors.UnknownModel(model_id="x", suggestions=("a", "b", "c", "d"))
    assert refusals.refusal(error).endswith("Did you mean `a`, `b` or `c`?")


@pytest.mark.parametrize(
    ("fact", "said"),
    [
        (OneOf(values=("1K", "2K")), "1K, 2K"),
        (TrueOrFalse(), "true or false"),
        (Number(whole=True), "a whole number"),
        (Number(whole=True, minimum=1), "a whole number of at least 1"),
        (Number(whole=True, maximum=4096), "a whole number of at most 4,096"),
        (Number(whole=True, minimum=0, maximum=2**31 - 1), "a whole number from 0 to 2,147,483,647"),
        (Number(whole=False), "a number"),
        (Number(whole=False, minimum=0.1), "a number of at least 0.1"),
        (Number(whole=False, maximum=24), "a number of at most 24"),
        (Number(whole=False, minimum=0, maximum=24), "a number from 0 to 24"),
        (Text(), "a text"),
        (Text(min_characters=3), "at least 3 characters"),
        (Text(max_characters=1800), "1 to 1,800 characters"),
        (Identifiers(), "ids without spaces, each of at most 200 characters, joined by `+`"),
        (
            Identifiers(max_count=3, strength=Number(whole=False, minimum=-2, maximum=2)),
            (
                "at most 3 ids without spaces, each of at most 200 characters, joined by `+`; after a colon "
                "each may have its strength, a number from -2 to 2: `first:0.8+second:0.3`"
            ),
        ),
        (Pattern(pattern="^[a-z]+$", max_characters=9), "1 to 9 characters, matching the pattern `^[a-z]+$`"),
        (AttachedImages(names=("image", "image2"), max_count=1), "one of the attached images: `image`, `image2`"),
        (
            AttachedImages(names=("image", "image2")),
            "one or more of the attached images, joined by `+`: `image`, `image2`",
        ),
        (Assignments(), "names and values, such as `seed=5, aspect_ratio=16:9`"),
        (Assignments(example="steps=28"), "names and values, such as `steps=28`"),
        (Uuid(), "a UUID such as 123e4567-e89b-12d3-a456-426614174000"),
        (AtLeastImages(count=1), "at least 1 image"),
        (AtMostImages(count=10), "at most 10 images"),
    ],
)
def test_what_an_option_takes_is_said_of_every_kind_of_option(fact: Constraint, said: str) -> None:
    assert facts.accepted(fact) == said


def test_what_a_price_is_for_is_said_of_every_kind_of_condition() -> None:
    said = [
        ("quality", "very_low"),
        ("resolution", "1K"),
        (IMAGE_COUNT, 0),
        (IMAGE_COUNT, 1),
        (IMAGE_COUNT, 3),
        ("aspect_ratio", PRESENT),
    ]
    conditions = [PriceCondition(option=option, value=value) for option, value in said]
    assert facts.price_for(conditions) == "quality very_low, 1K, no image, 1 image, 3 images, with aspect ratio"


def test_what_a_provider_says_is_quoted_and_what_it_suggests_is_said() -> None:
    rejected = Failure(reason=FailureReason.REJECTED, hint="Too `small`")
    assert facts.hint(rejected) == "-# `Too ˋsmallˋ`"
    retired = Failure(reason=FailureReason.MODEL_RETIRED, hint="bfl/flux-9")
    assert facts.hint(retired) == "-# The image service suggests `bfl/flux-9` instead."


@pytest.mark.parametrize(
    ("topic", "old", "new", "said"),
    [
        (None, as_limit(None), Limit(amount_usd_micros=0, period=Period.WEEK), "not set → $0.00 per week"),
        (None, Limit(amount_usd_micros=None, period=Period.DAY), as_limit(None), "unlimited → not set"),
        (None, None, Amount(amount_usd_micros=500_000), "$0.50"),
        (None, Standing.NOT_BLOCKED, Standing.BLOCKED, "not blocked → blocked"),
        (None, as_channel(None), as_channel(11), "not set → <#11>"),
        (None, as_language("de"), as_language("ja"), "Deutsch → 日本語"),
        (None, as_name("`krea/`a"), as_name(None), "`ˋkrea/ˋa` → not set"),
        (Channel(channel_id=11), Standing.NOT_LISTED, Standing.ALLOWED, "<#11> not listed → allowed"),
        (Name(name="gore"), Standing.LISTED, Standing.NOT_LISTED, "`gore` listed → not listed"),
        (Models(pattern="krea/*"), Standing.ALLOWED, Standing.DENIED, "`krea/*` allowed → denied"),
        (Models(pattern="a/b", role_id=20), Standing.DENIED, Standing.ALLOWED, "`a/b` for <@&20> denied → allowed"),
    ],
)
def test_every_kind_of_change_on_record_has_words(topic: Topic | None, old: Fact | None, new: Fact, said: str) -> None:
    entry = AuditEntry(
        id=1,
        guild_id=1,
        actor_id=5,
        action="set",
        subject="server",
        subject_id=None,
        topic=topic,
        old_value=old,
        new_value=new,
        reason=None,
        created_at=NOON,
    )
    assert audit_entries.change(entry) == said


def test_everything_that_can_stand_in_the_record_has_words() -> None:
    assert set(audit_entries.STANDINGS) == set(Standing)
