"""What is known about jobs in flight: who may speak on a webhook path, and how long models take lately."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from bot.providers.durations import KEPT
from bot.service.in_flight import MOST_CLAIMS, LiveJobs
from tests.support.store_samples import NOON, a_command

JOB = a_command().jobs[0]
SUBMITTED = replace(JOB, submitted_at=NOON)


def test_a_job_has_one_entry_until_it_is_forgotten():
    live = LiveJobs()
    assert live.find("a") is None
    entry = live.of("a")
    assert live.of("a") is entry
    assert live.find("a") is entry
    live.forget("a")
    live.forget("a")
    assert live.find("a") is None


def test_a_call_on_a_jobs_own_path_names_its_remote_job_and_rouses_whoever_waits():
    live = LiveJobs()
    live.expect_hook("a", "secret")
    live.of("a").claimed = waiting = asyncio.Event()
    assert live.claim("secret", "remote-1") == ("remote-1",)
    assert live.claim("secret", "remote-1") == ("remote-1",), "a repeated call adds nothing"
    assert live.claim("secret", None) == ("remote-1",), "a call that names nothing still says: look"
    assert waiting.is_set()


@pytest.mark.f57
def test_a_call_on_an_unknown_path_changes_nothing():
    live = LiveJobs()
    live.expect_hook("a", "secret")
    live.of("a").claimed = waiting = asyncio.Event()
    assert live.claim("secreT", "remote-1") == ()
    assert live.of("a").claims == []
    assert not waiting.is_set()


@pytest.mark.f57
def test_the_path_of_an_ended_job_is_closed():
    live = LiveJobs()
    live.expect_hook("a", "secret")
    live.forget("a")
    assert live.claim("secret", "remote-1") == ()
    assert live.find("a") is None


@pytest.mark.f57
def test_the_path_of_an_order_that_was_not_accepted_is_closed_when_the_job_is_sent_again():
    live = LiveJobs()
    live.expect_hook("a", "first")
    live.expect_hook("a", "second")
    assert live.claim("first", "remote-1") == ()
    assert live.claim("second", "remote-1") == ("remote-1",)
    live.forget("a")
    assert not live._hooks


def test_only_a_few_claims_are_kept():
    live = LiveJobs()
    live.expect_hook("a", "secret")
    for number in range(100):
        live.claim("secret", f"remote-{number}")
    assert live.of("a").claims == [f"remote-{number}" for number in range(MOST_CLAIMS)]


def test_the_tokens_themselves_are_not_kept():
    live = LiveJobs()
    live.expect_hook("a", "secret")
    assert "secret" not in repr(vars(live)) + repr(live.of("a"))


def test_a_model_is_expected_to_take_as_long_as_it_mostly_did():
    live = LiveJobs()
    assert live.expected_at(SUBMITTED) is None
    live.learn_durations([(JOB.request.model_id, seconds) for seconds in (4.0, 5.0, 300.0)])
    assert live.expected_at(SUBMITTED) == NOON + timedelta(seconds=5)
    assert live.expected_at(JOB) is None, "not submitted yet"


def test_what_a_model_took_long_ago_is_forgotten():
    live = LiveJobs()
    live.learn_durations([(JOB.request.model_id, 600.0)] * 100 + [(JOB.request.model_id, 6.0)] * KEPT)
    assert live.expected_at(SUBMITTED) == NOON + timedelta(seconds=6)
