"""Options: converts what a person typed or chose into the values that Discord sends, checked as its client does."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from sandbox.discord.files import Json, Upload
from sandbox.discord.world import Channel, Member, Permission, Role, User, World, rows

SUBCOMMAND, GROUP, TEXT, INTEGER, BOOLEAN, USER, CHANNEL, ROLE, MENTIONABLE, NUMBER, ATTACHMENT = range(1, 12)

_LARGEST_NUMBER = 2**53
_CHOSEN = frozenset({USER, CHANNEL, ROLE, MENTIONABLE})


class NotOffered(Exception):
    """Discord's own client would not have offered this action."""


def find_command(commands: list[Json], name: str, *, kind: int = 1) -> Json:
    for command in commands:
        if command["name"] == name and command["type"] == kind:
            return command
    raise NotOffered(f"no command {name!r} is registered; there are {[command['name'] for command in commands]}")


def is_offered(command: Json, channel: Channel, may: Permission, *, is_installed: bool = False) -> bool:
    """Return whether Discord lists the command here for a person with these permissions.

    `is_installed` says that the person installed the bot themselves.
    """
    has_bot = not channel.group if channel.server is None else channel.server.has_bot
    kinds = command.get("integration_types") or [0, 1]  # by default, those of the application
    if not ((0 in kinds and has_bot) or (1 in kinds and is_installed)):
        return False
    if channel.group:
        return 2 in (command.get("contexts") or ())
    if channel.server is None:
        contexts = command.get("contexts")
        return 1 in contexts if contexts is not None else command.get("dm_permission", True)
    if command.get("contexts") is not None and 0 not in command["contexts"]:
        return False
    if command.get("nsfw") and not channel.age_restricted:
        return False
    needed = command.get("default_member_permissions")
    if needed is not None and not may & Permission.ADMINISTRATOR:
        wanted = Permission(int(needed))
        if wanted == Permission(0) or may & wanted != wanted:
            return False
    return bool(may & Permission.USE_COMMANDS)


def _number(name: str, value: Any, *, is_whole: bool) -> int | float:
    """Return the number that was typed, in the range that Discord sends."""
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or (is_whole and not number.is_integer()):
        raise NotOffered(f"{name}: {value!r} is not a {'whole ' * is_whole}number")
    if abs(number) > _LARGEST_NUMBER:
        raise NotOffered(f"{name}: {value} is out of range")
    return int(number) if is_whole else number


class Options:
    """Builds one interaction's options; the objects they refer to are collected in `resolved`."""

    def __init__(self, world: World, channel: Channel) -> None:
        self._world = world
        self._channel = channel
        self.resolved: Json = {}

    def nested(
        self, command: Json, path: list[str], values: Mapping[str, Any], *, focused: str | None = None
    ) -> list[Json]:
        """Return the options of the command, or of the subcommand that `path` names, in Discord's nesting."""
        declared: list[Json] = rows(command, "options")
        if path:
            for option in declared:
                if option["name"] == path[0] and option["type"] in (SUBCOMMAND, GROUP):
                    inner = self.nested(option, path[1:], values, focused=focused)
                    return [{"name": option["name"], "type": option["type"], "options": inner}]
            raise NotOffered(f"{command['name']} has no subcommand {path[0]!r}")
        if any(option["type"] in (SUBCOMMAND, GROUP) for option in declared):
            raise NotOffered(f"{command['name']} needs a subcommand")
        strange = set(values) - {option["name"] for option in declared}
        if strange:
            raise NotOffered(f"{command['name']} has no option {', '.join(sorted(strange))}")
        given: list[Json] = []
        for option in declared:
            name = option["name"]
            if name in values and values[name] is not None:
                value = self._value(option, values[name], partial=focused is not None)
                here = {"focused": True} if name == focused else {}
                given.append({"name": name, "type": option["type"], "value": value} | here)
            elif name == focused:
                given.append({"name": name, "type": option["type"], "value": "", "focused": True})
            elif option.get("required") and focused is None:
                raise NotOffered(f"the option {name!r} is required")
        return given

    def _value(self, option: Json, value: Any, *, partial: bool) -> Any:
        """Return the value as sent. While it is typed (`partial`) nothing is checked."""
        kind, name = option["type"], option["name"]
        choices: list[Json] = rows(option, "choices")
        if choices and not partial and value not in [choice["value"] for choice in choices]:
            raise NotOffered(f"{name}: {value!r} is not among the choices")
        if partial and kind in (TEXT, INTEGER, NUMBER):
            return value
        if kind == TEXT:
            text = str(value)
            if not (option.get("min_length") or 0) <= len(text) <= (option.get("max_length") or 6000):
                raise NotOffered(f"{name}: too short or too long")
            return text
        if kind in (INTEGER, NUMBER):
            number = _number(name, value, is_whole=kind == INTEGER)
            low, high = option.get("min_value"), option.get("max_value")
            if (low is not None and number < low) or (high is not None and number > high):
                raise NotOffered(f"{name}: {number} is out of range")
            return number
        if kind == BOOLEAN:
            if not isinstance(value, bool):
                raise NotOffered(f"{name}: {value!r} is neither True nor False")
            return value
        if kind in _CHOSEN and isinstance(value, str) and not partial:
            raise NotOffered(f"{name}: {value!r} is not in the list; pick one that appears as you type")
        return self.plain(value)

    def plain(self, value: Any) -> str:
        """Return the id of a person, role, channel or file, or the text itself."""
        server = self._channel.server
        if isinstance(value, Upload):
            attachment = self._world.keep(value, self._channel)
            attachment.ephemeral = True
            self._note("attachments", attachment.id, attachment.payload())
            return str(attachment.id)
        if isinstance(value, Member | User):
            user = value.user if isinstance(value, Member) else value
            self._note("users", user.id, user.payload())
            if server is not None and user.id in server.members:
                member = server.members[user.id]
                self._note("members", user.id, member.payload(channel=self._channel, with_user=False))
            return str(user.id)
        if isinstance(value, Role):
            self._note("roles", value.id, value.payload())
            return str(value.id)
        if isinstance(value, Channel):
            self._note("channels", value.id, value.payload() | {"permissions": "0"})
            return str(value.id)
        return str(value)

    def _note(self, table: str, subject_id: int, payload: Json) -> None:
        self.resolved.setdefault(table, {})[str(subject_id)] = payload
