"""Input images: kept from before their order is admitted, and put where its provider fetches them before it is sent."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Collection
from weakref import WeakValueDictionary

from bot.domain.errors import ProviderRejected, StoreError
from bot.domain.jobs import FailureReason, ImageInput, Job, StoredImage
from bot.media.blob_store import BlobStore
from bot.providers.base import Provider
from bot.service.context import ServiceContext
from bot.store.store import Store

_log = logging.getLogger(__name__)


class InputImages:
    """Stores what members attach, and removes it at once if the order is refused.

    Counts the orders of this process that hold an image and are not decided yet; the database knows all others.
    """

    def __init__(self, store: Store, blob_store: BlobStore) -> None:
        self._store = store
        self._blob_store = blob_store
        self._holders: Counter[str] = Counter()
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        """One for each image that is being stored or removed, so that neither happens during the other."""

    async def hold(self, sha256: str, data: bytes) -> None:
        """Store an image for an order that is not decided yet. Call `keep` or `discard` later. Raises StoreError."""
        self._holders[sha256] += 1
        try:
            async with self._lock(sha256):
                await self._blob_store.put(data)
        except BaseException:
            await self.discard([sha256])
            raise

    def keep(self, contents: Collection[str]) -> None:
        """Note that an order with these images was admitted."""
        for sha256 in contents:
            self._release(sha256)

    async def discard(self, contents: Collection[str]) -> None:
        """Remove the images of an order that was refused, unless another order uses them.

        What fails is left to the hourly sweep.
        """
        for sha256 in contents:
            self._release(sha256)
        for sha256 in set(contents):
            async with self._lock(sha256):
                # Asked first: an order that begins to hold it now stores it after this, and one that held it before
                # may be admitted during the question below.
                if self._holders[sha256]:
                    continue
                try:
                    if await self._store.not_in_use([sha256]):
                        await self._blob_store.remove(sha256)
                except StoreError:
                    _log.warning("an image of a refused order could not be removed yet", exc_info=True)

    def _release(self, sha256: str) -> None:
        self._holders[sha256] -= 1
        if self._holders[sha256] <= 0:
            del self._holders[sha256]

    def _lock(self, sha256: str) -> asyncio.Lock:
        lock = self._locks.get(sha256)
        if lock is None:
            lock = self._locks[sha256] = asyncio.Lock()
        return lock


class InputUploads:
    """Puts the input images of a job where its provider can fetch them, before the order is sent.

    Each is uploaded once per content: a provider's address of it is used again until it is forgotten.
    """

    def __init__(self, context: ServiceContext) -> None:
        self._store = context.store
        self._blob_store = context.blob_store
        self._presenter = context.presenter
        self._in_flight = context.in_flight
        self._clock = context.clock

    async def urls_for(self, job: Job, provider: Provider) -> list[str]:
        """Return where the provider finds each input image: uploaded to it, or hosted by Discord.

        Raises ProviderError when an upload fails, and ImagesNotHosted.
        """
        if not job.request.images:
            return []
        if not provider.takes_uploads:
            images = [await self._stored_image(image) for image in job.request.images]
            return await self._presenter.host_images(job.reply_id, images)
        urls: list[str] = []
        for image in job.request.images:
            url = await self._store.uploaded_url(provider.name, image.sha256)
            if url is None:
                stored = await self._stored_image(image)
                url = await provider.upload(stored.data, stored.content_type)
                await self._store.remember_upload(provider.name, image.sha256, url, now=self._clock())
            urls.append(url)
        return urls

    async def forget(self, job: Job) -> bool:
        """Return whether input images can be uploaded once more: the address the provider gave may have expired."""
        in_flight = self._in_flight.get_or_create(job.id)
        if in_flight.uploaded_again:
            return False
        in_flight.uploaded_again = True
        hashes = [image.sha256 for image in job.request.images]
        return await self._store.forget_uploads(job.provider, hashes) > 0

    async def _stored_image(self, image: ImageInput) -> StoredImage:
        data = await self._blob_store.get(image.sha256)
        if data is None:
            raise ProviderRejected("an input image is no longer kept", reason=FailureReason.INPUT_GONE)
        return StoredImage(sha256=image.sha256, content_type=image.content_type, data=data)
