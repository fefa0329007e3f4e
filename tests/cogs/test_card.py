"""Layouts stay within Discord's limits whatever is in them: 40 components, 4,000 characters, labels of 80."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.domain.audit import AuditEntry, Limit, Models, Standing
from bot.domain.jobs import (
    Delivery,
    Failure,
    FailureReason,
    ImageInput,
    ImageRole,
    Job,
    JobKind,
    JobRequest,
    JobStatus,
    Progress,
    Reply,
    ReplyAddress,
    ResultImage,
    new_id,
)
from bot.domain.money.quota import Balance, Cap, Period, Quota, QuotaSource, SpendLine, Window
from bot.domain.money.spendable import BindingLimit, Spendable
from bot.service.views import JobView, ReplyView
from cogs.generate.recipe import RECIPE_CHARACTERS, Made, recipe_line, recipe_of
from cogs.members import usage_page
from cogs.moderation import quota_page, report_page
from cogs.text import audit_entries, formatting, job_card
from cogs.text.spending import FORMER_MEMBER
from cogs.ui import card, components
from tests.support.catalogue_samples import CATALOGUE, NANO_BANANA_2
from tests.support.layouts import assert_fits, text_of
from tests.support.spending_samples import a_spending

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
DAY = Window(start=NOON, end=NOON + timedelta(days=1))
AMOUNTS = st.integers(0, 10_000_000_000_000)
AN_IMAGE = ResultImage(
    sha256="ab" * 32, content_type="image/png", width=1, height=1, size_bytes=1, source_url="https://provider.invalid/1"
)
TEXT = st.text(max_size=6_000) | st.text(alphabet="`\n@<>[]( )é🦊", max_size=6_000)


def balance(
    amount_usd_micros: int | None = 1_000_000, *, spent: int = 0, set_aside: int = 0, granted: int = 0
) -> Balance:
    return Balance(
        quota=Quota(amount_usd_micros=amount_usd_micros, period=Period.DAY, source=QuotaSource.SETTINGS),
        window=DAY,
        granted_usd_micros=granted,
        spent_usd_micros=spent,
        set_aside_usd_micros=set_aside,
    )


def a_job(status: JobStatus = JobStatus.QUEUED, *, prompt: str = "a red fox", **changes: Any) -> Job:
    request = JobRequest(kind=JobKind.IMAGINE, guild_id=1, user_id=2, model_id="krea/bfl/flux-1-dev", prompt=prompt)
    job = Job(
        id=new_id(),
        reply_id="r",
        ordinal=0,
        request=request,
        provider="krea",
        path="/x",
        body={"prompt": prompt, "aspect_ratio": "16:9"},
        seed=7,
        reserved_usd_micros=80_000,
        status=status,
        created_at=NOON,
        charged_usd_micros=80_000 if status is JobStatus.SUCCEEDED else None,
        failure=Failure(reason=FailureReason.PROVIDER_FAILED) if status is JobStatus.FAILED else None,
    )
    return replace(job, **changes)


def a_view(*jobs: Job | JobView, of: Balance | None = None) -> ReplyView:
    views = tuple(job if isinstance(job, JobView) else JobView(job=job, model_label="Flux 1 Dev") for job in jobs)
    address = ReplyAddress(
        application_id=1,
        interaction_id=2,
        token="t",
        token_expires_at=NOON,
        guild_id=1,
        channel_id=3,
        message_id=4,
        private=False,
        file_limit_bytes=10,
        locale="en-US",
    )
    reply = Reply(
        id="r",
        user_id=2,
        role_ids=(),
        address=address,
        created_at=NOON,
        accepted=True,
        delivery=Delivery.PENDING,
        jobs=tuple(view.job for view in views),
    )
    spendable = Spendable(balance=of or balance(), caps={}, blocked=False, paused_until=None)
    return ReplyView(reply=reply, jobs=views, spendable=spendable)


@st.composite
def views(draw: st.DrawFn) -> ReplyView:
    found: list[JobView] = []
    prompt = draw(TEXT)
    for _ in range(draw(st.integers(1, 4))):
        status = draw(st.sampled_from(JobStatus))
        reason, hint = draw(st.sampled_from(FailureReason)), draw(st.text(max_size=500))
        failed = Failure(reason=reason, hint=hint) if status is JobStatus.FAILED else None
        job = a_job(
            status,
            prompt=prompt,
            reserved_usd_micros=draw(AMOUNTS),
            charged_usd_micros=draw(AMOUNTS) if status is JobStatus.SUCCEEDED else None,
            failure=failed,
            seed=draw(st.none() | st.integers(0, 2**31 - 1)),
            submitted_at=NOON if status is JobStatus.RUNNING else None,
        )
        found.append(
            JobView(
                job=job,
                model_label=draw(st.sampled_from(CATALOGUE.models)).label,
                progress=draw(st.none() | st.sampled_from(Progress)),
                preview_url=draw(st.none() | st.just("https://provider.invalid/preview.png")),
                queue_position=draw(st.none() | st.integers(1, 100_000)),
                expected_at=draw(st.none() | st.just(NOON)),
            )
        )
    return a_view(*found, of=balance(draw(st.none() | AMOUNTS), spent=draw(AMOUNTS)))


@given(views(), st.integers(0, 4), st.booleans(), st.booleans())
def test_any_card_fits_and_says_its_state_price_and_rest(
    view: ReplyView, images: int, mentioned: bool, hidden: bool
) -> None:
    shown = [
        card.ShownImage(
            filename=card.filename(view.jobs[0].job, index, "png"),
            alt_text=formatting.shorten("a fox " * 300, 1_000),
            original_url=f"https://provider.invalid/{'x' * 200}" if index % 2 else None,
        )
        for index in range(images)
    ]
    layout = card.card(view, images=shown, mention="<@2>" if mentioned else None, hide_prompt=hidden)
    assert_fits(layout)
    text = text_of(layout)
    states = (
        job_card.QUEUED,
        job_card.PROCESSING,
        job_card.COMPLETED,
        job_card.FAILED,
        job_card.CANCELLED,
        job_card.CHECKING,
    )
    assert any(f" {state()}" in text.splitlines()[1 if mentioned else 0] for state in states)
    assert "$" in text
    assert "left" in text or "no limit" in text


@pytest.mark.hostile("G-02")
@pytest.mark.parametrize("reason", FailureReason)
def test_a_failed_card_invites_no_other_try_while_its_member_cannot_order(reason: FailureReason) -> None:
    failed = a_job(JobStatus.FAILED, failure=Failure(reason=reason, hint="please try again"))
    may_order = card.card(a_view(failed))
    assert "Again" in str(may_order)
    layout = card.card(replace(a_view(failed), no_orders_until=NOON))
    shown = str(layout)
    assert "Again" not in shown
    assert not re.search(r"\btry", shown, re.IGNORECASE)
    assert job_card.CAUSES[reason]() in text_of(layout)
    assert job_card.NO_ORDERS_UNTIL(when=formatting.moment(NOON)) in text_of(layout)
    assert "not charged" in shown
    assert " left" not in shown


@pytest.mark.parametrize(
    ("statuses", "shown"),
    [
        ([JobStatus.QUEUED, JobStatus.RUNNING], JobStatus.RUNNING),
        ([JobStatus.SUCCEEDED, JobStatus.QUEUED], JobStatus.QUEUED),
        ([JobStatus.SUCCEEDED, JobStatus.UNCERTAIN], JobStatus.UNCERTAIN),
        ([JobStatus.SUBMITTING, JobStatus.FAILED], JobStatus.SUBMITTING),
        ([JobStatus.SUCCEEDED, JobStatus.FAILED], JobStatus.SUCCEEDED),
        ([JobStatus.CANCELLED, JobStatus.FAILED], JobStatus.FAILED),
        ([JobStatus.CANCELLED, JobStatus.CANCELLED], JobStatus.CANCELLED),
    ],
)
def test_one_state_stands_for_all_images_of_a_command(statuses: list[JobStatus], shown: JobStatus) -> None:
    assert card.status_of(a_view(*map(a_job, statuses)).reply) is shown


def test_a_single_image_says_nothing_of_how_many_are_done() -> None:
    assert "of 1" not in text_of(card.card(a_view(a_job(JobStatus.SUCCEEDED))))


@pytest.mark.hostile("G-12")
def test_a_card_says_how_long_a_lost_order_is_looked_for_and_that_a_late_image_is_free() -> None:
    checking = text_of(card.card(a_view(a_job(JobStatus.UNCERTAIN, submitted_at=NOON))))
    assert formatting.clock_time(NOON + timedelta(minutes=15)) in checking
    until = NOON + timedelta(hours=2)
    unknown = Failure(reason=FailureReason.OUTCOME_UNKNOWN)
    followed = a_job(JobStatus.FAILED, failure=unknown, follow_until_at=until)
    failed = text_of(card.card(a_view(followed)))
    assert job_card.STILL_LOOKING(when=formatting.clock_time(until)) in failed
    assert "not charged" in failed
    late = a_job(JobStatus.SUCCEEDED, charged_usd_micros=0, late_at=until, images=(AN_IMAGE,))
    assert job_card.CAME_LATE(1) in text_of(card.card(a_view(late)))
    # An image that could not be fetched at first may come before its time is up.
    assert "time was up" not in text_of(card.card(a_view(late)))


@pytest.mark.hostile("G-33")
def test_a_card_says_how_long_an_image_out_of_reach_is_tried() -> None:
    running = a_job(JobStatus.RUNNING, submitted_at=NOON, unfetched_since_at=NOON)
    text = text_of(card.card(a_view(running)))
    assert job_card.NOT_FETCHED_YET(when=formatting.clock_time(NOON + timedelta(minutes=15))) in text
    assert text_of(card.card(a_view(replace(running, status=JobStatus.SUCCEEDED)))).count("cannot be fetched") == 0


@pytest.mark.hostile("G-32")
def test_a_card_says_how_many_results_could_not_be_fetched() -> None:
    text = text_of(card.card(a_view(a_job(JobStatus.SUCCEEDED, images=(AN_IMAGE,), lost_images=2))))
    assert job_card.NOT_FETCHED(2) in text


def test_what_a_card_was_made_from_is_told() -> None:
    image = ImageInput(sha256="a", role=ImageRole.SOURCE, content_type="image/png", width=1, height=1)
    job = a_job()
    view = a_view(replace(job, request=replace(job.request, images=(image,) * 3)))
    sent = {"aspect_ratio": "16:9", "creativity": "raw"}
    view = replace(view, jobs=(replace(view.jobs[0], sent=sent),))
    assert "**Flux 1 Dev** · 16:9 · creativity raw · 3 images given · seed 7" in text_of(card.card(view))


@given(st.text(max_size=300), st.integers(0, 3))
def test_a_file_name_is_short_plain_and_tells_images_apart(prompt: str, index: int) -> None:
    job = a_job(prompt=prompt)
    name = card.filename(job, index, "webp")
    assert name.isascii()
    assert len(name) < 80
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-.")
    assert name.endswith(".webp")
    assert name != card.filename(job, index + 1, "webp")


@given(st.none() | AMOUNTS, AMOUNTS, AMOUNTS)
def test_the_bar_always_has_twenty_cells(limit: int | None, spent: int, set_aside: int) -> None:
    bar = usage_page.bar(balance(limit, spent=spent, set_aside=set_aside))
    assert len(bar) == 20
    assert set(bar) <= set("█▒░")


def test_the_bar_shows_what_is_gone_and_what_is_held() -> None:
    assert usage_page.bar(balance(spent=500_000, set_aside=250_000)) == "█" * 10 + "▒" * 5 + "░" * 5
    assert usage_page.bar(balance(spent=2_000_000, set_aside=2_000_000)) == "█" * 20
    assert usage_page.bar(balance(0)) == "░" * 20


@given(st.lists(TEXT, max_size=5), AMOUNTS)
def test_any_usage_fits(prompts: list[str], granted: int) -> None:
    jobs = [(a_job(JobStatus.FAILED, prompt=prompt), "Krea Enhance Legacy") for prompt in prompts]
    own = balance(granted=granted)
    cap = Cap(quota=own.quota, window=own.window, spent_usd_micros=10**13, set_aside_usd_micros=0)
    caps = {BindingLimit.OPERATOR_SERVER_CAP: cap}
    spendable = Spendable(balance=own, caps=caps, blocked=False, paused_until=None)
    for limits in (None, spendable):
        assert_fits(usage_page.page(own, jobs, spendable=limits))


@given(
    st.lists(
        st.tuples(st.none() | st.integers(1, 2**63), st.sampled_from(CATALOGUE.models), AMOUNTS),
        min_size=1,
        max_size=200,
    )
)
def test_any_report_fits_and_its_rankings_say_what_they_leave_out(rows: list[tuple[int | None, Any, int]]) -> None:
    spending = a_spending(
        lines=[
            SpendLine(user_id=who, channel_id=None, model_id=model.id, jobs=1, spent_usd_micros=spent)
            for who, model, spent in rows
        ]
    )
    layout = report_page.page(spending, [*report_page.tables(spending), report_page.CHART_FILE])
    layout.append(report_page.post_row(spending))
    assert_fits(layout)
    people = {user_id for user_id, _, _ in rows}
    assert ("more, all in the CSV file" in text_of(layout)) == (
        len(people) > 10 or len({model.label for _, model, _ in rows}) > 10
    )
    assert (FORMER_MEMBER() in text_of(layout)) == (None in people) or len(people) > 10


@given(st.lists(st.text(max_size=400), max_size=10), st.sampled_from([*audit_entries.AUDIT_ACTIONS, "something new"]))
def test_any_page_of_the_record_fits(reasons: list[str], action: str) -> None:
    subjects = ("member", "role", "default", "server", "something else")
    entries = [
        AuditEntry(
            id=10**18 - number,
            guild_id=1,
            actor_id=2**63,
            action=action,
            subject=subjects[number % len(subjects)],
            subject_id=2**63,
            topic=None if number % 3 else Models(pattern="m" * 100, role_id=2**63),
            old_value=Limit(amount_usd_micros=9_999_999_999_999, period=Period.MONTH),
            new_value=Standing.NOT_SET,
            reason=reason or None,
            created_at=NOON,
        )
        for number, reason in enumerate(reasons)
    ]
    assert_fits(quota_page.audit(entries, user_id=2**63, more=bool(entries)))


@given(TEXT)
def test_any_recipe_fits(prompt: str) -> None:
    for count in (1, 4):
        jobs = [replace(a_job(prompt=prompt), seed=number) for number in range(count)]
        sent = {"negative_prompt": "x" * 400}
        recipe = recipe_of([Made(job=job, model_label="Flux 1 Dev", sent=sent) for job in jobs])
        assert_fits(components.container(recipe.parts(), accent=card.NOTE_ACCENT))


def test_a_recipe_too_long_to_show_loses_words_of_its_prompt_but_no_option() -> None:
    job = a_job(prompt="word " * 800)
    for limit in (RECIPE_CHARACTERS, card.PROMPT_SHOWN_CHARACTERS):
        line = recipe_line(job, {"steps": 28}, "Flux 1 Dev", limit)
        assert len(line) <= limit
        assert "… model: Flux 1 Dev" in line
        assert line.endswith("more: steps=28")


def test_a_catalogue_of_any_size_fits_and_says_that_it_goes_on() -> None:
    many = [model for model in CATALOGUE.models if model.orderable] * 20
    layout = usage_page.models(many, NANO_BANANA_2)
    assert_fits(layout)
    assert "…" in text_of(layout)
