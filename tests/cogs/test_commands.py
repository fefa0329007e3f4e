"""The commands as registered at Discord: names, options, who sees them, and refusals in direct messages."""

from __future__ import annotations

from typing import Any

import discord
import pytest

from cogs.text import refusals
from tests.support.discord_stage import Stage

STRING, INTEGER, BOOLEAN, USER, CHANNEL, ROLE, ATTACHMENT = 3, 4, 5, 6, 7, 8, 11
AUTOCOMPLETE = "autocomplete"

SURFACE: dict[str, dict[str, tuple[int, bool, Any]]] = {
    "imagine": {
        "prompt": (STRING, True, None),
        "model": (STRING, False, AUTOCOMPLETE),
        "aspect_ratio": (STRING, False, AUTOCOMPLETE),
        "resolution": (STRING, False, AUTOCOMPLETE),
        "reference": (ATTACHMENT, False, None),
        "reference2": (ATTACHMENT, False, None),
        "reference3": (ATTACHMENT, False, None),
        "reference4": (ATTACHMENT, False, None),
        "count": (INTEGER, False, (1, 4)),
        "seed": (INTEGER, False, None),
        "creativity": (STRING, False, AUTOCOMPLETE),
        "style": (STRING, False, AUTOCOMPLETE),
        "moodboard": (STRING, False, None),
        "preset": (STRING, False, AUTOCOMPLETE),
        "more": (STRING, False, AUTOCOMPLETE),
        "private": (BOOLEAN, False, None),
        **{f"reference{number}": (ATTACHMENT, False, None) for number in range(5, 11)},
    },
    "edit": {
        "image": (ATTACHMENT, True, None),
        "prompt": (STRING, True, None),
        "model": (STRING, False, AUTOCOMPLETE),
        "image2": (ATTACHMENT, False, None),
        "image3": (ATTACHMENT, False, None),
        "image4": (ATTACHMENT, False, None),
        "aspect_ratio": (STRING, False, AUTOCOMPLETE),
        "resolution": (STRING, False, AUTOCOMPLETE),
        "count": (INTEGER, False, (1, 4)),
        "seed": (INTEGER, False, None),
        "preset": (STRING, False, AUTOCOMPLETE),
        "more": (STRING, False, AUTOCOMPLETE),
        "private": (BOOLEAN, False, None),
    },
    "usage": {"period": (STRING, False, ["this", "previous"])},
    "models": {"model": (STRING, False, AUTOCOMPLETE)},
    "quota show": {"member": (USER, True, None)},
    "quota set": {
        "member": (USER, True, None),
        "amount": (STRING, True, None),
        "period": (STRING, False, ["day", "week", "month"]),
        "reason": (STRING, False, None),
    },
    "quota role": {
        "role": (ROLE, True, None),
        "amount": (STRING, True, None),
        "period": (STRING, False, ["day", "week", "month"]),
        "reason": (STRING, False, None),
    },
    "quota default": {
        "amount": (STRING, True, None),
        "period": (STRING, False, ["day", "week", "month"]),
        "reason": (STRING, False, None),
    },
    "quota server": {
        "amount": (STRING, True, None),
        "period": (STRING, False, ["day", "week", "month"]),
        "reason": (STRING, False, None),
    },
    "quota channel": {
        "channel": (CHANNEL, True, None),
        "amount": (STRING, True, None),
        "period": (STRING, False, ["day", "week", "month"]),
        "reason": (STRING, False, None),
    },
    "quota clear": {
        "member": (USER, False, None),
        "role": (ROLE, False, None),
        "channel": (CHANNEL, False, None),
        "reason": (STRING, False, None),
    },
    "quota grant": {
        "member": (USER, True, None),
        "amount": (STRING, True, None),
        "reason": (STRING, False, None),
    },
    "quota reset": {"member": (USER, True, None), "reason": (STRING, False, None)},
    "quota block": {"member": (USER, True, None), "reason": (STRING, False, None)},
    "quota unblock": {"member": (USER, True, None), "reason": (STRING, False, None)},
    "quota report": {"period": (STRING, False, ["day", "week", "month"])},
    "quota audit": {"member": (USER, False, None)},
    "jobs": {},
    "help": {},
    "settings show": {
        "channel": (CHANNEL, False, None),
        "member": (USER, False, None),
        "model": (STRING, False, AUTOCOMPLETE),
    },
    "settings channels": {
        "action": (STRING, False, ["allow", "deny", "clear", "list"]),
        "channel": (CHANNEL, False, None),
        "reason": (STRING, False, None),
    },
    "settings models": {
        "action": (STRING, False, ["allow", "deny", "clear", "list"]),
        "model": (STRING, False, AUTOCOMPLETE),
        "role": (ROLE, False, None),
        "reason": (STRING, False, None),
    },
    "settings default-model": {
        "model": (STRING, False, AUTOCOMPLETE),
        "clear": (BOOLEAN, False, None),
        "reason": (STRING, False, None),
    },
    "settings language": {
        "language": (STRING, False, ["en", "de", "fr", "es", "pt", "ja"]),
        "clear": (BOOLEAN, False, None),
        "reason": (STRING, False, None),
    },
    "settings age-restricted": {
        "action": (STRING, False, ["add", "remove", "clear", "list"]),
        "model": (STRING, False, AUTOCOMPLETE),
        "reason": (STRING, False, None),
    },
    "settings words": {
        "action": (STRING, False, ["add", "remove", "clear", "list"]),
        "words": (STRING, False, AUTOCOMPLETE),
        "reason": (STRING, False, None),
    },
    "settings log-channel": {
        "channel": (CHANNEL, False, None),
        "clear": (BOOLEAN, False, None),
        "reason": (STRING, False, None),
    },
    "settings showcase": {
        "channel": (CHANNEL, False, None),
        "stars": (INTEGER, False, (1, 25)),
        "clear": (BOOLEAN, False, None),
        "reason": (STRING, False, None),
    },
    "settings weekly-report": {
        "channel": (CHANNEL, False, None),
        "clear": (BOOLEAN, False, None),
        "reason": (STRING, False, None),
    },
    "settings welcome": {"on": (BOOLEAN, False, None), "reason": (STRING, False, None)},
    "settings review": {
        "action": (STRING, False, ["add", "remove", "clear", "list"]),
        "channel": (CHANNEL, False, None),
        "role": (ROLE, False, None),
        "model": (STRING, False, AUTOCOMPLETE),
        "review_channel": (CHANNEL, False, None),
        "reason": (STRING, False, None),
    },
    "settings spoilers": {
        "action": (STRING, False, ["add", "remove", "clear", "list"]),
        "channel": (CHANNEL, False, None),
        "reason": (STRING, False, None),
    },
    "settings time-zone": {"zone": (STRING, False, AUTOCOMPLETE), "reason": (STRING, False, None)},
}


def registered(stage: Stage) -> dict[str, dict[str, Any]]:
    return {name: command for (name, _), command in stage.env.backend.commands[None].items()}


def leaf(stage: Stage, path: str) -> dict[str, Any]:
    root, *rest = path.split()
    command = registered(stage)[root]
    return next(option for option in command["options"] if option["name"] == rest[0]) if rest else command


@pytest.mark.parametrize("path", SURFACE)
async def test_a_command_has_exactly_its_options(stage: Stage, path: str) -> None:
    command = leaf(stage, path)
    assert 1 <= len(command["description"]) <= 100
    found: dict[str, tuple[int, bool, Any]] = {}
    for option in command["options"]:
        assert 1 <= len(option["description"]) <= 100
        more: Any = [choice["value"] for choice in option.get("choices", [])] or None
        if option.get("autocomplete"):
            more = AUTOCOMPLETE
        elif "max_value" in option:
            more = (option["min_value"], option["max_value"])
        found[option["name"]] = (option["type"], option["required"], more)
    assert found == SURFACE[path]


async def test_there_are_no_other_commands(stage: Stage) -> None:
    tested_elsewhere = {"Edit this image", "compare", "defaults", "history", "preset", "privacy"}
    names = {path.split()[0] for path in SURFACE} | tested_elsewhere
    assert set(registered(stage)) == names
    for group in ("quota", "settings"):
        subcommands = {f"{group} {option['name']}" for option in registered(stage)[group]["options"]}
        assert subcommands == {path for path in SURFACE if path.startswith(f"{group} ")}


async def test_moderators_commands_are_shown_to_moderators_only(stage: Stage) -> None:
    manage_guild = discord.Permissions(manage_guild=True).value
    for name in ("quota", "settings", "jobs"):
        assert int(registered(stage)[name]["default_member_permissions"]) == manage_guild
        assert not any(path.startswith(name) for path in stage.ada.available_commands(stage.channel))
    assert {"quota set", "settings channels", "jobs"} <= set(stage.mo.available_commands(stage.channel))


async def test_in_a_direct_message_only_help_models_and_privacy_are_offered(stage: Stage) -> None:
    stage.env.backend.get_dm_channel(stage.ada.id)
    assert set(stage.ada.user.available_commands()) == {"help", "models", "privacy export", "privacy delete"}


EVERYWHERE: dict[str, dict[str, Any]] = {
    "imagine": {"prompt": "a red fox"},
    "edit": {"image": ("fox.png", b"x"), "prompt": "blue"},
    "usage": {},
    "history": {},
    "quota default": {"amount": "5"},
    "quota server": {"amount": "5"},
    "quota report": {},
    "quota audit": {},
    "settings show": {},
    "settings channels": {},
    "jobs": {},
}


@pytest.mark.f52
@pytest.mark.parametrize("path", EVERYWHERE)
async def test_a_command_that_reaches_us_from_a_direct_message_is_refused(stage: Stage, path: str) -> None:
    command = registered(stage)[path.split(maxsplit=1)[0]]
    command |= {"dm_permission": True, "contexts": None, "default_member_permissions": None}
    stage.env.backend.get_dm_channel(stage.mo.id)
    refusal = stage.said(await stage.mo.user.slash(path, **EVERYWHERE[path]))
    assert refusal.reason == refusals.SERVER_ONLY()
    assert len(stage.env.errors) == 1
    await stage.assert_nothing_reserved()


async def test_models_works_in_a_direct_message(stage: Stage) -> None:
    stage.env.backend.get_dm_channel(stage.ada.id)
    assert "Nano Banana 2" in stage.said(await stage.ada.user.slash("models")).text


@pytest.mark.parametrize("registers_commands", [True])
async def test_commands_are_registered_once_and_again_only_when_they_changed(stage: Stage) -> None:
    def registrations() -> int:
        return sum(request.method == "PUT" for request in stage.env.http_requests)

    assert registrations() == 1
    await stage.restart()
    assert registrations() == 1
    await stage.core.store.set_value(f"commands of {stage.core.bot.application_id}", "what an older version had")
    await stage.restart()
    assert registrations() == 2


async def test_a_command_that_changed_since_discord_loaded_it_asks_for_a_reload(stage: Stage) -> None:
    registered(stage)["models"]["options"] = []
    registered(stage)["usage"]["options"] = [
        {"name": "period", "type": INTEGER, "description": "old", "required": False}
    ]
    card = stage.said(await stage.ada.slash(stage.channel, "usage", period=3))
    assert card.reason == refusals.COMMAND_CHANGED()
    assert card.private
    stage.core.bot.tree.remove_command("models")
    card = stage.said(await stage.ada.slash(stage.channel, "models"))
    assert card.reason == refusals.COMMAND_CHANGED()
    assert len(stage.env.errors) == 2
