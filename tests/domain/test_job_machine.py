"""Jobs in the store against a small pure model: after any updates in any order both agree on every job.

Updates may be repeated, late or impossible. What is not legal changes nothing; what is legal happens once, and its
money with it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Coroutine
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar, cast

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, precondition, rule

from bot.domain.errors import LedgerError, StoreError
from bot.domain.jobs import Delivery, Failure, FailureReason, Job, JobStatus, Reply
from bot.store.database import Database
from bot.store.store import Store
from tests.support.databases import new_database
from tests.support.retries import one_attempt
from tests.support.store_samples import A_DOLLAR_A_DAY, ADA, NOON, a_command, an_image, limits, operator_cost

T = TypeVar("T")

PRICE = 100
FEW_JOBS = 3
"""A small number, so that many updates concern each of them."""

UNFINISHED = (JobStatus.QUEUED, JobStatus.SUBMITTING, JobStatus.UNCERTAIN, JobStatus.RUNNING)
REMOTE_IDS = st.sampled_from(["fox", "owl", "elk", "bee", "cod"])
"""A small number, so that one remote job is often named twice."""


@dataclass
class Life:
    """A job as the model sees it."""

    order: Order
    status: JobStatus = JobStatus.QUEUED
    remote_id: str | None = None
    token: str | None = None
    submitted_at: datetime | None = None
    finished_at: datetime | None = None
    charged: int | None = None
    operator_cost: int = 0
    images: int = 0
    is_followed: bool = False
    is_late: bool = False

    @property
    def facts(self) -> tuple[Any, ...]:
        return (
            self.status,
            self.remote_id,
            self.token,
            self.submitted_at,
            self.finished_at,
            self.charged,
            self.images,
            self.is_followed,
            self.is_late,
        )


@dataclass
class Order:
    """A command as the model sees it."""

    id: str
    lives: list[Life] = field(default_factory=list[Life])
    shown: bool = False
    delivery: Delivery = Delivery.PENDING
    reason: str | None = None

    @property
    def is_over(self) -> bool:
        return all(life.finished_at for life in self.lives)


class JobMachine(RuleBasedStateMachine):
    engine = "sqlite"
    jobs = Bundle("jobs")

    def __init__(self) -> None:
        super().__init__()
        self.database = new_database(self.engine)
        self.store = Store(cast("Database", self.database))
        self.now = NOON
        self.orders: dict[str, Order] = {}
        self.lives: dict[str, Life] = {}

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end; nothing in here waits."""
        try:
            work.send(None)
        except StopIteration as done:
            return done.value
        raise AssertionError("it waits for something")

    def moves(self, job_id: str, work: Coroutine[Any, Any, Job | None], *sources: JobStatus) -> Life | None:
        """Try a move; return the job's model when the move is legal from where the job stands."""
        life = self.lives[job_id]
        is_legal = life.status in sources
        moved = self.run(work)
        assert (moved is not None) is is_legal
        return life if is_legal else None

    # -- a command ----------------------------------------------------------------------------------------

    @initialize(target=jobs, count=st.integers(1, 2), shown=st.booleans())
    def begin(self, count: int, shown: bool) -> Any:
        jobs = self.admit(count)
        for order in self.orders.values() if shown else ():
            self.show(order)
        return jobs

    @precondition(lambda self: len(self.lives) < FEW_JOBS)
    @rule(target=jobs, count=st.integers(1, 3))
    def order(self, count: int) -> Any:
        return self.admit(count)

    def admit(self, count: int) -> Any:
        reply = a_command(*[PRICE] * count, member=ADA, now=self.now)
        self.run(self.store.admit(member=ADA, reply=reply, limits=limits(), now=self.now))
        order = self.orders[reply.id] = Order(id=reply.id)
        for job in reply.jobs:
            self.lives[job.id] = Life(order=order)
            order.lives.append(self.lives[job.id])
        return multiple(*(job.id for job in reply.jobs))

    @rule(job_id=jobs)
    def is_shown(self, job_id: str) -> None:
        self.show(self.lives[job_id].order)

    def show(self, order: Order) -> None:
        self.run(self.store.accept(order.id, message_id=77))
        order.shown = True

    @rule(job_id=jobs, delivery=st.sampled_from(Delivery))
    def set_delivery(self, job_id: str, delivery: Delivery) -> None:
        order = self.lives[job_id].order
        self.run(self.store.set_delivery(order.id, delivery))
        order.delivery = delivery

    @rule(job_id=jobs, reason=st.sampled_from(["not here", "late"]))
    def ask_to_cancel(self, job_id: str, reason: str) -> None:
        order = self.lives[job_id].order
        noted = self.run(self.store.ask_to_cancel(order.id, actor_id=99, reason=reason, now=self.now))
        assert (noted is None) is order.is_over
        if noted is not None:
            assert noted.cancel_reason == reason
            order.reason = reason

    # -- updates of a job ---------------------------------------------------------------------------------

    @rule(job_id=jobs, with_token=st.booleans())
    def begin_submission(self, job_id: str, with_token: bool) -> None:
        life = self.lives[job_id]
        token = f"{job_id} at {self.now.timestamp()}" if with_token else None
        deadline_at = self.now + timedelta(minutes=10)
        store = one_attempt(self.store)  # the real one tries again until it is recorded that Discord shows the job
        work = store.begin_submission(job_id, now=self.now, deadline_at=deadline_at, webhook_token=token)
        if life.status is JobStatus.QUEUED and not life.order.shown:
            with pytest.raises(StoreError, match="it is not recorded yet that Discord shows"):
                self.run(work)
        elif self.moves(job_id, work, JobStatus.QUEUED):
            life.status, life.submitted_at, life.token = JobStatus.SUBMITTING, self.now, token

    @rule(job_id=jobs)
    def requeue(self, job_id: str) -> None:
        if life := self.moves(job_id, self.store.requeue(job_id), JobStatus.SUBMITTING):
            life.status, life.submitted_at, life.token = JobStatus.QUEUED, None, None

    @rule(job_id=jobs)
    def mark_uncertain(self, job_id: str) -> None:
        if life := self.moves(job_id, self.store.mark_uncertain(job_id), JobStatus.SUBMITTING):
            life.status = JobStatus.UNCERTAIN

    @rule(job_id=jobs, remote_id=REMOTE_IDS)
    def mark_running(self, job_id: str, remote_id: str) -> None:
        sources = (JobStatus.SUBMITTING, JobStatus.UNCERTAIN)
        work = self.store.mark_running(job_id, remote_id=remote_id)
        if self.lives[job_id].status in sources and any(life.remote_id == remote_id for life in self.lives.values()):
            with pytest.raises((sqlite3.IntegrityError, LedgerError)):  # one image never belongs to two members
                self.run(work)
        elif life := self.moves(job_id, work, *sources):
            life.status, life.remote_id = JobStatus.RUNNING, remote_id

    @rule(job_id=jobs, charged=st.sampled_from([0, 1, 99, PRICE, PRICE + 1]), operator_cost=st.sampled_from([0, 7]))
    def succeed(self, job_id: str, charged: int, operator_cost: int) -> None:
        work = self.store.succeed(
            job_id,
            charged_usd_micros=charged,
            operator_cost_usd_micros=operator_cost,
            images=[an_image()],
            now=self.now,
        )
        if self.lives[job_id].status is JobStatus.RUNNING and charged > PRICE:
            with pytest.raises((sqlite3.IntegrityError, LedgerError)):  # never more than was reserved
                self.run(work)
        elif life := self.moves(job_id, work, JobStatus.RUNNING):
            life.status, life.finished_at, life.charged = JobStatus.SUCCEEDED, self.now, charged
            life.operator_cost, life.images = operator_cost, 1

    @rule(job_id=jobs, reason=st.sampled_from(FailureReason), operator_cost=st.sampled_from([0, PRICE]))
    def fail(self, job_id: str, reason: FailureReason, operator_cost: int) -> None:
        work = self.store.fail(job_id, Failure(reason=reason), operator_cost_usd_micros=operator_cost, now=self.now)
        if life := self.moves(job_id, work, *UNFINISHED):
            life.status, life.finished_at, life.operator_cost = JobStatus.FAILED, self.now, operator_cost

    @rule(job_id=jobs, reason=st.sampled_from([FailureReason.OUTCOME_UNKNOWN, FailureReason.TIMED_OUT]))
    def fail_and_follow(self, job_id: str, reason: FailureReason) -> None:
        sent = (JobStatus.UNCERTAIN, JobStatus.RUNNING)
        until = self.now + timedelta(hours=2)
        failure = Failure(reason=reason)
        work = self.store.fail(job_id, failure, now=self.now, expected=sent, follow_until=until)
        if life := self.moves(job_id, work, *sent):
            life.status, life.finished_at, life.is_followed = JobStatus.FAILED, self.now, True

    @rule(job_id=jobs, remote_id=REMOTE_IDS)
    def mark_found(self, job_id: str, remote_id: str) -> None:
        """Find an order late, while it is followed."""
        life = self.lives[job_id]
        is_legal = life.is_followed and life.remote_id is None
        work = self.store.mark_found(job_id, remote_id=remote_id, follow_until=self.now + timedelta(hours=4))
        if is_legal and any(other.remote_id == remote_id for other in self.lives.values()):
            with pytest.raises((sqlite3.IntegrityError, LedgerError)):
                self.run(work)
        else:
            assert (self.run(work) is not None) is is_legal
            life.remote_id = remote_id if is_legal else life.remote_id

    @rule(job_id=jobs, operator_cost=st.sampled_from([0, 7, PRICE]))
    def deliver_late(self, job_id: str, operator_cost: int) -> None:
        life = self.lives[job_id]
        work = self.store.deliver_late(
            job_id, operator_cost_usd_micros=operator_cost, images=[an_image()], now=self.now
        )
        if life.is_followed and life.remote_id is None:
            with pytest.raises((sqlite3.IntegrityError, LedgerError)):  # an image has a job at the provider
                self.run(work)
            return
        assert (self.run(work) is not None) is life.is_followed
        if life.is_followed:
            life.status, life.finished_at, life.charged = JobStatus.SUCCEEDED, self.now, 0
            life.is_followed, life.is_late, life.operator_cost, life.images = False, True, operator_cost, 1
            life.order.delivery = Delivery.PENDING

    @rule(job_id=jobs, operator_cost=st.sampled_from([0, PRICE]))
    def end_follow(self, job_id: str, operator_cost: int) -> None:
        life = self.lives[job_id]
        work = self.store.end_follow(job_id, operator_cost_usd_micros=operator_cost, now=self.now)
        assert (self.run(work) is not None) is life.is_followed
        if life.is_followed:
            life.is_followed, life.operator_cost = False, operator_cost

    @rule(job_id=jobs, expected=st.sampled_from([JobStatus.QUEUED, JobStatus.RUNNING]))
    def cancel(self, job_id: str, expected: JobStatus) -> None:
        work = self.store.cancel(job_id, expected=expected, now=self.now)
        if life := self.moves(job_id, work, expected):
            life.status, life.finished_at = JobStatus.CANCELLED, self.now

    # -- time and money -----------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.5, 60, 900]))
    def wait(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    @invariant()
    def the_store_agrees_with_the_model(self) -> None:
        """Compare every amount, and every fact of every job that can still change."""
        unfinished = self.run(self.store.unfinished())
        expected = {
            reply_id
            for reply_id, order in self.orders.items()
            if not order.is_over or order.delivery is Delivery.PENDING or any(life.is_followed for life in order.lives)
        }
        assert {reply.id for reply in unfinished} == expected
        for reply in unfinished:
            self.agree_on(reply)
        lives = self.lives.values()
        balance = self.run(self.store.balance(ADA, default=A_DOLLAR_A_DAY, now=NOON))
        assert balance.set_aside_usd_micros == sum(PRICE for life in lives if life.finished_at is None)
        assert balance.spent_usd_micros == sum(life.charged or 0 for life in lives)
        assert self.run(operator_cost(self.store)) == sum(life.operator_cost for life in lives)

    def agree_on(self, reply: Reply) -> None:
        order = self.orders[reply.id]
        assert (reply.accepted, reply.delivery, reply.cancel_reason) == (order.shown, order.delivery, order.reason)
        assert reply.is_final is order.is_over
        for job in reply.jobs:
            facts = (job.status, job.remote_id, job.webhook_token, job.submitted_at, job.finished_at)
            money = (job.charged_usd_micros, len(job.images), job.is_followed, job.late_at is not None)
            assert (*facts, *money) == self.lives[job.id].facts

    def teardown(self) -> None:
        try:
            for reply_id in self.orders:
                reply = self.run(self.store.reply(reply_id))
                assert reply is not None
                self.agree_on(reply)
            assert self.database.findings() == []
        finally:
            self.database.close()


TestJobs = JobMachine.TestCase
TestJobs.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)


class JobMachineOnPostgres(JobMachine):
    engine = "postgresql"


TestJobsOnPostgres = JobMachineOnPostgres.TestCase
TestJobsOnPostgres.settings = settings(max_examples=10, stateful_step_count=40, deadline=None)


@pytest.mark.torture
class TestJobsForLong(JobMachine.TestCase):
    settings = settings(max_examples=2_000, stateful_step_count=50, deadline=None)
