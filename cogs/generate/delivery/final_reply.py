"""Final reply: delivers the final state of a reply, records the delivery and logs it in the server."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace

from bot.domain.jobs import Delivery
from bot.service.job_service import JobService
from bot.service.views import ReplyView
from cogs.alerts.log_channel import LogChannel
from cogs.alerts.operator_alerts import OperatorAlerts
from cogs.generate.delivery.attached_images import files_of
from cogs.generate.delivery.last_edit import DeliveryImpossible, LastEdit
from cogs.generate.review.requests import ReviewRequests
from cogs.generate.upscale import UpscalePrices
from cogs.ui.discord_api.message_api import MessageApi, PostedMessage

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class DeliveryParts:
    """What shows replies, and whom the final state of one is told to."""

    service: JobService
    messages: MessageApi
    log_channel: LogChannel
    operator_alerts: OperatorAlerts
    upscale_prices: UpscalePrices
    review_requests: ReviewRequests


class FinalReply:
    """One delivery of the final state of a reply. An error of our own leaves it to be repeated by a new object."""

    def __init__(self, view: ReplyView, parts: DeliveryParts, *, status_edit: asyncio.Task[None] | None) -> None:
        self._view = view
        self._reply = view.reply
        self._parts = parts
        self._service = parts.service
        self._status_edit = status_edit

    async def deliver(self) -> None:
        """Show the final state, record the delivery and log it in the server.

        Raises StateChanged, StoreError, MediaError.
        """
        if self._reply.delivery is not Delivery.PENDING:
            return
        self._view = replace(self._view, upscale_usd_micros=await self._parts.upscale_prices.price(self._reply))
        last_edit = LastEdit(
            self._view,
            service=self._service,
            messages=self._parts.messages,
            operator_alerts=self._parts.operator_alerts,
            status_edit=self._status_edit,
        )
        try:
            posted = await last_edit.show()
        except DeliveryImpossible as error:
            _log.warning(
                "reply %s for member %d in server %d can no longer be shown: %s",
                self._reply.id,
                self._reply.user_id,
                self._reply.address.guild_id,
                error,
            )
            if await self._record(Delivery.IMPOSSIBLE):
                self._service.metrics.delivered(Delivery.IMPOSSIBLE.value)
                self._tell_moderators(last_edit, message_id=None)
            return
        ids = {image.sha256: posted.attachment_ids.get(image.shown.filename) for image in last_edit.images}
        finished_at = max((job.job.finished_at for job in self._view.jobs if job.job.finished_at), default=None)
        seconds = (self._service.now() - finished_at).total_seconds() if finished_at else None
        is_first = await self._record(
            Delivery.DELIVERED,
            attachment_ids={sha256: found for sha256, found in ids.items() if found is not None},
            posted=posted,
        )
        if is_first:  # otherwise another process delivered it first and has logged it
            self._service.metrics.delivered(Delivery.DELIVERED.value, seconds)
            self._tell_moderators(last_edit, message_id=posted.message_id)

    async def _record(
        self, delivery: Delivery, *, attachment_ids: dict[str, int] | None = None, posted: PostedMessage | None = None
    ) -> bool:
        """Record the delivery; False if another process has already done so."""
        has_moved = posted is not None and posted.message_id != self._reply.address.message_id
        return await self._service.store.set_delivery(
            self._reply.id,
            delivery,
            attachment_ids=attachment_ids,
            message_id=posted.message_id if posted and has_moved else None,
            channel_id=posted.channel_id if posted and has_moved else None,
        )

    def _tell_moderators(self, last_edit: LastEdit, *, message_id: int | None) -> None:
        """Log the order; one that waits for their review is logged once they have decided."""
        if self._reply.is_waiting_for_review:
            self._parts.review_requests.ask_soon(self._reply.id)
            return
        images = last_edit.images
        self._parts.log_channel.finished(
            self._view,
            message_id=message_id,
            images=[image.shown for image in images if image.data],
            files=lambda: files_of(images),
            hide_prompt=last_edit.prompt_is_hidden,
        )
