"""InputUploads: puts the input images of a job where its provider can fetch them, before the order is sent."""

from __future__ import annotations

from bot.domain.errors import ProviderRejected
from bot.domain.jobs import FailureReason, ImageInput, Job, StoredImage
from bot.providers.base import Provider
from bot.service.context import ServiceContext


class InputUploads:
    """Uploads each image once per content: a provider's address of it is used again until it is forgotten."""

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
