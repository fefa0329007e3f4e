"""The Krea API: its paths, its JSON and its status words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from urllib.parse import quote

import aiohttp

from bot.domain.errors import OutcomeUncertain, ProviderDenied, ProviderRejected, ProviderUnavailable
from bot.domain.jobs import JobStatus, Progress
from bot.domain.json_values import as_list, as_object
from bot.domain.money.bill import JobList, ListedJob
from bot.providers.api_client import USUAL_TIMING, ApiClient, Timing
from bot.providers.base import Provider, ProviderRequest, RemoteJob, StylePage, Update
from bot.providers.parsing import (
    StatusMap,
    StatusMeaning,
    read_cost_usd_micros,
    read_cursor,
    read_error_body,
    read_id,
    read_image_urls,
    read_object,
    read_preview_url,
    read_style,
    read_text,
    read_time,
    read_took_seconds,
    read_withdrawal,
    read_word,
)
from bot.runtime.trusted_clock import utc_now

_MAX_ASSET_BYTES = 75_000_000
_MAX_ASSET_URL_CHARACTERS = 1024
_PAGE_SIZE = 100
_MAX_ITEMS_READ = 1000
_MAX_PAGES = 20
_MAX_BILL_PAGES = 1_000
_STYLES_PAGE_SIZE = 100
_READ_ATTEMPTS = 3

_STATUSES: Mapping[str, StatusMeaning] = {
    "backlogged": (JobStatus.RUNNING, Progress.WAITING),
    "queued": (JobStatus.RUNNING, Progress.WAITING),
    "scheduled": (JobStatus.RUNNING, Progress.WAITING),
    "processing": (JobStatus.RUNNING, Progress.PROCESSING),
    "sampling": (JobStatus.RUNNING, Progress.SAMPLING),
    "intermediate-complete": (JobStatus.RUNNING, Progress.PREVIEW),
    "completed": (JobStatus.SUCCEEDED, None),
    "failed": (JobStatus.FAILED, None),
    "cancelled": (JobStatus.CANCELLED, None),
}


class KreaProvider(Provider):
    """`Provider` over the Krea API. Failed and cancelled jobs are not billed (documented)."""

    name = "krea"
    # External models may run for 2 hours before Krea fails them itself.
    deadline_seconds = 2 * 3600.0 + 600.0
    # A job may have waited in the backlog for as long before it began.
    late_seconds = 2 * 3600.0
    takes_uploads = True
    can_cancel = True
    can_list = True
    lists_costs = True
    has_styles = True

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
            key_header="Authorization",
            key_prefix="Bearer ",
            api_key=api_key,
            timing=timing,
            clock=clock,
        )
        self._status_map = StatusMap(self.name, _STATUSES, redact=self._api.redact)

    async def submit(self, request: ProviderRequest) -> RemoteJob:
        headers = {"X-Webhook-URL": request.webhook_url} if request.webhook_url else {}
        response = await self._api.submit(request.path, request.body, headers=headers)
        job = as_object(response.document)
        remote = self._remote_job(job)
        if remote is None:
            raise OutcomeUncertain("krea: accepted without a usable job_id")
        return replace(remote, withdrawal=read_withdrawal(response.headers))

    async def fetch(self, remote_id: str) -> Update:
        job = as_object(await self._api.request("GET", f"/jobs/{quote(remote_id, safe='')}"))
        self._api.require_about(job, key="job_id", remote_id=remote_id)
        status_word = job.get("status")
        if not isinstance(status_word, str):
            raise ProviderUnavailable("krea: a job without a status")
        return self._update(remote_id, status_word, job)

    async def cancel(self, remote_id: str) -> bool:
        try:
            answer = await self._api.request(
                "DELETE", f"/jobs/{quote(remote_id, safe='')}", attempts=_READ_ATTEMPTS, allow_empty=True
            )
            self._api.require_about(answer, key="job_id", remote_id=remote_id)
        except ProviderDenied:
            raise
        except ProviderRejected:
            # Ended or unknown: the caller polls the job to find out.
            return False
        return True

    async def upload(self, data: bytes, content_type: str) -> str:
        # Krea rejects the non-standard name.
        exact = "image/jpeg" if content_type == "image/jpg" else content_type
        if len(data) > _MAX_ASSET_BYTES:
            raise ProviderRejected("krea: an asset over 75 MB", status=413)
        asset = as_object(
            await self._api.send_file(
                "/assets",
                field="file",
                data=data,
                filename=f"picture.{exact.rpartition('/')[2]}",
                content_type=exact,
                attempts=_READ_ATTEMPTS,
            )
        )
        urls = read_image_urls(asset.get("image_url"))
        if not urls or len(urls[0]) > _MAX_ASSET_URL_CHARACTERS:
            raise ProviderUnavailable("krea: an asset without a usable URL")
        return urls[0]

    async def recent(self, *, since: datetime, until: datetime | None = None) -> Sequence[RemoteJob]:
        found: dict[str, RemoteJob] = {}
        params = {"limit": str(_PAGE_SIZE)}
        if until is not None:
            params["cursor"] = f"{until + self._api.clock_ahead:%Y-%m-%dT%H:%M:%SZ}"
        for _ in range(_MAX_PAGES):
            page = as_object(await self._api.request("GET", "/jobs", params=params, attempts=_READ_ATTEMPTS))
            items = as_list(page.get("items"))
            if len(items) > _MAX_ITEMS_READ:
                raise ProviderUnavailable(f"krea: a page of {len(items)} jobs where {_PAGE_SIZE} were asked for")
            jobs = [remote for item in items if (remote := self._listed_job(as_object(item)))]
            for job in jobs:
                if job.created_at is None or job.created_at >= since:
                    found.setdefault(job.remote_id, job)
            cursor = read_cursor(page.get("next_cursor") or page.get("nextCursor"))
            reached = any(job.created_at is not None and job.created_at < since for job in jobs)
            if reached or not jobs or cursor is None:
                break
            if params.get("cursor") == cursor:
                word = read_word(cursor, redact=self._api.redact)
                raise ProviderUnavailable(f"krea: the list of jobs repeats itself at {word}")
            params["cursor"] = cursor
        else:
            # With an incomplete list, one of several candidates could seem to be the only one.
            raise ProviderUnavailable(f"krea: more than {_PAGE_SIZE * _MAX_PAGES} jobs since {since.isoformat()}")
        return sorted(found.values(), key=lambda job: (job.created_at is not None, job.created_at), reverse=True)

    async def listed_costs(self, *, since: datetime, now: datetime) -> JobList:
        found: dict[str, ListedJob] = {}
        params = {"limit": str(_MAX_ITEMS_READ)}
        oldest = now
        for _ in range(_MAX_BILL_PAGES):
            page = as_object(await self._api.request("GET", "/jobs", params=params, attempts=_READ_ATTEMPTS))
            items = [job for item in as_list(page.get("items"))[:_MAX_ITEMS_READ] if (job := self._listed(item))]
            news = [job for job in items if job.remote_id not in found]
            found.update((job.remote_id, job) for job in items)
            oldest = min([oldest, *(job.created_at for job in news if job.created_at is not None)])
            cursor = read_cursor(page.get("next_cursor") or page.get("nextCursor"))
            if cursor is None:
                oldest = since  # that was all
            if oldest <= since or not news or cursor is None:
                break
            params["cursor"] = cursor
        return JobList(provider=self.name, jobs=list(found.values()), since=max(since, oldest))

    def _listed(self, item: Any) -> ListedJob | None:
        job = as_object(item)
        remote_id = read_id(job.get("job_id"))
        if remote_id is None:
            return None
        result = as_object(job.get("result"))
        state = self._status_map.read_job(
            job, image_urls=read_image_urls(result.get("urls")), error=job.get("error") or result.get("error")
        )
        return ListedJob(
            remote_id=remote_id,
            status=state.status,
            created_at=self._created_at(job),
            cost_usd_micros=read_cost_usd_micros(job, result),
        )

    async def has_model(self, path: str) -> bool:
        return await self._api.has_model(path)

    async def probe(self) -> None:
        await self._api.request("GET", "/jobs", params={"limit": "1"}, attempts=_READ_ATTEMPTS)

    async def styles(self, cursor: str | None) -> StylePage:
        params = {"filter": "public", "limit": str(_STYLES_PAGE_SIZE)}
        if cursor is not None:
            params["cursor"] = cursor
        page = as_object(await self._api.request("GET", "/styles", params=params))
        return StylePage(
            styles=tuple(
                style
                for item in as_list(page.get("items"))[:_MAX_ITEMS_READ]
                if (style := read_style(item, redact=self._api.redact))
            ),
            next_cursor=read_cursor(page.get("next_cursor")),
        )

    # -- JSON -----------------------------------------------------------------------------------------

    def _remote_job(self, job: Mapping[str, Any]) -> RemoteJob | None:
        remote_id = read_id(job.get("job_id"))
        if remote_id is None:
            return None
        _, progress = self._status_map.read(job.get("status"))
        return RemoteJob(remote_id=remote_id, created_at=self._created_at(job), progress=progress)

    def _listed_job(self, job: Mapping[str, Any]) -> RemoteJob | None:
        """Return a job of the list with what it tells of its order: neither model nor input are documented."""
        remote = self._remote_job(job)
        if remote is None:
            return None
        status, _ = self._status_map.read(job.get("status"))
        return replace(
            remote,
            type=read_text(job, "type"),
            model=read_text(job, "model", "model_id"),
            input=read_object(job, "input", "params"),
            may_be_billed=status not in (JobStatus.FAILED, JobStatus.CANCELLED),
        )

    def _created_at(self, job: Mapping[str, Any]) -> datetime | None:
        """Return the creation time by our own clock: reconciliation compares it with the time of submission."""
        moment = read_time(job.get("created_at"))
        return None if moment is None else moment - self._api.clock_ahead

    def _update(self, remote_id: str, status_word: str, job: Mapping[str, Any]) -> Update:
        result = as_object(job.get("result"))
        error = job.get("error") or result.get("error")
        image_urls = read_image_urls(result.get("urls"))
        state = self._status_map.read_job(job, image_urls=image_urls, error=error)
        status = state.status
        failure = (
            read_error_body({"error": error}, redact=self._api.redact).as_failure()
            if status is JobStatus.FAILED
            else None
        )
        return Update(
            remote_id=remote_id,
            status=status,
            provider_status=read_word(status_word, redact=self._api.redact),
            progress=state.progress,
            result_urls=image_urls if status is JobStatus.SUCCEEDED else (),
            preview_url=read_preview_url(result.get("urls")) if status is JobStatus.RUNNING else None,
            failure=failure,
            # Only for the documented words it is known that a failure is free.
            may_be_charged=status is JobStatus.FAILED and not state.is_known,
            cost_usd_micros=read_cost_usd_micros(job, result),
            created_at=self._created_at(job),
            took_seconds=read_took_seconds(job),
            is_new_word=state.is_new_word,
        )
