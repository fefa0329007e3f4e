"""In-memory state of jobs in flight: progress, previews, webhook paths, and how long models took lately.

Nothing here is on disk. After a restart the next update of each job brings it back.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from bot.domain.jobs import Job, Progress
from bot.providers.durations import DurationEstimator

MAX_CLAIMS = 4
"""Remote ids that are kept per job, out of what calls on its webhook path name."""


MAX_EARLY_PATHS = 256
"""Unknown webhook paths whose calls are kept, the newest: anybody can call a path that does not exist."""


@dataclass(slots=True)
class InFlight:
    """The state of one job in flight."""

    progress: Progress | None = None
    preview_url: str | None = None
    cancel_wanted: bool = False
    uploaded_again: bool = False
    """Its input images were uploaded to the provider a second time."""
    webhook_digest: bytes | None = None
    """Digest of the secret webhook path of this job's order."""
    claims: list[str] = field(default_factory=list[str])
    """Remote ids named by calls on that path. Not to be trusted until the provider confirms them."""
    claimed: asyncio.Event | None = None
    """Set by such calls; exists only while one is waited for, because events are large and jobs are many."""


class InFlightJobs:
    """The state of all jobs in flight, by job id and by webhook path."""

    def __init__(self) -> None:
        self._jobs: dict[str, InFlight] = {}
        self._webhooks: dict[bytes, str] = {}
        self._early_claims: OrderedDict[bytes, list[str]] = OrderedDict()
        """Remote ids named on paths that are not known yet: after a restart calls may come before the jobs are read."""
        self._durations: dict[str, DurationEstimator] = {}

    def get_or_create(self, job_id: str) -> InFlight:
        """Return the entry of a job, created when there is none."""
        return self._jobs.setdefault(job_id, InFlight())

    def get(self, job_id: str) -> InFlight | None:
        """Return the entry of a job, or None when it is not in flight."""
        return self._jobs.get(job_id)

    def remove(self, job_id: str) -> None:
        """Forget a job that has ended."""
        in_flight = self._jobs.pop(job_id, None)
        if in_flight is not None and in_flight.webhook_digest is not None:
            self._webhooks.pop(in_flight.webhook_digest, None)

    def register_webhook(self, job_id: str, token: str) -> None:
        """Take calls on the webhook path of `token`, and of no earlier token, as calls about this job."""
        in_flight, digest = self.get_or_create(job_id), _digest(token)
        # An order that is sent again after a 429 has a path of its own.
        if in_flight.webhook_digest is not None:
            self._webhooks.pop(in_flight.webhook_digest, None)
        in_flight.webhook_digest = digest
        self._webhooks[digest] = job_id
        for remote_id in self._early_claims.pop(digest, ()):
            self.webhook_claims_for(job_id, remote_id)

    def webhook_claims(self, token: str, remote_id: str | None) -> tuple[str, ...]:
        """Record a call on the path of `token`; return the remote ids named so far, none while the path is unknown."""
        digest = _digest(token)
        job_id = self._webhooks.get(digest)
        if job_id is not None:
            return self.webhook_claims_for(job_id, remote_id)
        if remote_id is not None:
            early = self._early_claims.setdefault(digest, [])
            self._early_claims.move_to_end(digest)
            if remote_id not in early and len(early) < MAX_CLAIMS:
                early.append(remote_id)
            if len(self._early_claims) > MAX_EARLY_PATHS:
                self._early_claims.popitem(last=False)
        return ()

    def webhook_claims_for(self, job_id: str, remote_id: str | None) -> tuple[str, ...]:
        """Record a call about this job; return the remote ids named for it so far, none if it is not in flight."""
        in_flight = self._jobs.get(job_id)
        if in_flight is None:
            return ()
        if remote_id is not None and remote_id not in in_flight.claims and len(in_flight.claims) < MAX_CLAIMS:
            in_flight.claims.append(remote_id)
        if in_flight.claimed is not None:
            in_flight.claimed.set()
        return tuple(in_flight.claims)

    def observe_durations(self, durations: Iterable[tuple[str, float]]) -> None:
        """Learn how long jobs of each model took, oldest first: (model id, seconds)."""
        for model_id, seconds in durations:
            self.durations_of(model_id).observe(seconds)

    def durations_of(self, model_id: str) -> DurationEstimator:
        """Return the estimator of how long jobs of a model take."""
        return self._durations.setdefault(model_id, DurationEstimator())

    def expected_at(self, job: Job) -> datetime | None:
        """Return when a submitted job will probably be done; None where nothing is known yet."""
        lately = self._durations.get(job.request.model_id)
        if not lately or job.submitted_at is None:
            return None
        return job.submitted_at + timedelta(seconds=lately.quantile(0.5))


def _digest(token: str) -> bytes:
    """Hash a token: paths are looked up by digest, so that timing reveals nothing about the token itself."""
    return hashlib.sha256(token.encode()).digest()
