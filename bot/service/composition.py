"""Builds the parts of the service in one process: `ServiceParts.build`, then `add_provider` for each provider."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from bot.catalogue.catalogue import Catalogue
from bot.dispatch.circuit_breaker import CircuitBreaker
from bot.dispatch.dispatcher import ProviderDispatcher
from bot.domain.deployment.process_role import Role
from bot.domain.errors import ForeignAnswer
from bot.domain.jobs import JobStatus
from bot.domain.money.quota import Limits
from bot.media.downloader import Downloader
from bot.providers.base import Provider, Update
from bot.providers.poller import Poller
from bot.service.context import ServiceContext
from bot.service.execution.job_runner import JobRunner
from bot.service.execution.reply_runner import ReplyRunner
from bot.service.execution.results import ResultCollector
from bot.service.job_service import JobService
from bot.service.maintenance.catalogue_keeper import CatalogueKeeper
from bot.service.maintenance.cost_alerts import CostAlerts
from bot.service.maintenance.model_watch import ModelWatch
from bot.service.notifications import WebhookHandler
from bot.service.queue_positions import QueuePositions


@dataclass(frozen=True, kw_only=True, slots=True)
class ServiceParts:
    """The parts of the service, connected with each other."""

    context: ServiceContext
    service: JobService
    catalogue_keeper: CatalogueKeeper
    model_watch: ModelWatch
    job_runner: JobRunner
    reply_runner: ReplyRunner
    queue_positions: QueuePositions
    webhooks: WebhookHandler
    dispatchers: dict[str, ProviderDispatcher]
    """By the name of the provider; empty until `add_provider`."""

    @classmethod
    def build(
        cls,
        context: ServiceContext,
        *,
        catalogue: Catalogue,
        limits: Limits,
        result_downloader: Downloader,
        attachment_downloader: Downloader,
        public_url: str | None = None,
        overrides: Path | None = None,
        default_model: str = "",
    ) -> Self:
        """Build the parts on top of what the composition root opened. `public_url` is where webhooks arrive.

        `overrides` is the operator's file over the catalogue; `default_model` is what is ordered where nobody chooses.
        """
        dispatchers: dict[str, ProviderDispatcher] = {}
        cost_alerts = CostAlerts(context, limits=limits)
        keeper = CatalogueKeeper(
            context,
            catalogue=catalogue,
            overrides=overrides,
            default_model=default_model,
            providers=dispatchers,
        )
        model_watch = ModelWatch(context, catalogue=catalogue, catalogue_keeper=keeper, dispatchers=dispatchers)
        job_runner = JobRunner(
            context,
            catalogue=catalogue,
            downloader=result_downloader,
            cost_alerts=cost_alerts,
            model_watch=model_watch,
            public_url=public_url,
        )
        reply_runner = ReplyRunner(context, dispatchers=dispatchers, job_runner=job_runner)
        queue_positions = QueuePositions(context, dispatchers=dispatchers, reply_runner=reply_runner)
        service = JobService(
            context,
            catalogue=catalogue,
            limits=limits,
            cost_alerts=cost_alerts,
            attachment_downloader=attachment_downloader,
            results=ResultCollector(context, downloader=result_downloader),
            dispatchers=dispatchers,
            reply_runner=reply_runner,
            queue_positions=queue_positions,
            default_model=default_model,
        )
        return cls(
            context=context,
            service=service,
            catalogue_keeper=keeper,
            model_watch=model_watch,
            job_runner=job_runner,
            reply_runner=reply_runner,
            queue_positions=queue_positions,
            webhooks=WebhookHandler(context, dispatchers=dispatchers),
            dispatchers=dispatchers,
        )

    def add_provider(self, provider: Provider, *, poll_seconds: float, max_concurrency: int) -> ProviderDispatcher:
        """Take jobs for a provider, and run them unless this process is a gateway."""
        context = self.context
        breaker = CircuitBreaker(
            provider, coordinator=context.coordinator, presenter=context.presenter, supervisor=context.supervisor
        )

        def tell_of_new_word(update: Update) -> None:
            meaning = "running" if update.status is JobStatus.RUNNING else f"{update.status}, by what the job holds"
            context.presenter.operator_notice(
                f"new status {update.provider_status[:60]}",
                f'{provider.name} uses a status word that this version does not know: "{update.provider_status[:60]}".'
                f" Job {update.remote_id} counts as {meaning}. Look for a newer version of the bot.",
            )

        def tell_of_foreign_answer(error: ForeignAnswer) -> None:
            context.presenter.operator_notice(
                f"{provider.name} answers about other jobs",
                f"{error}. The answer is not used and the job is read again. A cache or proxy in front of"
                f" {provider.name} may mix up answers.",
            )

        poller = Poller(
            provider,
            poll_seconds=poll_seconds,
            clock=context.clock,
            on_denied=breaker.record_denial_of_one,
            on_new_word=tell_of_new_word,
            on_foreign_answer=tell_of_foreign_answer,
        )
        dispatcher = self.dispatchers[provider.name] = ProviderDispatcher(
            provider, poller, breaker=breaker, coordinator=context.coordinator, max_concurrency=max_concurrency
        )
        if context.coordinator.role is not Role.GATEWAY:
            self.job_runner.start(dispatcher)
            context.supervisor.start_forever(f"{provider.name} probe", breaker.run_probes)
        return dispatcher
