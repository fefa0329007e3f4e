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
from bot.providers.durations import Durations

MOST_CLAIMS = 4


@dataclass(slots=True)
class Live:
    """One job in flight."""

    progress: Progress | None = None
    preview_url: str | None = None
    cancel_wanted: bool = False
    uploaded_again: bool = False
    """Its input pictures were given to the provider a second time."""
    hook: bytes | None = None
    """Digest of the secret webhook path of this job's order."""
    claims: list[str] = field(default_factory=list[str])
    """Remote ids that calls on that path named. Anybody's word, until the provider confirms it."""
    claimed: asyncio.Event | None = None
    """Set by such calls; only there while somebody waits for them, since an event is large and jobs are many."""


class LiveJobs:
    """All jobs in flight, by job id and by webhook path."""

    def __init__(self) -> None:
        self._jobs: dict[str, Live] = {}
        self._hooks: dict[bytes, str] = {}
        self._durations: dict[str, Durations] = {}

    def of(self, job_id: str) -> Live:
        """The entry of a job, made when there is none."""
        return self._jobs.setdefault(job_id, Live())

    def find(self, job_id: str) -> Live | None:
        """The entry of a job, if it is in flight."""
        return self._jobs.get(job_id)

    def forget(self, job_id: str) -> None:
        """The job has ended."""
        live = self._jobs.pop(job_id, None)
        if live is not None and live.hook is not None:
            self._hooks.pop(live.hook, None)

    def expect_hook(self, job_id: str, token: str) -> None:
        """From now on a call on the path of `token`, and of no earlier one, is about this job."""
        live, digest = self.of(job_id), _digest(token)
        if live.hook is not None:  # sent once more after the provider had enough: each order has a path of its own
            self._hooks.pop(live.hook, None)
        live.hook = digest
        self._hooks[digest] = job_id

    def claim(self, token: str, remote_id: str | None) -> tuple[str, ...]:
        """A call came in on the path of `token`: the remote ids named so far on it, none if we do not know the path."""
        job_id = self._hooks.get(_digest(token))
        return () if job_id is None else self.claim_for(job_id, remote_id)

    def claim_for(self, job_id: str, remote_id: str | None) -> tuple[str, ...]:
        """The same, when it is known already whose path that was."""
        live = self._jobs.get(job_id)
        if live is None:
            return ()
        if remote_id is not None and remote_id not in live.claims and len(live.claims) < MOST_CLAIMS:
            live.claims.append(remote_id)
        if live.claimed is not None:
            live.claimed.set()
        return tuple(live.claims)

    def learn_durations(self, durations: Iterable[tuple[str, float]]) -> None:
        """How long jobs of each model took, oldest first: (model id, seconds)."""
        for model_id, seconds in durations:
            self.durations_of(model_id).learn(seconds)

    def durations_of(self, model_id: str) -> Durations:
        """How long jobs of a model took lately; goes on learning."""
        return self._durations.setdefault(model_id, Durations())

    def expected_at(self, job: Job) -> datetime | None:
        """When a submitted job will probably be done; None where nothing is known yet."""
        lately = self._durations.get(job.request.model_id)
        if not lately or job.submitted_at is None:
            return None
        return job.submitted_at + timedelta(seconds=lately.quantile(0.5))


def _digest(token: str) -> bytes:
    """Paths are looked up by digest, so that timing tells nothing about the token itself."""
    return hashlib.sha256(token.encode()).digest()
