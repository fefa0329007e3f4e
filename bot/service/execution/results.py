"""ResultCollector: downloads, checks and keeps the images of a completed job."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from hashlib import sha256

from bot.domain.errors import MediaError, ProviderError, ProviderRejected
from bot.domain.jobs import Job, ResultImage
from bot.domain.requester import Requester
from bot.media.downloader import Downloader
from bot.media.image_pool import CheckedImage
from bot.providers.base import Provider, Update
from bot.runtime.retry import backoff_seconds, retry_storage_errors, retrying
from bot.service.context import ServiceContext

_log = logging.getLogger(__name__)

RESULT_MAX_BYTES = 100 * 2**20
RESULT_ATTEMPTS = 6
RESULT_TIMEOUT_SECONDS = 300.0
"""For collecting all results of a job together."""

FIRST_PAUSE_SECONDS = 5.0
MAX_PAUSE_SECONDS = 120.0
"""Pauses before results that are out of reach are fetched again."""

RECOVERY_TIMEOUT_SECONDS = 60.0
"""For a lost image alone, which an answer waits for."""

_ADDRESS_REASONS = frozenset({"unreachable", "foreign_host"})
"""What is the matter with an address, which the provider may replace. Any other reason is the image's own."""

MAX_RESULTS = 2
"""Images kept of one job: the one that was ordered, and one more."""

MIN_RESULT_AREA_SHARE = 0.25
"""A result with less than this share of the largest one's pixels is a thumbnail of it."""

COUNTED_CHECK_SECONDS = 1.0
MAX_CHECKS = 2
"""Checks of a result that take that long are counted, and that many may be cut off by the end of the process."""


class ResultCollector:
    """Collects the images of completed jobs."""

    def __init__(self, context: ServiceContext, *, downloader: Downloader) -> None:
        self._store = context.store
        self._blob_store = context.blob_store
        self._image_pool = context.image_pool
        self._presenter = context.presenter
        self._priority = context.priority
        self._clock = context.clock
        self._downloader = downloader

    async def collect(
        self, job: Job, update: Update, provider: Provider, *, attempts: int | None = None
    ) -> tuple[list[ResultImage], int]:
        """Return the usable results of a job, at most `MAX_RESULTS`, and how many others could not be fetched.

        Raises MediaError when there is none: of several errors, the one that leaves most hope. The operator is told of
        unusable ones beside usable ones. Where all are unusable, the provider is asked once more for their addresses,
        because a signed one may have expired.
        """
        attempts = attempts or RESULT_ATTEMPTS
        deadline = asyncio.get_running_loop().time() + RESULT_TIMEOUT_SECONDS
        images, errors = await self._download_usable(job, update.result_urls, deadline, attempts)
        if not images:
            fresh_urls = await _fresh_urls(provider, update)
            images, fresh_errors = await self._download_usable(job, fresh_urls, deadline, attempts)
            # Fresh addresses are of the same results: an old one that is dead lacks nothing.
            errors = fresh_errors if images else errors + fresh_errors
        if not images:
            raise _most_hopeful(errors)
        if errors:
            _log.warning("job %s: %d results are not usable: %s", job.id, len(errors), errors[-1])
            notice = (
                f"Job {job.id} was delivered with {len(images)} image(s); {len(errors)} could not be used: {errors[-1]}"
            )
            self._presenter.operator_notice("unusable results", notice)
        return images, len(errors)

    async def collect_later(
        self, job: Job, update: Update, provider: Provider, error: MediaError, *, until: datetime
    ) -> tuple[list[ResultImage], int]:
        """Return what `collect` returns once a result can be fetched: it is tried after growing pauses until a time.

        `error` is that of the last attempt. Raises the last MediaError when the time is over, or no other try helps.
        """
        failures = 0
        while is_worth_another_try(error) and (left := (until - self._clock()).total_seconds()) > 0:
            failures += 1
            pause = backoff_seconds(
                failures, first_seconds=FIRST_PAUSE_SECONDS, max_seconds=MAX_PAUSE_SECONDS, jitter=0.2
            )
            await asyncio.sleep(min(pause, left))
            try:
                return await self.collect(job, update, provider, attempts=1)
            except MediaError as latest:
                error = latest
        raise error

    async def recover(self, job: Job, image: ResultImage, provider: Provider | None) -> bool:
        """Download again a result that was kept and is lost; False if the provider no longer has the same one.

        Raises a transient MediaError while it may still be there and cannot be reached.
        """
        try:
            async with asyncio.timeout(RECOVERY_TIMEOUT_SECONDS):
                await self._download_again(job, image, provider)
        except (MediaError, TimeoutError) as error:
            _log.warning("a lost image of job %s cannot be downloaded again: %s", job.id, error)
            is_out_of_reach = isinstance(error, TimeoutError) or error.is_out_of_reach
            if is_out_of_reach and provider is not None and self._clock() < late_until(job, provider):
                raise MediaError(f"a lost image of job {job.id} is out of reach", transient=True) from error
            return False
        return True

    async def _download_again(self, job: Job, image: ResultImage, provider: Provider | None) -> None:
        """Keep the same image again, from its address or one that the provider names now. Raises MediaError."""
        problem = await self._keep_again(image, [image.source_url], job.request.requester)
        if problem is not None and provider is not None and job.remote_id is not None:
            urls = await _urls_now(provider, job.remote_id)
            other = await self._keep_again(
                image, [url for url in urls if url != image.source_url], job.request.requester
            )
            problem = None if other is None else max(problem, other, key=lambda error: error.is_out_of_reach)
        if problem is not None:
            raise problem

    async def _keep_again(self, image: ResultImage, urls: Sequence[str], requester: Requester) -> MediaError | None:
        """Keep an image again from the first address that leads to it; return what is the matter if none does."""
        problem = MediaError("no address leads to it", transient=False)
        for url in filter(None, urls):
            try:
                data = await self._downloader.download(
                    url,
                    max_bytes=RESULT_MAX_BYTES,
                    requester=requester,
                    yield_if_busy=self._priority.yield_if_busy,
                )
            except MediaError as error:
                problem = max(problem, error, key=lambda error: error.is_out_of_reach)
                continue
            if sha256(data).hexdigest() == image.sha256:
                await self._blob_store.put(data)
                return None
        return problem

    async def _download_usable(
        self, job: Job, urls: Sequence[str], deadline: float, attempts: int
    ) -> tuple[list[ResultImage], list[MediaError]]:
        """Download results one after the other until there are enough, and return the errors of the others."""
        images, errors = list[ResultImage](), list[MediaError]()
        for number, url in enumerate(urls):
            if number - len(errors) == MAX_RESULTS:
                break
            left_seconds = deadline - asyncio.get_running_loop().time()
            if left_seconds <= 0:
                errors.append(MediaError("collecting the results took too long", transient=True, answered=True))
                break
            try:
                image = await self._download_image(job, url, within_seconds=left_seconds, attempts=attempts)
            except MediaError as error:
                errors.append(error)
                continue
            if all(image.sha256 != other.sha256 for other in images):
                images.append(image)
        largest = max((image.width * image.height for image in images), default=0)
        return [image for image in images if image.width * image.height >= largest * MIN_RESULT_AREA_SHARE], errors

    async def _download_image(self, job: Job, url: str, *, within_seconds: float, attempts: int) -> ResultImage:
        if attempts == 1:
            return await self._download_image_once(job, url)
        return await retrying(
            lambda: self._download_image_once(job, url),
            on=is_worth_another_try,
            attempts=attempts,
            within_seconds=within_seconds,
            first_pause_seconds=0.5,
            max_pause_seconds=30,
        )

    async def _download_image_once(self, job: Job, url: str) -> ResultImage:
        data = await self._downloader.download(
            url,
            max_bytes=RESULT_MAX_BYTES,
            requester=job.request.requester,
            yield_if_busy=self._priority.yield_if_busy,
        )
        checked = await self._check(job, data)
        return ResultImage(
            sha256=await self._keep(data),
            content_type=checked.content_type,
            width=checked.width,
            height=checked.height,
            size_bytes=len(data),
            source_url=url,
        )

    async def _check(self, job: Job, data: bytes) -> CheckedImage:
        """Check a result. Raises MediaError, also for one whose check was cut off by the end of this process twice.

        Only a check that takes long is counted in the database: most are done before.
        """
        check = asyncio.ensure_future(self._image_pool.check_result(data, requester=job.request.requester))
        try:
            if not (await asyncio.wait({check}, timeout=COUNTED_CHECK_SECONDS))[0]:
                key = f"check {job.id}"
                begun = int(await self._store.get_value(key) or 0)
                if begun >= MAX_CHECKS:
                    await self._store.remove_value(key)
                    raise MediaError("given up: its check never ended", transient=False, reason="broken")
                await self._store.set_value(key, str(begun + 1))
                await asyncio.wait({check})
                await self._store.remove_value(key)
            return await check
        finally:
            check.cancel()

    @retry_storage_errors
    async def _keep(self, data: bytes) -> str:
        return await self._blob_store.put(data)


def _most_hopeful(errors: Sequence[MediaError]) -> MediaError:
    """Return the error that leaves most hope for the image of a job that has no usable one.

    A dead address may be replaced by another one. An image that cannot be used stays as it is.
    """
    best = max(errors, key=lambda error: (error.is_out_of_reach, is_worth_another_try(error)), default=None)
    if best is None:
        return MediaError("completed without a result", transient=True, answered=True)
    if not is_worth_another_try(best) and any(error.reason in _ADDRESS_REASONS for error in errors):
        return MediaError(f"no result can be fetched: {best}", transient=True, answered=True)
    return best


async def _fresh_urls(provider: Provider, update: Update) -> list[str]:
    """Poll a completed job once more and return the addresses of results that it did not name before."""
    try:
        again = await provider.fetch(update.remote_id)
    except ProviderError as error:
        _log.info("%s does not name the results of %s again: %s", provider.name, update.remote_id, error)
        return []
    return [url for url in again.result_urls if url not in update.result_urls]


async def _urls_now(provider: Provider, remote_id: str) -> Sequence[str]:
    """Return the addresses of results that the provider names now. Raises MediaError when it cannot be asked."""
    try:
        return (await provider.fetch(remote_id)).result_urls
    except ProviderRejected as error:
        _log.info("%s does not know job %s any more: %s", provider.name, remote_id, error)
        return []
    except ProviderError as error:
        raise MediaError(f"{provider.name} cannot be asked where the image is", transient=True) from error


def late_until(job: Job, provider: Provider) -> datetime:
    """Return until when a job that was sent may still bring an image."""
    assert job.deadline_at is not None, "a job that was sent has a deadline"
    return job.deadline_at + timedelta(seconds=provider.late_seconds)


def is_worth_another_try(error: Exception) -> bool:
    """Return whether an image that could not be fetched may be there later."""
    # Right after the end, the CDN may serve a page of its own; a moment later it serves the image.
    return isinstance(error, MediaError) and (error.transient or error.reason == "not_an_image")
