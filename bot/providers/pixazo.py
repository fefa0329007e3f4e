"""The Pixazo API: its paths, its JSON and its status words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote

import aiohttp

from bot.domain.errors import OutcomeUncertain, ProviderDenied, ProviderRejected, ProviderUnavailable
from bot.domain.jobs import Failure, JobStatus, Progress
from bot.domain.json_values import as_object
from bot.providers.api_client import USUAL_TIMING, ApiClient, Timing
from bot.providers.base import Provider, ProviderRequest, RemoteJob, Update
from bot.providers.parsing import (
    StatusMap,
    StatusMeaning,
    read_cost_usd_micros,
    read_error_body,
    read_id,
    read_image_urls,
    read_time,
    read_took_seconds,
    read_withdrawal,
    read_word,
)
from bot.runtime.trusted_clock import utc_now

_READ_ATTEMPTS = 3
_NO_SUCH_REQUEST = "probe_00000000-0000-0000-0000-000000000000"

_FAILED = "failed"
_STATUSES: Mapping[str, StatusMeaning] = {
    "queued": (JobStatus.RUNNING, Progress.WAITING),
    "processing": (JobStatus.RUNNING, Progress.PROCESSING),
    "completed": (JobStatus.SUCCEEDED, None),
    _FAILED: (JobStatus.FAILED, None),
    "error": (JobStatus.FAILED, None),
    # Not documented, but seen by one client.
    "cancelled": (JobStatus.CANCELLED, None),
}


class PixazoProvider(Provider):
    """`Provider` over the Pixazo gateway. No upload, no cancelling, no list; ERROR is free, FAILED may not be."""

    name = "pixazo"
    # No time-out is documented; Pixazo runs its jobs at Krea, so the same one applies.
    deadline_seconds = 2 * 3600.0 + 600.0
    late_seconds = 2 * 3600.0

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        base_url: str,
        api_key: str,
        timing: Timing = USUAL_TIMING,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._api = ApiClient(
            session,
            name=self.name,
            base_url=base_url,
            key_header="Ocp-Apim-Subscription-Key",
            api_key=api_key,
            timing=timing,
            clock=clock,
        )
        self._status_map = StatusMap(self.name, _STATUSES, redact=self._api.redact)

    async def submit(self, request: ProviderRequest) -> RemoteJob:
        headers = {"X-Webhook-URL": request.webhook_url} if request.webhook_url else {}
        response = await self._api.submit(request.path, request.body, headers=headers)
        accepted = as_object(response.document)
        # `polling_url` is ignored: following it would send the key to any host.
        remote_id = read_id(accepted.get("request_id"))
        if remote_id is None:
            raise OutcomeUncertain("pixazo: accepted without a usable request_id")
        _, progress = self._status_map.read(accepted.get("status"))
        return RemoteJob(
            remote_id=remote_id,
            created_at=read_time(accepted.get("created_at")),
            progress=progress,
            withdrawal=read_withdrawal(response.headers),
        )

    async def fetch(self, remote_id: str) -> Update:
        job = as_object(await self._api.request("GET", _status_path(remote_id)))
        self._api.require_about(job, key="request_id", remote_id=remote_id)
        status_word = job.get("status")
        if not isinstance(status_word, str):
            raise ProviderUnavailable("pixazo: a request without a status")
        return self._update(remote_id, status_word, job)

    async def has_model(self, path: str) -> bool:
        return await self._api.has_model(path)

    async def probe(self) -> None:
        try:
            await self._api.request("GET", _status_path(_NO_SUCH_REQUEST), attempts=_READ_ATTEMPTS, allow_empty=True)
        except ProviderDenied:
            raise
        except ProviderRejected:
            # 'No such request' means that the key was accepted.
            return
        except ProviderUnavailable as error:
            # How the gateway says so is not documented.
            if error.status not in (400, 422):
                raise

    def _update(self, remote_id: str, status_word: str, job: Mapping[str, Any]) -> Update:
        output = as_object(job.get("output"))
        image_urls = read_image_urls(output.get("media_url"))
        state = self._status_map.read_job(job, image_urls=image_urls, error=job.get("error"))
        status = state.status
        failure: Failure | None = None
        if status is JobStatus.FAILED:
            complaint = {"error": job.get("error"), "message": job.get("message")}
            failure = read_error_body(complaint, redact=self._api.redact).as_failure()
        return Update(
            remote_id=remote_id,
            status=status,
            provider_status=read_word(status_word, redact=self._api.redact),
            progress=state.progress,
            result_urls=image_urls if status is JobStatus.SUCCEEDED else (),
            failure=failure,
            may_be_charged=status_word.strip().lower() == _FAILED
            or (status is JobStatus.FAILED and not state.is_known),
            cost_usd_micros=read_cost_usd_micros(job, output),
            created_at=read_time(job.get("created_at")),
            took_seconds=read_took_seconds(job),
            is_new_word=state.is_new_word,
        )


def _status_path(remote_id: str) -> str:
    return f"/v2/requests/status/{quote(remote_id, safe='')}"
