"""Metrics: counted where it happens, served without a word about who or what."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from prometheus_client import generate_latest

from bot.domain.jobs import Failure, FailureReason, Job, JobKind, JobRequest, JobStatus
from bot.runtime.metrics import Metrics

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
JOB = Job(
    id="0" * 24,
    reply_id="1" * 24,
    ordinal=0,
    request=JobRequest(kind=JobKind.IMAGINE, guild_id=77, user_id=99, model_id="krea/x/y", prompt="a secret wish"),
    provider="krea",
    path="/x",
    body={},
    seed=None,
    reserved_usd_micros=80_000,
    status=JobStatus.SUCCEEDED,
    created_at=NOON,
    submitted_at=NOON,
    finished_at=NOON + timedelta(seconds=7),
    charged_usd_micros=80_000,
)


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"image_bot_{name}", labels)


def test_a_finished_job_is_counted_with_its_price_and_its_time() -> None:
    metrics = Metrics()
    metrics.job_ended(JOB)
    of_model = {"provider": "krea", "model": "krea/x/y"}
    assert value(metrics, "jobs_total", status="succeeded", reason="", **of_model) == 1
    assert value(metrics, "charged_usd_micros_total", **of_model) == 80_000
    assert value(metrics, "job_seconds_sum", **of_model) == 7


def test_the_operators_costs_are_counted_separately() -> None:
    metrics = Metrics()
    failure = Failure(reason=FailureReason.TIMED_OUT)
    failed = replace(JOB, status=JobStatus.FAILED, failure=failure, charged_usd_micros=None)
    metrics.job_ended(failed, operator_cost_usd_micros=80_000)
    of_model = {"provider": "krea", "model": "krea/x/y"}
    assert value(metrics, "house_usd_micros_total", **of_model) == 80_000
    assert value(metrics, "charged_usd_micros_total", **of_model) is None
    assert value(metrics, "jobs_total", status="failed", reason="timed_out", **of_model) == 1


def test_gauges_are_read_when_they_are_collected() -> None:
    metrics, lengths = Metrics(), {"krea": 2.0}
    metrics.watch("line_length", "Jobs that wait", "provider", lambda: lengths)
    lengths["krea"] = 5.0
    assert value(metrics, "line_length", provider="krea") == 5


def test_orders_answers_and_deliveries_are_counted() -> None:
    metrics = Metrics()
    metrics.order("accepted")
    metrics.answered(0.02)
    metrics.delivered("delivered", -0.5)
    metrics.delivered("impossible")
    assert value(metrics, "orders_total", outcome="accepted") == 1
    assert value(metrics, "answer_seconds_count") == 1
    assert value(metrics, "delivery_seconds_sum") == 0
    assert value(metrics, "deliveries_total", outcome="impossible") == 1


async def test_every_request_of_a_traced_session_is_counted_also_when_it_fails() -> None:
    metrics = Metrics()
    application = web.Application()

    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=429)

    application.router.add_get("/", answer)
    trace = metrics.trace(lambda authority: "krea")
    async with TestServer(application) as server, aiohttp.ClientSession(trace_configs=[trace]) as session:
        address = server.make_url("/")
        async with session.get(address):
            pass
        await server.close()
        with pytest.raises(aiohttp.ClientError) as failure:
            await session.get(address)
    assert value(metrics, "requests_total", to="krea", method="GET", status="429") == 1
    assert value(metrics, "requests_total", to="krea", method="GET", status=type(failure.value).__name__) == 1


def test_no_name_and_no_prompt_is_served() -> None:
    metrics = Metrics()
    metrics.job_ended(JOB)
    served = generate_latest(metrics.registry).decode()
    assert "image_bot_jobs_total" in served
    assert "secret" not in served
    assert "99" not in served.split("image_bot_jobs_total", 1)[1].splitlines()[0]
