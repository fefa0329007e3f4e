"""The HTTP side of a process: health checks, metrics and webhooks, and what is measured and checked there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bot.runtime.disk import DiskCheck
from bot.runtime.supervisor import Supervisor
from bot.runtime.web.web_routes import Check, HealthRoutes, WebhookRoutes
from bot.runtime.web.web_server import HttpServer
from bot.service.maintenance.fleet_watch import FleetWatch
from bot.service.notifications import WebhookHandler
from bot.settings import Settings
from bot.store.store import Store

if TYPE_CHECKING:
    from bot.gateway.discord_client import Bot


def http_servers(
    settings: Settings,
    bot: Bot,
    store: Store,
    supervisor: Supervisor,
    webhooks: WebhookHandler,
    fleet_watch: FleetWatch | None,
) -> list[HttpServer]:
    """Return the server for health checks and metrics; it also takes webhooks, or a second one does."""
    service = bot.service
    metrics = service.metrics
    metrics.offer((model.provider, model.id) for model in service.offered())
    metrics.watch("line_length", "Jobs that wait for a place", "provider", service.queue_lengths)
    metrics.watch("places_taken", "Jobs at a provider", "provider", service.slots_in_use)
    metrics.watch("provider_closed", "1 while a provider takes no new jobs", "provider", service.open_breakers)
    if fleet_watch is not None:
        metrics.watch("fleet_processes", "Processes alive on this database", "role", fleet_watch.alive)
        metrics.watch("fleet_disagreements", "Things in which the processes differ", "check", fleet_watch.disagreements)
    checks: dict[str, Check] = {
        "discord": bot.problem,
        "database": store.problem,
        "images": service.blob_store.problem,
        "workers": lambda: ", ".join(supervisor.down()) or None,
        "providers": lambda: service.closed_providers() if service.all_providers_closed else None,
        **({} if bot.queue is None else {"queue": bot.queue.problem}),
        **({} if fleet_watch is None else {"fleet": fleet_watch.problem}),
        **({} if store.is_shared else {"disk": DiskCheck(settings.data_folder).problem}),
    }
    # One of several providers that is closed leaves the rest of the bot, and its webhooks, worth reaching.
    degraded: dict[str, Check] = {"providers": service.closed_providers, "connections": store.missing_connections}
    health = HealthRoutes(checks, metrics.registry, degraded=degraded).routes()
    hooks = WebhookRoutes(webhooks.handle).routes()
    if settings.webhook_address is None:
        return [HttpServer([*health, *hooks], host=settings.http_host, port=settings.http_port)]
    host, port = settings.webhook_address
    return [
        HttpServer(health, host=settings.http_host, port=settings.http_port),
        HttpServer(hooks, host=host, port=port, setting_prefix="WEBHOOK"),
    ]
