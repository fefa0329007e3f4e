"""Order flow: the one way from a command or button to an accepted order and its first card."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import discord

from bot.domain.errors import (
    DearerThanAgreed,
    DuplicateCommand,
    MediaError,
    OperatorCapReached,
    OperatorServerCapReached,
    QuotaExceeded,
    RequestRefused,
    SameModelTwice,
    StoreError,
    TooFast,
    UnusableImage,
)
from bot.domain.jobs import FailureReason, ImageInput, ImageRole, JobRequest, ReplyAddress
from bot.domain.money.quota import Member, format_usd
from bot.domain.presets import MemberDefaults, MemberProfile
from bot.domain.requester import Requester
from bot.runtime.metrics import NOT_SHOWN
from bot.service.job_service import JobService
from bot.service.views import ReplyView
from cogs.alerts.spending_alerts import SpendingAlerts
from cogs.generate.ordering.order import (
    DEFAULT_MODEL,
    Additions,
    Attachments,
    Order,
    in_canonical_names,
    with_own_settings,
)
from cogs.generate.ordering.permissions import Permissions, default_model, permissions_of
from cogs.generate.refused import buttons
from cogs.generate.refused.kept_orders import KeptOrders
from cogs.generate.refused.near_orders import near_orders
from cogs.text import job_card, refusals
from cogs.text.locale import language_of_answer
from cogs.ui import error_handler
from cogs.ui.attachments import EMBED_HOSTS, PostedFile
from cogs.ui.checks import member_of, requester_of, server_of, server_or_direct
from cogs.ui.client import Interaction
from cogs.ui.components import Layout
from cogs.ui.discord_api.message_api import MessageApi
from cogs.ui.initial_response import InitialResponse, NotShown, address_of, leave_deferral_to
from cogs.ui.typed_command import TypedCommand, typed_command

_log = logging.getLogger(__name__)

INPUT_MAX_BYTES = 25_000_000
"""Limit of an attached image; more than enough for 50 megapixels of JPEG."""

DOWNLOAD_PAUSES_SECONDS = (0.3, 0.6, 1.2, 2.4, 4.8)
"""Pauses while Discord's servers do not hand out an attachment: two tries more within the 3 s of a first answer."""

DOWNLOAD_TRIES_SECONDS = 15.0
"""Age of the first try after which none begins: a try itself may take long."""

PROFILE_SECONDS = 1.0
"""How long an order waits for its member's defaults, which say whether its first answer is private."""

HELPED_BY_A_WALLET = (QuotaExceeded, OperatorServerCapReached, OperatorCapReached)
"""Refusals by limits that a member's own money goes beyond."""


class OrderFlow:
    """Submits orders and shows their first card. `ReplyUpdater` shows every later state."""

    def __init__(
        self,
        *,
        service: JobService,
        messages: MessageApi,
        spending_alerts: SpendingAlerts,
        cdn_hosts: tuple[str, ...],
        sku_ids: tuple[int, ...] = (),
    ) -> None:
        self._service = service
        self._messages = messages
        self._spending_alerts = spending_alerts
        self._cdn_hosts = (*cdn_hosts, *EMBED_HOSTS)
        self._sku_ids = sku_ids
        """What members can buy for their wallets."""
        self.kept_orders = KeptOrders()
        self._closed = False
        self._tasks: dict[asyncio.Task[Any], Interaction] = {}
        """Tasks that handle an interaction, with that interaction."""
        self._reserving: set[asyncio.Task[Any]] = set()
        """Those that may have reserved something: the next start finds out what became of it, and says so."""

    def close(self) -> None:
        """Refuse new orders: the bot is stopping."""
        self._closed = True

    def track_current_task(self, interaction: Interaction) -> None:
        """Let `drain` wait for the current task, which handles the interaction."""
        task = asyncio.current_task()
        if task is not None and task not in self._tasks:
            self._tasks[task] = interaction
            task.add_done_callback(self._forget_task)

    def _forget_task(self, task: asyncio.Task[Any]) -> None:
        del self._tasks[task]
        self._reserving.discard(task)

    async def drain(self) -> None:
        """Wait until every interaction that is being handled has its response."""
        if self._tasks:
            await asyncio.wait(set(self._tasks))

    async def refuse_unanswered(self) -> None:
        """End the commands that `drain` did not outwait, and say in each that the bot is restarting."""
        unanswered = [(task, each) for task, each in self._tasks.items() if task not in self._reserving]
        for task, _ in unanswered:
            task.cancel()
        await asyncio.gather(*(error_handler.refuse_since_stopping(each) for _, each in unanswered))

    async def submit(
        self,
        interaction: Interaction,
        request: JobRequest,
        *,
        attachments: Attachments = (),
        additions: Additions | None = None,
        count: int = 1,
        private: bool | None = False,
    ) -> None:
        """Admit `count` jobs of one request and show their card, or say privately why not."""
        order = Order(request=request, additions=additions, attachments=attachments, count=count, private=private)
        await self.submit_order(interaction, order, typed=typed_command(interaction))

    async def submit_order(self, interaction: Interaction, order: Order, *, typed: TypedCommand | None = None) -> None:
        """Admit the jobs of an order and show their card, or say privately why not and give back what was typed.

        A request for DEFAULT_MODEL is for the model that the server's moderators, or else the operator, chose.
        """
        started_at = time.perf_counter()
        self.track_current_task(interaction)
        leave_deferral_to(interaction)
        try:
            self._service.count_attempt(requester_of(interaction))
        except TooFast as error:
            await self._refuse_at_once(interaction, error, typed)
            return
        order = in_canonical_names(self._service, order)
        profile = await self._profile(interaction)
        own = _own_defaults(interaction, order, profile)
        private = bool(own.private) if order.private is None else order.private
        order = replace(order, private=private)
        async with InitialResponse(interaction, self._messages, private=private) as response:
            if self._closed:
                await response.refuse(buttons.refusal(refusals.SHUTTING_DOWN(), typed, []), typed)
                return
            try:
                view = await self._admit(interaction, order, own, profile)
            except DuplicateCommand:
                return
            except RequestRefused as error:
                self._service.metrics.order(type(error).__name__)
                self._service.cost_alerts.order_refused(server_or_direct(interaction), interaction.user.id, error)
                self._spending_alerts.order_refused(error)
                await response.refuse(await self._refusal(interaction, order, own, error, typed), typed)
                return
            except StoreError as error:
                _log.exception(
                    "the database could not take an order of member %d in server %s",
                    interaction.user.id,
                    interaction.guild_id,
                )
                self._service.metrics.order(StoreError.__name__)
                await response.refuse(await self._refusal(interaction, order, own, error, typed), typed)
                return
            # Nothing is bought before Discord has accepted the card; if it does not, everything is released.
            try:
                posted = await asyncio.shield(response.show(view))
            except Exception as error:
                surely = isinstance(error, NotShown) and error.surely
                _log_not_shown(view, error)
                self._service.metrics.order(NOT_SHOWN)
                await self._service.abandon(view.reply, surely_unseen=surely)
                if surely:  # else the card is corrected
                    text = job_card.FAILURES[FailureReason.NOT_SHOWN]()
                    await response.refuse(buttons.refusal(text, typed, []), typed)
                return
            self._service.metrics.order("accepted")
            self._service.metrics.answered(time.perf_counter() - started_at)
            await self._service.accept(view.reply, message_id=posted.message_id)
            await self._spending_alerts.check(interaction, view)

    async def _refuse_at_once(self, interaction: Interaction, error: TooFast, typed: TypedCommand | None) -> None:
        """Refuse a member who floods without a look at the database, which others are waiting for."""
        self._service.metrics.order(type(error).__name__)
        async with InitialResponse(interaction, self._messages, private=True) as response:
            key = self.kept_orders.keep(user_id=interaction.user.id, typed=typed, orders=())
            layout = buttons.refusal(refusals.refusal(error), typed, buttons.buttons(key, typed, []))
            await response.refuse(layout, typed)

    async def _refusal(
        self,
        interaction: Interaction,
        order: Order,
        own: MemberDefaults,
        error: RequestRefused | StoreError,
        typed: TypedCommand | None,
    ) -> Layout:
        """Lay out why the order is refused, what was typed, and what could be ordered instead."""
        is_of_form = typed is not None and typed.is_of_form
        text = (
            refusals.BOOKS_UNAVAILABLE()
            if isinstance(error, StoreError)
            else refusals.refusal(error, is_of_form=is_of_form)
        )
        try:
            permissions = await permissions_of(self._service, interaction)
        except StoreError:
            offered = []
        else:
            with suppress(RequestRefused, StoreError):  # what cannot be completed is offered as it is
                order = await self._completed(order, own, permissions)
            if order.request.model_id == DEFAULT_MODEL:
                order = order.with_model(default_model(self._service, permissions.policy, order.request.kind))
            offered = await near_orders(
                self._service, order, error, permissions=permissions, member=member_of(interaction)
            )
        orders = tuple(near.order for near in offered)
        key = self.kept_orders.keep(user_id=interaction.user.id, typed=typed, orders=orders)
        sku_ids = self._sku_ids if isinstance(error, HELPED_BY_A_WALLET) else ()
        return buttons.refusal(text, typed, buttons.buttons(key, typed, offered), sku_ids=sku_ids)

    async def _completed(self, order: Order, own: MemberDefaults, permissions: Permissions) -> Order:
        """Return the order with a complete request, or in a comparison one for each model.

        Raises UnknownPreset, UnknownModel, BadOption, SameModelTwice.
        """
        if order.model_ids:
            return self._comparison(order)
        order = await with_own_settings(self._service, order, own, permissions=permissions)
        if order.additions is None:
            return order
        permissions.check(self._service, order.request)
        added = order.additions
        request = self._service.expand(order.request, more=added.more, template=added.template, defaults=added.defaults)
        return replace(order, request=request, additions=None)

    def _comparison(self, order: Order) -> Order:
        models = [self._service.catalogue.get(model_id) for model_id in order.model_ids]
        for number, model in enumerate(models):
            if model in models[:number]:
                raise SameModelTwice(model.label)
        requests = (replace(order.request, model_id=model.id) for model in models)
        variants = tuple(self._service.expand(request) for request in requests)
        return replace(order, request=variants[0], variants=variants, model_ids=(), additions=None)

    async def _profile(self, interaction: Interaction) -> MemberProfile | None:
        """Read whether the member is blocked, and their defaults; None if the database does not answer soon."""
        try:
            async with asyncio.timeout(PROFILE_SECONDS):
                return await self._read_profile(interaction)
        except (StoreError, TimeoutError):
            return None  # the order meets it too

    async def _read_profile(self, interaction: Interaction) -> MemberProfile:
        return await self._service.store.member_profile(
            guild_id=server_or_direct(interaction), user_id=interaction.user.id
        )

    async def _admit(
        self, interaction: Interaction, order: Order, own: MemberDefaults, profile: MemberProfile | None
    ) -> ReplyView:
        """Check everything that may refuse the order, then read the attachments, then reserve the price.

        Raises RequestRefused, StoreError. What was read for an order that is refused is removed.
        """
        member = member_of(interaction)
        async with self._service.priority.turn(str(interaction.id), member.requester):
            profile = profile or await self._read_profile(interaction)
            self._service.check_member(member, is_blocked=profile.is_blocked, orders=order.size)
            permissions = await permissions_of(self._service, interaction)
            order = await self._completed(order, own, permissions)
            for request in order.variants or (order.request,):
                permissions.check(self._service, request)
            self._check_agreed_price(order)
            is_for_one = bool(order.private) or permissions.is_direct
            language = language_of_answer(interaction, permissions.policy, private=is_for_one)
            address = address_of(interaction, private=bool(order.private), language=language)
            if not order.attachments:
                return await self._reserve(order, order.requests(), permissions, member=member, address=address)
            await self._service.check_admission(order.requests(), member=member)
        return await self._read_and_admit(interaction, order, member=member, address=address)

    def _check_agreed_price(self, order: Order) -> None:
        """Raise DearerThanAgreed if the order costs more than its button or form said."""
        if order.agreed_usd_micros is None:
            return
        amount = sum(self._service.quote(request).amount_usd_micros for request in order.requests())
        if amount > order.agreed_usd_micros:
            raise DearerThanAgreed(amount)

    async def _read_and_admit(
        self, interaction: Interaction, order: Order, *, member: Member, address: ReplyAddress
    ) -> ReplyView:
        held: list[str] = []
        try:
            images = await self.read_attachments(order.attachments, member, held)
            # Reading takes a while, and a moderator may have changed the policy in the meantime.
            permissions = await permissions_of(self._service, interaction)
            permissions.check(self._service, order.request)
            view = await self._reserve(order, order.requests(images), permissions, member=member, address=address)
        except BaseException:
            await asyncio.shield(self._service.input_images.discard(held))
            raise
        self._service.input_images.keep(held)
        return view

    async def _reserve(
        self,
        order: Order,
        requests: Sequence[JobRequest],
        permissions: Permissions,
        *,
        member: Member,
        address: ReplyAddress,
    ) -> ReplyView:
        if (task := asyncio.current_task()) is not None:
            self._reserving.add(task)
        return await self._service.admit(
            requests,
            member=member,
            address=address,
            preset_name=order.preset_name,
            visibility=permissions.visibility(self._service, requests, private=bool(order.private)),
        )

    async def read_attachments(
        self, attachments: Attachments, member: Member, held: list[str]
    ) -> tuple[ImageInput, ...]:
        """Download, check and clean attached images, one after the other. Adds what it stores to `held`.

        Each waits for a turn of its own, so that an order with one file waits for no command with several.
        Raises TooFast, StillBusyForYou, ManyAsking, UnusableImage.
        """
        for attachment, _ in attachments:
            if attachment.size > INPUT_MAX_BYTES:
                raise UnusableImage(attachment.filename, "too_many_bytes", limit_bytes=INPUT_MAX_BYTES)
        images: list[ImageInput] = []
        with self._service.reading_turns.piece(member.requester) as reading:
            # Discord does not say how large a file is that only a component shows.
            size_bytes = sum(attachment.size or INPUT_MAX_BYTES for attachment, _ in attachments)
            self._service.begin_reading(member, size_bytes)
            for attachment, role in attachments:
                async with reading.turn():
                    images.append(await self._read_attachment(attachment, role, member, held))
        return tuple(images)

    async def _read_attachment(
        self,
        attachment: discord.Attachment | PostedFile,
        role: ImageRole,
        member: Member,
        held: list[str],
    ) -> ImageInput:
        name = attachment.filename
        try:
            data = await self.download(attachment.url, member.requester)
            clean = await self._service.image_pool.clean_input(data, name, requester=member.requester)
        except MediaError as error:
            _log.info("attachment %s cannot be used: %s", name, error)
            raise UnusableImage(name, error.reason) from error
        await self._service.input_images.hold(clean.sha256, clean.data)
        held.append(clean.sha256)
        return ImageInput(
            sha256=clean.sha256,
            role=role,
            content_type=clean.content_type,
            width=clean.width,
            height=clean.height,
        )

    async def download(self, url: str, requester: Requester) -> bytes:
        """Download a file that Discord holds, again for some seconds while its servers fail. Raises MediaError."""
        loop = asyncio.get_running_loop()
        until = loop.time() + DOWNLOAD_TRIES_SECONDS
        for pause_seconds in DOWNLOAD_PAUSES_SECONDS:
            try:
                return await self._service.attachment_downloader.download(
                    url, max_bytes=INPUT_MAX_BYTES, requester=requester, allowed_hosts=self._cdn_hosts
                )
            except MediaError as error:
                if not error.transient or loop.time() >= until:
                    raise
                _log.info("an attachment is read again in %.1f s: %s", pause_seconds, error)
            await asyncio.sleep(pause_seconds)
        return await self._service.attachment_downloader.download(
            url, max_bytes=INPUT_MAX_BYTES, requester=requester, allowed_hosts=self._cdn_hosts
        )


def _own_defaults(interaction: Interaction, order: Order, profile: MemberProfile | None) -> MemberDefaults:
    """Return the member's defaults where they count. Where they are not known, nobody else sees the order."""
    if server_of(interaction) is None:
        return MemberDefaults(private=True)
    if order.additions is None or not order.additions.uses_own_settings:
        return MemberDefaults()
    return MemberDefaults(private=True) if profile is None else profile.defaults


def _log_not_shown(view: ReplyView, error: Exception) -> None:
    reply = view.reply
    _log.warning(
        "Discord did not accept the card of reply %s for member %d in server %d (%s): releasing %s",
        reply.id,
        reply.user_id,
        reply.address.guild_id,
        error.__cause__ or error,
        format_usd(sum(job.reserved_usd_micros for job in reply.jobs)),
    )
