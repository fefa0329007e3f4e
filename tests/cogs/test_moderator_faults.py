"""Permissions: all commands of moderators as registered at Discord, so that new ones are tested automatically."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import discord
import pytest
import simcord
from simcord.actors import MemberActor

from bot.domain.jobs import FailureReason, JobStatus
from bot.domain.policy import Policy
from bot.store.core.connection import Connection
from cogs.text import job_card, refusals
from tests.support.catalogue_samples import FLUX, NANO_BANANA_2
from tests.support.discord_stage import Card, Stage

SUBCOMMAND, SUBCOMMAND_GROUP, STRING, INTEGER, BOOLEAN, USER, CHANNEL, ROLE = range(1, 9)
MANAGE_GUILD = discord.Permissions(manage_guild=True).value
ONLY_LOOK = {"quota show", "quota report", "quota audit"}
NOT_BY_ITSELF = {"quota clear", "quota unblock"}
"""Commands that undo something, so it must be done first."""

TYPED = {"amount": "5", "zone": "Europe/Berlin", "reason": "a trial", "words": "gore", "model": FLUX}
"""Values for options without choices; other options get any text."""


def leaves(command: dict[str, Any], path: str = "") -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield every way to call a command, with its options."""
    path = f"{path} {command['name']}".strip()
    below = [option for option in command.get("options", []) if option["type"] in (SUBCOMMAND, SUBCOMMAND_GROUP)]
    if not below:
        yield path, command.get("options", [])
    for option in below:
        yield from leaves(option, path)


def moderators_commands(stage: Stage) -> list[tuple[str, dict[str, Any]]]:
    """Return every command that Discord shows only to moderators, with every option filled in."""
    found: list[tuple[str, dict[str, Any]]] = []
    for (_, kind), command in stage.env.backend.commands[None].items():
        if kind == 1 and int(command.get("default_member_permissions") or 0) == MANAGE_GUILD:
            found += [(path, filled_in(stage, path, options)) for path, options in leaves(command)]
    assert {path.split()[0] for path, _ in found} == {"quota", "settings", "jobs"}
    return found


def filled_in(stage: Stage, path: str, options: list[dict[str, Any]]) -> dict[str, Any]:
    people = {USER: stage.bob, ROLE: stage.artists, CHANNEL: stage.channel, BOOLEAN: True, INTEGER: 1}
    filled: dict[str, Any] = {}
    for option in options:
        if option["type"] == STRING:
            choices = option.get("choices")
            filled[option["name"]] = choices[0]["value"] if choices else TYPED.get(option["name"], "something")
        elif option["type"] in people:
            filled[option["name"]] = people[option["type"]]
        else:
            raise AssertionError(f"say here how to fill in {option} of /{path}")
    if path == "quota clear":
        del filled["role"], filled["channel"]  # only one of member, role and channel
    elif "clear" in filled:
        del filled["clear"]  # either a value or clear
    return filled


def required_only(stage: Stage, path: str, filled: dict[str, Any]) -> dict[str, Any]:
    """Return only the required options of a command."""
    everything = [leaf for command in stage.env.backend.commands[None].values() for leaf in leaves(command)]
    required = {option["name"] for option in dict(everything)[path] if option.get("required")}
    return {name: value for name, value in filled.items() if name in required}


def shown_to_everybody(stage: Stage) -> None:
    """Show every command to all members and in direct messages, as the settings of a server can."""
    for command in stage.env.backend.commands[None].values():
        command |= {"dm_permission": True, "contexts": None, "default_member_permissions": None}


async def everything_written(stage: Stage) -> dict[str, list[tuple[Any, ...]]]:
    """Return all rows of all tables."""

    def read(db: Connection) -> dict[str, list[tuple[Any, ...]]]:
        tables = [name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        return {name: sorted(map(tuple, db.execute(f"SELECT * FROM {name}")), key=repr) for name in tables}

    return await stage.core.store.database.read(read)


# -- F-51 -----------------------------------------------------------------------------------------------------

EVERYTHING_ELSE = discord.Permissions(MANAGE_GUILD) ^ discord.Permissions.all()
EVERYTHING_ELSE.administrator = False
ROLES = {
    "no role": None,
    "a role without rights": discord.Permissions.none(),
    "every right but Manage Server": EVERYTHING_ELSE,
    "manages channels, roles and messages": discord.Permissions(
        manage_channels=True, manage_roles=True, manage_messages=True, kick_members=True, ban_members=True
    ),
}


@pytest.mark.parametrize("role", ROLES)
async def test_f51_who_may_not_manage_the_server_is_refused_by_every_command_of_moderators(
    stage: Stage, role: str
) -> None:
    permissions = ROLES[role]
    who = stage.person("ned", *([stage.guild.create_role("Some", permissions=permissions)] if permissions else []))
    await stage.quota("set", member=stage.bob, amount="3.21", reason="hush")
    await stage.settings("words", action="add", words="sesame")
    before = await everything_written(stage)
    calls = moderators_commands(stage)
    shown_to_everybody(stage)
    for path, options in calls:
        refusal = stage.said(await who.slash(stage.channel, path, **options))
        # What took some effort to type follows.
        assert (refusal.text.partition("\n")[0], refusal.private) == (refusals.MODERATORS_ONLY(), True), path
    assert await everything_written(stage) == before
    assert len(stage.env.errors) == len(calls)


async def test_f51_a_moderator_is_refused_by_none_of_them(stage: Stage) -> None:
    for path, options in moderators_commands(stage):
        card = stage.said(await stage.mo.slash(stage.channel, path, **options))
        assert card.private, path
        assert not card.text.startswith((refusals.MODERATORS_ONLY(), refusals.UNEXPECTED())), path


# -- F-13 -----------------------------------------------------------------------------------------------------


async def test_f13_every_quota_command_that_changes_something_is_recorded_with_all_that_matters(stage: Stage) -> None:
    await stage.until_says(await stage.imagine(stage.bob), "Completed")
    calls = [(path, options) for path, options in moderators_commands(stage) if path.startswith("quota ")]
    changing = [call for call in calls if call[0] not in ONLY_LOOK]
    assert len(changing) >= 9
    for path, options in sorted(changing, key=lambda call: call[0] in NOT_BY_ITSELF):
        before = await stage.core.store.audit(stage.guild.id, limit=100)
        asked_at = stage.env.now()
        card = stage.said(await stage.mo.slash(stage.channel, path, **options))
        after = await stage.core.store.audit(stage.guild.id, limit=100)
        assert len(after) == len(before) + 1, f"/{path}: {card.text}"
        entry = after[0]
        assert (entry.actor_id, entry.reason) == (stage.mo.id, "a trial"), path
        assert entry.old_value != entry.new_value, path
        assert entry.new_value, path
        subject = options.get("member") or options.get("role") or options.get("channel")
        assert entry.subject_id == (subject.id if subject else None), path
        assert abs((entry.created_at - asked_at).total_seconds()) < 10
    for path, options in calls:
        if path in ONLY_LOOK:
            before = await stage.core.store.audit(stage.guild.id, limit=100)
            await stage.mo.slash(stage.channel, path, **options)
            assert await stage.core.store.audit(stage.guild.id, limit=100) == before


# -- F-52 -----------------------------------------------------------------------------------------------------


async def test_f52_a_moderator_of_another_server_learns_and_changes_nothing_here(stage: Stage) -> None:
    await stage.quota("set", member=stage.bob, amount="3.21", reason="hush")
    await stage.settings("words", action="add", words="sesame")
    await stage.until_says(await stage.imagine(stage.bob, prompt="a hidden fox"), "Completed")
    await stage.quiet()
    eve, elsewhere = stage.elsewhere()
    calls = moderators_commands(stage)
    before = await everything_written(stage)
    for path, options in calls:
        # A modified client can send members, roles and channels of the other server by their ids.
        result = await answered(eve, elsewhere, path, options)
        if result is None:
            continue
        for secret in ("3.21", "hush", "sesame", "hidden fox"):
            assert secret not in result.text, (path, secret)
    after = await everything_written(stage)
    changed = {
        name: [row for row in rows if row not in before[name]] for name, rows in after.items() if rows != before[name]
    }
    for name, rows in changed.items():
        for row in rows:
            assert stage.guild.id not in row, f"{name}: {row}"
        assert [row for row in before[name] if row not in after[name]] == [], f"{name} lost rows"


async def test_f52_no_rule_is_made_about_a_channel_or_role_of_another_server(stage: Stage) -> None:
    eve, elsewhere = stage.elsewhere()
    about_channel = await answered(eve, elsewhere, "settings channels", {"action": "allow", "channel": stage.channel})
    about_role = await answered(
        eve, elsewhere, "settings models", {"action": "allow", "model": FLUX, "role": stage.artists}
    )
    assert about_channel is None or about_channel.text == refusals.CHANNEL_UNKNOWN()
    assert about_role is None or about_role.text == refusals.MEMBER_UNKNOWN()
    assert await stage.core.store.policy(elsewhere.guild.id) == Policy()


async def answered(who: MemberActor, channel: Any, path: str, options: dict[str, Any]) -> Card | None:
    """Return the response; None if Discord itself rejects the call."""
    try:
        result = await who.slash(channel, path, **options)
    except simcord.SetupError:
        return None
    message = result.followups[-1] if result.followups else result.response
    return Card(channel._env, message) if message else None


async def test_f52_no_moderators_command_works_in_a_direct_message(stage: Stage) -> None:
    calls = [(path, required_only(stage, path, options)) for path, options in moderators_commands(stage)]
    shown_to_everybody(stage)
    stage.env.backend.get_dm_channel(stage.mo.id)
    before = await everything_written(stage)
    for path, options in calls:
        if any(not isinstance(value, str | bool | int) for value in options.values()):
            continue  # a direct message has no members to select
        said = stage.said(await stage.mo.user.slash(path, **options))
        assert said.text == refusals.SERVER_ONLY(), path
    assert await everything_written(stage) == before
    stage.env.errors.clear()


# -- F-53 -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["waiting", "running", "completed", "failed", "cancelled"])
async def test_f53_no_button_of_a_card_changes_anything_for_another_member(stage: Stage, state: str) -> None:
    krea = stage.core.krea
    krea.waits = state != "completed"
    if state == "waiting":
        krea.door.clear()
    card = await stage.imagine(model=FLUX if state == "completed" else NANO_BANANA_2)
    await stage.until(lambda: krea.orders if state == "waiting" else krea.accepted)
    if state == "failed":
        krea.fails(FailureReason.PROVIDER_FAILED)
    elif state == "cancelled":
        krea.gives_up()
    word = {"waiting": "Queued", "running": "Processing"}.get(state, state.title())
    await stage.until_says(card, word)
    await stage.quiet_editors()
    assert card.buttons
    before = await everything_written(stage)
    orders = len(krea.orders)
    for_everybody = {job_card.REMIX(), job_card.RECIPE(), job_card.SHARE()}
    for label in card.buttons:
        result = await stage.press(stage.bob, card, label)
        if label in for_everybody:
            assert result.modal is not None or stage.said(result).private, label
            continue
        assert result.modal is None, label
        said = stage.said(result)
        assert (said.text, said.private) == (job_card.NOT_YOURS(), True), label
    assert card.is_there
    assert len(krea.orders) == orders
    assert krea.cancelled == []
    assert await everything_written(stage) == before
    assert (await stage.jobs())[0].status in JobStatus
    krea.door.set()
