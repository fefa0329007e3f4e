"""Jobs in flight: which callers a webhook path accepts, and how long models have taken recently."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from bot.providers.durations import KEPT
from bot.service.execution.in_flight import MAX_CLAIMS, InFlightJobs
from tests.support.store_samples import NOON, a_command

JOB = a_command().jobs[0]
SUBMITTED = replace(JOB, submitted_at=NOON)


def test_a_job_has_one_entry_until_it_is_forgotten():
    in_flight = InFlightJobs()
    assert in_flight.get("a") is None
    entry = in_flight.get_or_create("a")
    assert in_flight.get_or_create("a") is entry
    assert in_flight.get("a") is entry
    in_flight.remove("a")
    in_flight.remove("a")
    assert in_flight.get("a") is None


def test_a_call_on_a_jobs_own_path_names_its_remote_job_and_wakes_the_search():
    in_flight = InFlightJobs()
    in_flight.register_webhook("a", "secret")
    in_flight.get_or_create("a").claimed = waiting = asyncio.Event()
    assert in_flight.webhook_claims("secret", "remote-1") == ("remote-1",)
    assert in_flight.webhook_claims("secret", "remote-1") == ("remote-1",), "a repeated call adds nothing"
    assert in_flight.webhook_claims("secret", None) == ("remote-1",), "a call that names nothing still says: look"
    assert waiting.is_set()


@pytest.mark.f57
def test_a_call_on_an_unknown_path_changes_nothing():
    in_flight = InFlightJobs()
    in_flight.register_webhook("a", "secret")
    in_flight.get_or_create("a").claimed = waiting = asyncio.Event()
    assert in_flight.webhook_claims("secreT", "remote-1") == ()
    assert in_flight.get_or_create("a").claims == []
    assert not waiting.is_set()


@pytest.mark.f57
def test_the_path_of_an_ended_job_is_closed():
    in_flight = InFlightJobs()
    in_flight.register_webhook("a", "secret")
    in_flight.remove("a")
    assert in_flight.webhook_claims("secret", "remote-1") == ()
    assert in_flight.get("a") is None


@pytest.mark.f57
def test_the_path_of_an_order_that_was_not_accepted_is_closed_when_the_job_is_sent_again():
    in_flight = InFlightJobs()
    in_flight.register_webhook("a", "first")
    in_flight.register_webhook("a", "second")
    assert in_flight.webhook_claims("first", "remote-1") == ()
    assert in_flight.webhook_claims("second", "remote-1") == ("remote-1",)
    in_flight.remove("a")
    assert not in_flight._webhooks


def test_only_a_few_claims_are_kept():
    in_flight = InFlightJobs()
    in_flight.register_webhook("a", "secret")
    for number in range(100):
        in_flight.webhook_claims("secret", f"remote-{number}")
    assert in_flight.get_or_create("a").claims == [f"remote-{number}" for number in range(MAX_CLAIMS)]


def test_the_tokens_themselves_are_not_kept():
    in_flight = InFlightJobs()
    in_flight.register_webhook("a", "secret")
    assert "secret" not in repr(vars(in_flight)) + repr(in_flight.get_or_create("a"))


def test_a_model_is_expected_to_take_as_long_as_it_mostly_did():
    in_flight = InFlightJobs()
    assert in_flight.expected_at(SUBMITTED) is None
    in_flight.observe_durations([(JOB.request.model_id, seconds) for seconds in (4.0, 5.0, 300.0)])
    assert in_flight.expected_at(SUBMITTED) == NOON + timedelta(seconds=5)
    assert in_flight.expected_at(JOB) is None, "not submitted yet"


def test_what_a_model_took_long_ago_is_forgotten():
    in_flight = InFlightJobs()
    in_flight.observe_durations([(JOB.request.model_id, 600.0)] * 100 + [(JOB.request.model_id, 6.0)] * KEPT)
    assert in_flight.expected_at(SUBMITTED) == NOON + timedelta(seconds=6)


@pytest.mark.hostile("G-37")
def test_a_callback_that_comes_before_its_path_is_known_is_kept():
    in_flight = InFlightJobs()
    assert in_flight.webhook_claims("token", "remote") == ()
    for number in range(200):
        in_flight.webhook_claims(f"a stranger's {number}", "x")
    in_flight.register_webhook("job", "token")
    assert in_flight.get_or_create("job").claims == ["remote"]


@pytest.mark.hostile("G-37")
def test_callbacks_on_unknown_paths_take_no_memory_without_end():
    in_flight = InFlightJobs()
    for number in range(10_000):
        in_flight.webhook_claims(f"token {number}", f"remote {number}")
    in_flight.register_webhook("old", "token 0")
    in_flight.register_webhook("new", "token 9999")
    assert in_flight.get_or_create("old").claims == []
    assert in_flight.get_or_create("new").claims == ["remote 9999"]
