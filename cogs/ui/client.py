"""The bot as commands, buttons and forms see it: the client of their interactions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import discord

if TYPE_CHECKING:  # packages above this one; only their types are needed here
    from bot.service.job_service import JobService
    from bot.service.maintenance.catalogue_keeper import CatalogueKeeper
    from cogs.alerts.operator_alerts import OperatorAlerts
    from cogs.generate.ordering.order_flow import OrderFlow
    from cogs.generate.review.requests import ReviewRequests
    from cogs.moderation.report import Reports
    from cogs.ui.checks import ClickDebouncer
    from cogs.ui.discord_api.message_api import MessageApi
    from cogs.ui.discord_api.message_deletions import MessageDeletions


class BotClient(discord.Client):
    """What buttons and forms use of the bot: discord.py builds them from a custom id, without a constructor of ours."""

    service: JobService
    catalogue_keeper: CatalogueKeeper
    operator_alerts: OperatorAlerts
    messages: MessageApi
    message_deletions: MessageDeletions
    order_flow: OrderFlow
    click_debouncer: ClickDebouncer
    reports: Reports
    review_requests: ReviewRequests
    allowed_servers: frozenset[int] = frozenset()
    """Ids of the servers that may use the bot; empty means all."""


Interaction = discord.Interaction[BotClient]
