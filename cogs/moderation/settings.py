"""/settings: moderators decide where, with which models and what prompts images are made; changes are recorded."""

from __future__ import annotations

from cogs.moderation.setting_commands import base
from cogs.moderation.setting_commands.in_force import InForceSettings
from cogs.moderation.setting_commands.orders import OrderSettings
from cogs.moderation.setting_commands.posts import PostSettings
from cogs.moderation.setting_commands.server import ServerSettings


class SettingsCommands(InForceSettings, OrderSettings, PostSettings, ServerSettings):
    """The commands /settings, with which moderators change the policy of their server."""

    group = base.group
