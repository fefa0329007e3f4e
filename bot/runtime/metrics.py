"""Metrics for the operator's dashboard, under names that begin with `image_bot_`. Amounts are micro-dollars.

No label names a member, a server or a prompt.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from types import SimpleNamespace
from typing import Any, TypeVar

import aiohttp
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.gc_collector import GCCollector
from prometheus_client.process_collector import ProcessCollector

from bot.domain.errors import RequestRefused, StoreError
from bot.domain.jobs import Delivery, Job, JobStatus

ANSWER_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 3)
"""Seconds; Discord waits for 3."""

DELIVERY_BUCKETS = (0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300, 3600)
_Metric = TypeVar("_Metric", Counter, Histogram)

NOT_SHOWN = "NotShown"
"""The outcome of a command whose card Discord did not accept."""

DISCORD_REFUSALS = ("401", "403", "429")
"""Discord bans an address for a while that gets 10,000 of these answers in ten minutes."""
_DISCORD_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")

JOB_BUCKETS = (1, 2, 5, 10, 20, 30, 60, 120, 300, 900, 3600, 7200)


class _RequestStart(SimpleNamespace):
    """The start time of a request; aiohttp creates one for each."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.at = time.perf_counter()


class Metrics:
    """One registry and the metrics in it."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self._orders = self._counter("orders", "Commands that ordered images, by outcome", "outcome")
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
        self._operator_cost = self._counter("house_usd_micros", "Borne by the operator", "provider", "model")
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
        self._with_labels: dict[tuple[object, ...], Any] = {}
        self._deliveries = self._counter("deliveries", "Final states shown, or not to be shown any more", "outcome")
        self._begin_at_zero()

    def _counter(self, name: str, what: str, *labels: str) -> Counter:
        return Counter(f"image_bot_{name}", what, labels, registry=self.registry)

    def _begin_at_zero(self) -> None:
        """Create the counters that alerts read: `increase()` does not see the first value of a new one."""
        for refusal in (*RequestRefused.__subclasses__(), StoreError, *StoreError.__subclasses__()):
            self._of(self._orders, refusal.__name__)
        for outcome in ("accepted", NOT_SHOWN):
            self._of(self._orders, outcome)
        for delivery in Delivery:
            if delivery is not Delivery.PENDING:
                self._of(self._deliveries, delivery.value)
        for method in _DISCORD_METHODS:
            for status in DISCORD_REFUSALS:
                self._of(self._requests, "discord", method, status)

    def offer(self, models: Iterable[tuple[str, str]]) -> None:
        """Create the counters of models that can be ordered, given as provider and model id."""
        for provider, model in models:
            self._of(self._charged, provider, model)
            self._of(self._operator_cost, provider, model)
            self._of(self._jobs, provider, model, JobStatus.SUCCEEDED.value, "")

    def watch(self, name: str, what: str, label: str, read: Callable[[], Mapping[str, float]]) -> None:
        """Add a gauge for each key that `read` returns, such as the queue length of each provider."""
        gauge = Gauge(f"image_bot_{name}", what, [label], registry=self.registry)
        for key in read():
            gauge.labels(key).set_function(lambda key=key: read().get(key, 0))

    def order(self, outcome: str) -> None:
        """Count a command that was accepted ('accepted') or refused (the class of the refusal)."""
        self._of(self._orders, outcome).inc()

    def answered(self, seconds: float) -> None:
        """Record the seconds from a command to Discord's acceptance of its card."""
        self._answer_seconds.observe(seconds)

    def job_ended(self, job: Job, *, operator_cost_usd_micros: int = 0) -> None:
        """Count a job that reached its final state."""
        model = (job.provider, job.request.model_id)
        reason = job.failure.reason.value if job.failure else ""
        self._of(self._jobs, *model, job.status.value, reason).inc()
        if job.charged_usd_micros:
            self._of(self._charged, *model).inc(job.charged_usd_micros)
            if job.submitted_at and job.finished_at:
                seconds = (job.finished_at - job.submitted_at).total_seconds()
                self._of(self._job_seconds, *model).observe(seconds)
        if operator_cost_usd_micros:
            self._of(self._operator_cost, *model).inc(operator_cost_usd_micros)

    def cost_late(self, job: Job, *, operator_cost_usd_micros: int) -> None:
        """Count what a job cost the operator that was counted as failed before."""
        if operator_cost_usd_micros:
            self._of(self._operator_cost, job.provider, job.request.model_id).inc(operator_cost_usd_micros)

    def delivered(self, outcome: str, seconds: float | None = None) -> None:
        """Count a final state that was shown, or that can never be shown."""
        self._of(self._deliveries, outcome).inc()
        if seconds is not None:
            self._delivery_seconds.observe(max(0.0, seconds))

    def trace(self, to: str | Callable[[str], str]) -> aiohttp.TraceConfig:
        """Return a configuration that counts every request of a session.

        `to` is the name of the peer, or derives it from the host.
        """
        trace = aiohttp.TraceConfig(_RequestStart)

        async def end(_: aiohttp.ClientSession, context: SimpleNamespace, done: aiohttp.TraceRequestEndParams) -> None:
            self._count_request(to, done, str(done.response.status), context)

        async def fail(
            _: aiohttp.ClientSession, context: SimpleNamespace, done: aiohttp.TraceRequestExceptionParams
        ) -> None:
            self._count_request(to, done, type(done.exception).__name__, context)

        trace.on_request_end.append(end)
        trace.on_request_exception.append(fail)
        return trace

    def _count_request(
        self,
        to: str | Callable[[str], str],
        done: aiohttp.TraceRequestEndParams | aiohttp.TraceRequestExceptionParams,
        status: str,
        context: SimpleNamespace,
    ) -> None:
        peer = to if isinstance(to, str) else to(done.url.authority)
        self._of(self._requests, peer, done.method, status).inc()
        self._of(self._request_seconds, peer, done.method).observe(time.perf_counter() - context.at)

    def _of(self, metric: _Metric, *labels: str) -> _Metric:
        """Return the metric with these labels, cached because a look-up takes longer than counting."""
        found: _Metric | None = self._with_labels.get((metric, *labels))
        if found is None:
            found = self._with_labels[metric, *labels] = metric.labels(*labels)
        return found
