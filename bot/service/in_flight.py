"""What is only worth knowing while jobs are in flight: progress, previews, webhook paths, how long models take lately.

Nothing here is on disk. After a restart the next reading of each job tells it again.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from bot.domain.jobs import Job, Progress
from bot.providers.durations import DurationEstimator

MAX_CLAIMS = 4


@dataclass(slots=True)
class InFlight:
    """One job in flight."""

    progress: Progress | None = None
    preview_url: str | None = None
    cancel_wanted: bool = False
    uploaded_again: bool = False
    """Its input pictures were given to the provider a second time."""
    webhook_digest: bytes | None = None
    """Digest of the secret webhook path of this job's order."""
    claims: list[str] = field(default_factory=list[str])
    """Remote ids that calls on that path named. Anybody's word, until the provider confirms it."""
    claimed: asyncio.Event | None = None
    """Set by such calls; only there while somebody waits for them, since an event is large and jobs are many."""


class InFlightJobs:
    """All jobs in flight, by job id and by webhook path."""

    def __init__(self) -> None:
        self._jobs: dict[str, InFlight] = {}
        self._webhooks: dict[bytes, str] = {}
        self._durations: dict[str, DurationEstimator] = {}

    def get_or_create(self, job_id: str) -> InFlight:
        """The entry of a job, made when there is none."""
        return self._jobs.setdefault(job_id, InFlight())

    def get(self, job_id: str) -> InFlight | None:
        """The entry of a job, if it is in flight."""
        return self._jobs.get(job_id)

    def remove(self, job_id: str) -> None:
        """The job has ended."""
        in_flight = self._jobs.pop(job_id, None)
        if in_flight is not None and in_flight.webhook_digest is not None:
            self._webhooks.pop(in_flight.webhook_digest, None)

    def register_webhook(self, job_id: str, token: str) -> None:
        """From now on a call on the path of `token`, and of no earlier one, is about this job."""
        in_flight, digest = self.get_or_create(job_id), _digest(token)
        if (
            in_flight.webhook_digest is not None
        ):  # sent once more after the provider had enough: each order has a path of its own
            self._webhooks.pop(in_flight.webhook_digest, None)
        in_flight.webhook_digest = digest
        self._webhooks[digest] = job_id

    def webhook_claims(self, token: str, remote_id: str | None) -> tuple[str, ...]:
        """A call came in on the path of `token`: the remote ids named so far on it, none if we do not know the path."""
        job_id = self._webhooks.get(_digest(token))
        return () if job_id is None else self.webhook_claims_for(job_id, remote_id)

    def webhook_claims_for(self, job_id: str, remote_id: str | None) -> tuple[str, ...]:
        """The same, when it is known already whose path that was."""
        in_flight = self._jobs.get(job_id)
        if in_flight is None:
            return ()
        if remote_id is not None and remote_id not in in_flight.claims and len(in_flight.claims) < MAX_CLAIMS:
            in_flight.claims.append(remote_id)
        if in_flight.claimed is not None:
            in_flight.claimed.set()
        return tuple(in_flight.claims)

    def observe_durations(self, durations: Iterable[tuple[str, float]]) -> None:
        """How long jobs of each model took, oldest first: (model id, seconds)."""
        for model_id, seconds in durations:
            self.durations_of(model_id).observe(seconds)

    def durations_of(self, model_id: str) -> DurationEstimator:
        """How long jobs of a model took lately; goes on learning."""
        return self._durations.setdefault(model_id, DurationEstimator())

    def expected_at(self, job: Job) -> datetime | None:
        """When a submitted job will probably be done; None where nothing is known yet."""
        lately = self._durations.get(job.request.model_id)
        if not lately or job.submitted_at is None:
            return None
        return job.submitted_at + timedelta(seconds=lately.quantile(0.5))


def _digest(token: str) -> bytes:
    """Paths are looked up by digest, so that timing tells nothing about the token itself."""
    return hashlib.sha256(token.encode()).digest()
