"""The Discord client: with a gateway connection of its own, or as a worker without one."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import aiohttp
import discord
import yarl
from discord import app_commands
from discord.ext import commands
from discord.gateway import DiscordWebSocket, KeepAliveHandler
from discord.http import Route

from bot.charts.renderer import ChartRenderer
from bot.domain.deployment.process_role import Role
from bot.domain.errors import StoreError
from bot.gateway.event_guard import EventGuard
from bot.runtime.retry import retrying
from bot.runtime.supervisor import Supervisor
from bot.runtime.trusted_clock import DISCORD, TrustedClock
from bot.service.job_service import JobService
from bot.service.maintenance.catalogue_keeper import CatalogueKeeper
from bot.settings import Settings
from bot.store.store import Store
from cogs.alerts.catalogue_question import CatalogueButton
from cogs.alerts.log_channel import LogChannel
from cogs.alerts.operator_alerts import OperatorAlerts
from cogs.alerts.spending_alerts import SpendingAlerts
from cogs.alerts.top_ups import TopUps
from cogs.alerts.welcome import Welcome
from cogs.generate.compare import Compare, VoteButton
from cogs.generate.delivery.reply_updater import DeliveryParts, ReplyUpdater
from cogs.generate.edit import MENU_NAME, Edit
from cogs.generate.imagine import Imagine
from cogs.generate.job_buttons import JobButton
from cogs.generate.one_image import ImageSelect
from cogs.generate.ordering.order_flow import OrderFlow
from cogs.generate.refused.buttons import CopyPromptButton, OrderInsteadButton
from cogs.generate.review.buttons import ReviewButton
from cogs.generate.review.requests import ReviewRequests
from cogs.generate.share import ShareButton, UnshareButton
from cogs.generate.upscale import UpscaleButton, UpscalePrices
from cogs.members.deletion import DeleteButton
from cogs.members.help import Help
from cogs.members.history import History, HistoryButton
from cogs.members.privacy import EraseButton, Privacy
from cogs.members.usage import Usage
from cogs.moderation.jobs import CancelChoice, DeleteChoice, Jobs, JobsButton
from cogs.moderation.quota import AuditButton, QuotaCommands
from cogs.moderation.report import PostButton, Reports
from cogs.moderation.settings import SettingsCommands
from cogs.moderation.weekly_reports import WeeklyReports
from cogs.presets.defaults import DefaultsCommands
from cogs.presets.preset_commands import PresetCommands
from cogs.text.command_translations import CommandTranslator
from cogs.text.locale import set_locale_of
from cogs.ui import error_handler
from cogs.ui.checks import (
    ClickDebouncer,
    has_ids,
    has_possible_text,
    is_server_allowed,
    requester_of,
    require_allowed_server,
    require_ids,
    require_lengths,
    require_possible_text,
)
from cogs.ui.client import BotClient
from cogs.ui.discord_api import request_pace
from cogs.ui.discord_api.message_api import NO_MENTIONS, MessageApi
from cogs.ui.discord_api.message_deletions import MessageDeletions
from cogs.ui.initial_response import defer_if_late

if TYPE_CHECKING:
    from bot.gateway.shard_handover import ShardHandover
    from bot.store.postgres.reply_queue import ReplyQueue  # takes time to import, and only a worker needs it

_log = logging.getLogger(__name__)

OFFICIAL_API_BASE = "https://discord.com/api/v10"
HEARTBEAT_LATE_SECONDS = 12.0
"""How late the answer to a heartbeat may be: with Discord's interval of 41 seconds, a failure shows within a minute."""

TASKS_END_TIMEOUT_SECONDS = 2.0
"""How long background tasks have to end once they were cancelled."""

MAX_RATE_LIMIT_SECONDS = 60.0
"""The longest that discord.py waits by itself when Discord limits the rate; beyond it raises discord.RateLimited."""

REGISTRATION_MAX_PAUSE_SECONDS = 6 * 3600.0
"""Discord may limit the rate of registrations for a day."""


PUBLIC_BOT = (
    "Public Bot is on and ALLOWED_SERVERS is empty: anybody can add this bot to a server of their own and order images "
    "there at your cost, up to OPERATOR_SERVER_CAP_USD a day in each. Switch Public Bot off in Discord's developer "
    "portal, or set ALLOWED_SERVERS."
)

RESTORED = (
    "The database continues from a backup, or another server took over. Its newest order is of {} UTC: it lacks what "
    "happened between then and the restore, although providers charge for it. What members had erased since is erased "
    "again. python -m bot ledger reconcile lists the orders that only the provider knows."
)

OUTSIDE_SERVERS = frozenset({"imagine", "edit", MENU_NAME, "compare", "usage", "history", "models", "privacy", "help"})
"""Commands for people who installed the bot themselves, where DIRECT_QUOTA_USD lets them order."""


class Tree(app_commands.CommandTree["Bot"]):
    """The command tree: answers in the language of the member who asks, and turns failures into sentences."""

    async def interaction_check(self, interaction: discord.Interaction[Any], /) -> bool:
        """Run before every command, menu and autocomplete."""
        set_locale_of(interaction)
        self.client.order_flow.track_current_task(interaction)
        if interaction.type is discord.InteractionType.autocomplete:
            return await self._check_autocomplete(interaction)
        defer_if_late(interaction)
        require_allowed_server(interaction)
        require_possible_text(interaction)
        require_ids(interaction)
        require_lengths(interaction)
        return True

    async def _check_autocomplete(self, interaction: discord.Interaction[Any]) -> bool:
        heavy_work, requester = self.client.service.heavy_work, requester_of(interaction)
        # An empty answer is a request to Discord too: a flood gets none, or it would take the time of all others.
        if not await heavy_work.takes_suggestion_slot(requester):
            return False
        if (
            is_server_allowed(interaction)
            and has_possible_text(interaction)
            and has_ids(interaction)
            and heavy_work.takes_suggestion(requester)
        ):
            return True
        await interaction.response.autocomplete([])
        return False

    async def on_error(self, interaction: discord.Interaction[Any], error: app_commands.AppCommandError, /) -> None:
        """Handle what a command raised."""
        if interaction.type is discord.InteractionType.autocomplete:
            _log.warning("autocomplete failed", exc_info=error)
            return
        await error_handler.report(interaction, error)


@dataclass(frozen=True, kw_only=True, slots=True)
class BotParts:
    """What the composition root opened and built for the Discord client."""

    settings: Settings
    store: Store
    service: JobService
    charts: ChartRenderer
    supervisor: Supervisor
    catalogue_keeper: CatalogueKeeper
    clock: TrustedClock


REFUSED_BY_DISCORD = "DISCORD_TOKEN is not accepted by Discord"


class Bot(BotClient, commands.Bot):
    """The Discord client. It caches next to nothing: commands carry everything they need."""

    def __init__(self, parts: BotParts, **options: Any) -> None:
        """Build the client; `options` are those of discord.py."""
        settings, service, supervisor = parts.settings, parts.service, parts.supervisor
        trace = service.metrics.trace("discord")
        parts.clock.attach(trace, DISCORD)
        request_pace.attach(trace)
        trace.on_request_end.append(self._note_token)
        self._is_token_refused = False
        super().__init__(
            command_prefix=commands.when_mentioned,
            help_command=None,
            tree_cls=Tree,
            intents=discord.Intents(guilds=True),
            allowed_mentions=NO_MENTIONS,
            max_messages=None,
            member_cache_flags=discord.MemberCacheFlags.none(),
            chunk_guilds_at_startup=False,
            http_trace=trace,
            max_ratelimit_timeout=MAX_RATE_LIMIT_SECONDS,
            **options,
        )
        parsers = self._connection.parsers
        parsers["INTERACTION_CREATE"] = partial(self._handle_interaction, parsers["INTERACTION_CREATE"])
        EventGuard(self._connection).install()
        self._settings = settings
        self.allowed_servers = settings.allowed_servers
        self._store = parts.store
        self._supervisor = supervisor
        self.service = service
        self.catalogue_keeper = parts.catalogue_keeper
        self.messages = messages = MessageApi(self, service.sealer)
        self.message_deletions = MessageDeletions(service=service, messages=messages)
        self.click_debouncer = ClickDebouncer()
        self.operator_alerts = OperatorAlerts(messages=messages, supervisor=supervisor)
        self.log_channel = LogChannel(client=self, service=service, messages=messages, supervisor=supervisor)
        self.order_flow = OrderFlow(
            service=service,
            messages=messages,
            spending_alerts=SpendingAlerts(
                service=service,
                log_channel=self.log_channel,
                operator_alerts=self.operator_alerts,
                supervisor=supervisor,
            ),
            cdn_hosts=settings.discord_cdn_hosts,
            sku_ids=tuple(settings.topup_skus),
        )
        self.top_ups = TopUps(
            client=self, service=service, operator_alerts=self.operator_alerts, skus=settings.topup_skus
        )
        self.charts = parts.charts
        self.queue: ReplyQueue | None = None
        """Set for a worker before it logs in; None for others."""
        self.handover: ShardHandover | None = None
        """Set for a gateway before it logs in; None for others."""
        self.reports = Reports(service=service, charts=parts.charts)
        self.welcome = Welcome(service=service, messages=messages)
        self.weekly_reports = WeeklyReports(client=self, service=service, messages=messages, reports=self.reports)
        self.review_requests = ReviewRequests(service=service, messages=messages, supervisor=supervisor)
        self.replies = ReplyUpdater(
            DeliveryParts(
                service=service,
                messages=messages,
                log_channel=self.log_channel,
                operator_alerts=self.operator_alerts,
                upscale_prices=UpscalePrices(client=self, service=service),
                review_requests=self.review_requests,
            ),
            supervisor=supervisor,
        )

    async def setup_hook(self) -> None:
        """Set up commands and buttons and resume old jobs, after the login and before the first interaction."""
        if self.application is not None:
            self.operator_alerts.set_owner(self.application)
            await self._warn_if_public(self.application)
        if self.service.role is not Role.GATEWAY:
            await self._tell_if_restored()
            self._supervisor.start_forever("message deletions", self.message_deletions.run)
            self._supervisor.start_forever("review requests", self.review_requests.run)
        if self.service.role is Role.WORKER:  # it receives no interactions
            await self.service.resume()
            return
        if self._settings.discord_api_base != OFFICIAL_API_BASE:
            gateway: dict[str, Any] = await self.http.request(Route("GET", "/gateway/bot"))
            DiscordWebSocket.DEFAULT_GATEWAY = yarl.URL(gateway["url"])
        self._supervisor.start_forever("weekly reports", self.weekly_reports.run)
        if self._has_first_shard:
            self._supervisor.start_forever("refunds", self.top_ups.tell_forever)
            self._supervisor.start_forever("top-ups", self.top_ups.run)
        await self._add_commands()
        await self.tree.set_translator(CommandTranslator())
        await self.service.resume()
        if self._settings.sync_commands and self._has_first_shard:
            # Beside the connection: Discord may limit the rate of registrations for hours.
            self._supervisor.start("command registration", self._register_commands())

    async def _register_commands(self) -> None:
        """Register the commands, as often as it takes. Meanwhile members have those registered last time."""
        await retrying(
            self._sync_commands,
            on=self._registration_pause,
            first_pause_seconds=5,
            max_pause_seconds=REGISTRATION_MAX_PAUSE_SECONDS,
        )

    def _registration_pause(self, error: Exception) -> bool | float:
        """Tell the operator, and return the pause that Discord asks for; True for a growing one."""
        _log.error("commands could not be registered yet", exc_info=error)
        self.operator_alerts.send(
            "commands",
            f"Slash commands could not be registered: {error}. Members have those of last time, and it is tried again.",
        )
        if isinstance(error, discord.RateLimited):
            return min(max(error.retry_after, 1.0), REGISTRATION_MAX_PAUSE_SECONDS)
        return True

    async def _tell_if_restored(self) -> None:
        """Tell the operator, once, if the database server was restored or another one took over."""
        try:
            newest_order_at = await self._store.newest_order_if_restored()
        except StoreError:
            _log.exception("it could not be found out whether the database was restored")
            return
        if newest_order_at is not None:
            text = RESTORED.format(newest_order_at.strftime("%Y-%m-%d %H:%M:%S"))
            _log.warning("%s", text)
            self.operator_alerts.send("restored database", text)

    async def _warn_if_public(self, application: discord.AppInfo) -> None:
        """Tell the operator, once a day, if anybody may add the bot to a server and order there."""
        if self.allowed_servers or not application.bot_public:
            return
        _log.warning("%s", PUBLIC_BOT)
        try:
            is_first = await self._store.claim_notice("public bot", now=self.service.now())
        except StoreError:
            _log.exception("it could not be recorded that the operator was warned")
            return
        if is_first:
            self.operator_alerts.send("public bot", PUBLIC_BOT)

    async def _add_commands(self) -> None:
        order_flow, service = self.order_flow, self.service
        edit = Edit(order_flow=order_flow, service=service)
        cogs = (
            Imagine(order_flow),
            edit,
            Compare(order_flow),
            PresetCommands(order_flow=order_flow, service=service),
            DefaultsCommands(service),
            Usage(service, sku_ids=tuple(self._settings.topup_skus)),
            History(service=service, messages=self.messages),
            Privacy(service),
        )
        moderators = (
            QuotaCommands(service, self.reports),
            SettingsCommands(service=service, log=self.log_channel, weekly_reports=self.weekly_reports),
            Jobs(service),
        )
        for cog in (*cogs, *moderators, Help(service, self.tree)):
            await self.add_cog(cog)
        edit.add_menu(self.tree)
        if self.service.limits.direct_quota is not None:
            _offer_outside_servers(self.tree)
        self.add_dynamic_items(
            JobButton,
            CatalogueButton,
            UpscaleButton,
            ImageSelect,
            VoteButton,
            ShareButton,
            UnshareButton,
            ReviewButton,
            CopyPromptButton,
            OrderInsteadButton,
            DeleteButton,
            HistoryButton,
            EraseButton,
            AuditButton,
            PostButton,
            JobsButton,
            CancelChoice,
            DeleteChoice,
        )

    async def _sync_commands(self) -> None:
        """Register commands only when they or their translations changed: Discord allows 200 registrations a day."""
        if (application_id := self.application_id) is None:
            raise discord.app_commands.MissingApplicationID
        translator = CommandTranslator()
        payload = [await command.get_translated_payload(self.tree, translator) for command in self.tree.get_commands()]
        digest = hashlib.sha256(json.dumps(payload, sort_keys=True).encode()).hexdigest()
        key = f"commands of {application_id}"
        registered = {command.name for command in await self.tree.fetch_commands()}
        if await self._store.get_value(key) == digest and registered == {command["name"] for command in payload}:
            _log.info("commands are registered already")
            return
        # Not tree.sync(), which would translate every text a second time.
        await self.http.bulk_upsert_global_commands(application_id, payload=payload)
        await self._store.set_value(key, digest)
        _log.info("commands registered")

    def _handle_interaction(self, parse: Callable[[Any], None], data: Any) -> None:
        """Handle an interaction, unless a second gateway may receive it and was first."""
        if self.handover is None or not self.handover.is_claiming:
            self._parse_interaction(parse, data)
        else:
            self._supervisor.start(f"claim {data['id']}", self._claim(self.handover, parse, data))

    async def _claim(self, handover: ShardHandover, parse: Callable[[Any], None], data: Any) -> None:
        if await handover.may_handle(int(data["id"])):
            self._parse_interaction(parse, data)

    def _parse_interaction(self, parse: Callable[[Any], None], data: Any) -> None:
        """Hand an interaction to the library, except a form that it would leave without an answer.

        It knows a form until that is submitted, and none that was opened before a restart.
        """
        # Private in discord.py (guarded by a test); no event says that a form is not known.
        forms = self._connection._view_store._modals  # pyright: ignore[reportPrivateUsage]
        if data["type"] == discord.InteractionType.modal_submit.value and data["data"]["custom_id"] not in forms:
            interaction: discord.Interaction[Any] = discord.Interaction(data=data, state=self._connection)
            self._supervisor.start(f"form {data['id']}", error_handler.refuse_unknown_form(interaction))
        else:
            parse(data)

    async def close(self) -> None:
        """End what uses the connection to Discord before it is closed, so that it does not fail."""
        await self._supervisor.close(timeout_seconds=TASKS_END_TIMEOUT_SECONDS)
        await super().close()

    def dispatch(self, event_name: str, /, *args: Any, **kwargs: Any) -> None:
        """Run the handlers of an event, unless the client is closed.

        The library announces `ready` two seconds after the last server arrived, also when it was closed meanwhile; it
        would then fail for want of an event loop.
        """
        if not self.is_closed():
            super().dispatch(event_name, *args, **kwargs)

    @property
    def _has_first_shard(self) -> bool:
        return True

    def _sockets(self) -> Iterable[DiscordWebSocket]:
        """Return the gateway connections that should exist."""
        return [self.ws]

    async def _note_token(
        self, _: aiohttp.ClientSession, context: SimpleNamespace, done: aiohttp.TraceRequestEndParams
    ) -> None:
        """Note whether Discord takes the token, from each request that has it: a worker hears of it nowhere else."""
        if "Authorization" not in done.headers:
            return
        before, self._is_token_refused = self._is_token_refused, done.response.status == HTTPStatus.UNAUTHORIZED
        if self._is_token_refused and not before:
            _log.error("%s: copy the bot's token again, and restart every process with it", REFUSED_BY_DISCORD)

    def problem(self) -> str | None:
        """Return None while the gateway works: ready, connected, and heartbeats are answered.

        discord.py alone does not tell: its latency is that of the last answer, which may be old, and a client that
        cannot reconnect calls itself ready.
        """
        if self._is_token_refused:
            return REFUSED_BY_DISCORD
        if self.service.role is Role.WORKER:
            return None if self.user is not None and not self.is_closed() else "not logged in"
        if self.is_closed() or not self.is_ready():
            return "not connected"
        return next((problem for socket in self._sockets() if (problem := _problem_of(socket)) is not None), None)

    async def on_guild_join(self, guild: discord.Guild) -> None:
        """Introduce the bot, unless the operator does not serve the server."""
        if not self.allowed_servers or guild.id in self.allowed_servers:
            await self.welcome.greet(guild)

    async def on_entitlement_create(self, entitlement: discord.Entitlement) -> None:
        """Credit a purchase."""
        await self.top_ups.changed(entitlement)

    async def on_entitlement_update(self, entitlement: discord.Entitlement) -> None:
        """Credit a purchase, or take back one that is deleted."""
        await self.top_ups.changed(entitlement)

    async def on_entitlement_delete(self, entitlement: discord.Entitlement) -> None:
        """Take back a purchase that was refunded."""
        await self.top_ups.ended(entitlement)

    async def on_ready(self) -> None:
        """Log that the bot is ready."""
        _log.info("ready in %d servers", len(self.guilds))


def _offer_outside_servers(tree: app_commands.CommandTree[Any]) -> None:
    """Offer members' commands to people who install the bot themselves, and the others to servers alone.

    Without installations of its own a command has those that the application is configured for.
    """
    for command in tree.get_commands():
        if command.name in OUTSIDE_SERVERS:
            command.guild_only = False
            command.allowed_contexts = app_commands.AppCommandContext(guild=True, dm_channel=True, private_channel=True)
            command.allowed_installs = app_commands.AppInstallationType(guild=True, user=True)
        else:
            command.allowed_installs = app_commands.AppInstallationType(guild=True, user=False)


def _problem_of(socket: DiscordWebSocket) -> str | None:
    keep_alive: KeepAliveHandler | None = socket._keep_alive  # pyright: ignore[reportPrivateUsage]
    if not socket.open or keep_alive is None or keep_alive.interval is None:
        return "not connected"
    silent_seconds = time.perf_counter() - keep_alive._last_ack  # pyright: ignore[reportPrivateUsage]
    return "heartbeats are not answered" if silent_seconds > keep_alive.interval + HEARTBEAT_LATE_SECONDS else None


def aim_at(api_base: str) -> None:
    """Point discord.py at this REST base. One assignment covers interactions and webhooks too."""
    Route.BASE = api_base
    # This bot does not use voice, so the warnings about missing voice libraries are of no use.
    discord.VoiceClient.warn_nacl = False
    discord.VoiceClient.warn_dave = False
