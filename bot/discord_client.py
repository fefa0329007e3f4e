"""The Discord client: the bot as discord.py knows it, alone, as a gateway for some shards, or as a worker for none."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import discord
import yarl
from discord import app_commands
from discord.ext import commands
from discord.gateway import DiscordWebSocket, KeepAliveHandler
from discord.http import Route

from bot.charts.renderer import ChartRenderer
from bot.domain.process_role import Role, Shards
from bot.runtime.supervisor import Supervisor
from bot.service.job_service import JobService
from bot.settings import Settings
from bot.store.store import Store
from cogs.alerts.log_channel import LogChannel
from cogs.alerts.operator_alerts import OperatorAlerts
from cogs.alerts.spending_alerts import SpendingAlerts
from cogs.generate.edit import Edit
from cogs.generate.imagine import Imagine
from cogs.generate.job_buttons import JobButton
from cogs.generate.order_flow import OrderFlow
from cogs.generate.reply_updater import ReplyUpdater
from cogs.generate.upscale import UpscaleButton, UpscalePrices
from cogs.members.help import Help
from cogs.members.history import History, HistoryButton
from cogs.members.privacy import EraseButton, Privacy
from cogs.members.usage import Usage
from cogs.moderation.jobs import CancelChoice, Jobs, JobsButton
from cogs.moderation.quota import AuditButton, QuotaCommands
from cogs.moderation.report import PostButton, Reports
from cogs.moderation.settings import SettingsCommands
from cogs.text.command_translations import CommandTranslator
from cogs.text.locale import set_locale_of
from cogs.ui import error_handler
from cogs.ui.checks import ClickDebouncer
from cogs.ui.client import BotClient
from cogs.ui.message_api import NO_MENTIONS, MessageApi

if TYPE_CHECKING:
    from bot.store.postgres.reply_queue import ReplyQueue  # takes time to import, and only a worker needs it

_log = logging.getLogger(__name__)

OFFICIAL_API_BASE = "https://discord.com/api/v10"
HEARTBEAT_LATE_SECONDS = 12.0
"""So long after its time an unanswered heartbeat counts as none: with Discord's 41 seconds that is within a minute."""

LET_GO_SECONDS = 2.0
"""So long background tasks have to end once they were told to."""

IDENTIFY_PAUSE = timedelta(seconds=5)
"""Discord lets that many shards at a time begin a session as it says in `max_concurrency`, and the next after this."""


class Tree(app_commands.CommandTree["Bot"]):
    """The command tree; it answers in the language of whoever asks, and failures become sentences."""

    async def interaction_check(self, interaction: discord.Interaction[Any], /) -> bool:
        """Before every command, menu and autocomplete."""
        set_locale_of(interaction)
        self.client.order_flow.track_current_task()
        return True

    async def on_error(self, interaction: discord.Interaction[Any], error: app_commands.AppCommandError, /) -> None:
        """Whatever escapes a command ends here."""
        if interaction.type is discord.InteractionType.autocomplete:
            _log.warning("autocomplete failed", exc_info=error)
            return
        await error_handler.report(interaction, error)


class Bot(BotClient, commands.Bot):
    """The Discord client. It caches next to nothing: commands bring all they need with them."""

    def __init__(
        self,
        *,
        settings: Settings,
        store: Store,
        service: JobService,
        charts: ChartRenderer,
        supervisor: Supervisor,
        **options: Any,
    ) -> None:
        super().__init__(
            command_prefix=commands.when_mentioned,
            help_command=None,
            tree_cls=Tree,
            intents=discord.Intents(guilds=True),
            allowed_mentions=NO_MENTIONS,
            max_messages=None,
            member_cache_flags=discord.MemberCacheFlags.none(),
            chunk_guilds_at_startup=False,
            http_trace=service.metrics.trace("discord"),
            **options,
        )
        self._settings = settings
        self._store = store
        self._supervisor = supervisor
        self.service = service
        self.messages = messages = MessageApi(self)
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
            default_model=settings.default_model,
        )
        self.charts = charts
        self.queue: ReplyQueue | None = None
        """A worker's; set before it logs in."""
        self.reports = Reports(service=service, charts=charts)
        replies = ReplyUpdater(
            service=service,
            messages=messages,
            supervisor=supervisor,
            operator_alerts=self.operator_alerts,
            log_channel=self.log_channel,
            upscale_prices=UpscalePrices(client=self, service=service),
        )
        service.set_presenter(replies)

    async def setup_hook(self) -> None:
        """Logged in, not yet connected: commands, buttons and old jobs are in place before anybody asks."""
        if self.application is not None:
            self.operator_alerts.set_owner(self.application)
        if self.service.role is Role.WORKER:  # nobody asks it anything
            await self.service.resume()
            return
        if self._settings.discord_api_base != OFFICIAL_API_BASE:
            gateway: dict[str, Any] = await self.http.request(Route("GET", "/gateway/bot"))
            DiscordWebSocket.DEFAULT_GATEWAY = yarl.URL(gateway["url"])
        await self._add_commands()
        await self.tree.set_translator(CommandTranslator())
        await self.service.resume()
        if self._settings.sync_commands and self._registers_commands:
            try:
                await self._sync_commands()
            except (discord.HTTPException, app_commands.AppCommandError) as error:
                # Members still have the commands registered last time, and jobs are on their way.
                _log.exception("commands could not be registered")
                self.operator_alerts.send("commands", f"Slash commands could not be registered: {error}")

    async def _add_commands(self) -> None:
        order_flow, service, default_model = self.order_flow, self.service, self._settings.default_model
        edit = Edit(order_flow=order_flow, service=service, default_model=default_model)
        cogs = (
            Imagine(order_flow=order_flow, service=service, default_model=default_model),
            edit,
            Usage(service),
            History(service=service, messages=self.messages),
            Privacy(service),
        )
        moderators = (
            QuotaCommands(service, self.reports),
            SettingsCommands(service=service, default_model=default_model, log=self.log_channel),
            Jobs(service),
        )
        for cog in (*cogs, *moderators, Help(service, self.tree)):
            await self.add_cog(cog)
        edit.add_menu(self.tree)
        self.add_dynamic_items(
            JobButton, UpscaleButton, HistoryButton, EraseButton, AuditButton, PostButton, JobsButton, CancelChoice
        )

    async def _sync_commands(self) -> None:
        """Register commands only when they or their translations changed: Discord allows 200 registrations a day."""
        translator = CommandTranslator()
        payload = [await command.get_translated_payload(self.tree, translator) for command in self.tree.get_commands()]
        digest = hashlib.sha256(json.dumps(payload, sort_keys=True).encode()).hexdigest()
        key = f"commands of {self.application_id}"
        registered = {command.name for command in await self.tree.fetch_commands()}
        if await self._store.get_value(key) == digest and registered == {command["name"] for command in payload}:
            _log.info("commands are registered already")
            return
        await self.tree.sync()
        await self._store.set_value(key, digest)
        _log.info("commands registered")

    async def close(self) -> None:
        """End what speaks to Discord before the connection goes, or it would fail loudly instead."""
        await self._supervisor.close(timeout_seconds=LET_GO_SECONDS)
        await super().close()

    @property
    def _registers_commands(self) -> bool:
        return True

    def _sockets(self) -> Iterable[DiscordWebSocket]:
        """The connections there should be, as far as there are any."""
        return [self.ws]

    def problem(self) -> str | None:
        """None while the gateway delivers: ready, connected, and heartbeats are answered.

        The client's own latency is that of the last answer, however long ago it came, and a client that cannot connect
        again calls itself ready.
        """
        if self.service.role is Role.WORKER:
            return None if self.user is not None and not self.is_closed() else "not logged in"
        if self.is_closed() or not self.is_ready():
            return "not connected"
        return next((problem for socket in self._sockets() if (problem := _problem_of(socket)) is not None), None)

    async def on_ready(self) -> None:
        """A line for the operator."""
        _log.info("ready in %d servers", len(self.guilds))


class ShardedBot(Bot, commands.AutoShardedBot):
    """A gateway: the same, for some of the shards or for as many as Discord recommends."""

    def __init__(self, *, store: Store, shards: Shards | None, **options: Any) -> None:
        if shards is not None:
            options |= {"shard_ids": list(shards.ids), "shard_count": shards.count}
        super().__init__(store=store, **options)
        self._shards_served = shards
        self._cluster = store.cluster
        self._starts_at_a_time = 1

    async def setup_hook(self) -> None:
        """As every bot, and Discord says how many shards may begin at a time."""
        gateway: dict[str, Any] = await self.http.request(Route("GET", "/gateway/bot"))
        self._starts_at_a_time = max(1, int(gateway["session_start_limit"]["max_concurrency"]))
        await super().setup_hook()

    @property
    def _registers_commands(self) -> bool:
        """Commands are the same everywhere, so one process registers them."""
        return self._shards_served is None or 0 in self._shards_served.ids

    def _sockets(self) -> Iterable[DiscordWebSocket]:
        infos = self.shards.values()
        return [info._parent.ws for info in infos]  # pyright: ignore[reportPrivateUsage]

    async def before_identify_hook(self, shard_id: int | None, *, initial: bool = False) -> None:
        """Wait for this shard's turn among all processes."""
        bucket = (shard_id or 0) % self._starts_at_a_time
        now = datetime.now(UTC)
        starts_at = await self._cluster.acquire_turn(f"identify {bucket}", now=now, pause=IDENTIFY_PAUSE)
        await asyncio.sleep((starts_at - now).total_seconds())


def _problem_of(socket: DiscordWebSocket) -> str | None:
    heart: KeepAliveHandler | None = socket._keep_alive  # pyright: ignore[reportPrivateUsage]
    if not socket.open or heart is None or heart.interval is None:
        return "not connected"
    silent_seconds = time.perf_counter() - heart._last_ack  # pyright: ignore[reportPrivateUsage]
    return "heartbeats are not answered" if silent_seconds > heart.interval + HEARTBEAT_LATE_SECONDS else None


def aim_at(api_base: str) -> None:
    """Point discord.py at this REST base. One assignment covers interactions and webhooks too."""
    Route.BASE = api_base
    # This bot never speaks; no need to be warned at every start that it could not.
    discord.VoiceClient.warn_nacl = False
    discord.VoiceClient.warn_dave = False
