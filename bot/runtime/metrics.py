"""Metrics: what an operator wants on a dashboard, under names that begin with `image_bot_`. Amounts are micro-dollars.

Nothing in here names a member, a server or a prompt.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, TypeVar

import aiohttp
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.gc_collector import GCCollector
from prometheus_client.process_collector import ProcessCollector

from bot.domain.jobs import Job

ANSWER_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 3)
"""Seconds; Discord waits for 3."""

DELIVERY_BUCKETS = (0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300, 3600)
_Metric = TypeVar("_Metric", Counter, Histogram)

JOB_BUCKETS = (1, 2, 5, 10, 20, 30, 60, 120, 300, 900, 3600, 7200)


class _Begun(SimpleNamespace):
    """When a request began: aiohttp makes one of these for each."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.at = time.perf_counter()


class Metrics:
    """One registry and everything that is counted in it."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self._orders = self._counter("orders", "Commands that ordered pictures, by what became of them", "outcome")
        self._answer_seconds = Histogram(
            "image_bot_answer_seconds",
            "From the command to Discord's acceptance of the card",
            registry=self.registry,
            buckets=ANSWER_BUCKETS,
        )
        self._jobs = self._counter("jobs", "Jobs that ended", "provider", "model", "status", "reason")
        self._job_seconds = Histogram(
            "image_bot_job_seconds",
            "From submission to the end, of jobs that succeeded",
            ["provider", "model"],
            registry=self.registry,
            buckets=JOB_BUCKETS,
        )
        self._charged = self._counter("charged_usd_micros", "Charged to members", "provider", "model")
        self._house = self._counter("house_usd_micros", "Borne by the house", "provider", "model")
        self._requests = self._counter("requests", "Requests sent", "to", "method", "status")
        self._request_seconds = Histogram(
            "image_bot_request_seconds", "Duration of requests", ["to", "method"], registry=self.registry
        )
        self._delivery_seconds = Histogram(
            "image_bot_delivery_seconds",
            "From the end of a command's last job to the message that shows it",
            registry=self.registry,
            buckets=DELIVERY_BUCKETS,
        )
        self._found: dict[tuple[object, ...], Any] = {}
        self._deliveries = self._counter("deliveries", "Final states shown, or not to be shown any more", "outcome")

    def _counter(self, name: str, what: str, *labels: str) -> Counter:
        return Counter(f"image_bot_{name}", what, labels, registry=self.registry)

    def watch(self, name: str, what: str, label: str, read: Callable[[], Mapping[str, float]]) -> None:
        """A gauge per key of what `read` says when it is asked, such as the length of each provider's line."""
        gauge = Gauge(f"image_bot_{name}", what, [label], registry=self.registry)
        for key in read():
            gauge.labels(key).set_function(lambda key=key: read().get(key, 0))

    def order(self, outcome: str) -> None:
        """A command was accepted ('accepted') or refused (the refusal's class)."""
        self._of(self._orders, outcome).inc()

    def answered(self, seconds: float) -> None:
        """Discord accepted a card this long after the command."""
        self._answer_seconds.observe(seconds)

    def job_ended(self, job: Job, *, operator_cost_usd_micros: int = 0) -> None:
        """A job reached its final state."""
        model = (job.provider, job.request.model_id)
        reason = job.failure.reason.value if job.failure else ""
        self._of(self._jobs, *model, job.status.value, reason).inc()
        if job.charged_usd_micros:
            self._of(self._charged, *model).inc(job.charged_usd_micros)
            if job.submitted_at and job.finished_at:
                seconds = (job.finished_at - job.submitted_at).total_seconds()
                self._of(self._job_seconds, *model).observe(seconds)
        if operator_cost_usd_micros:
            self._of(self._house, *model).inc(operator_cost_usd_micros)

    def delivered(self, outcome: str, seconds: float | None = None) -> None:
        """A final state was shown, or never can be."""
        self._of(self._deliveries, outcome).inc()
        if seconds is not None:
            self._delivery_seconds.observe(max(0.0, seconds))

    def trace(self, to: str | Callable[[str], str]) -> aiohttp.TraceConfig:
        """Counts every request of a session. `to` names the other side, or tells it from the host."""
        trace = aiohttp.TraceConfig(_Begun)

        async def end(_: aiohttp.ClientSession, context: SimpleNamespace, done: aiohttp.TraceRequestEndParams) -> None:
            self._note(to, done, str(done.response.status), context)

        async def fail(
            _: aiohttp.ClientSession, context: SimpleNamespace, done: aiohttp.TraceRequestExceptionParams
        ) -> None:
            self._note(to, done, type(done.exception).__name__, context)

        trace.on_request_end.append(end)
        trace.on_request_exception.append(fail)
        return trace

    def _note(
        self,
        to: str | Callable[[str], str],
        done: aiohttp.TraceRequestEndParams | aiohttp.TraceRequestExceptionParams,
        status: str,
        context: SimpleNamespace,
    ) -> None:
        side = to if isinstance(to, str) else to(done.url.authority)
        self._of(self._requests, side, done.method, status).inc()
        self._of(self._request_seconds, side, done.method).observe(time.perf_counter() - context.at)

    def _of(self, metric: _Metric, *labels: str) -> _Metric:
        """Looking a metric up by its labels takes longer than counting."""
        found: _Metric | None = self._found.get((metric, *labels))
        if found is None:
            found = self._found[metric, *labels] = metric.labels(*labels)
        return found
