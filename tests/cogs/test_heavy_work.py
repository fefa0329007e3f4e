"""Commands that read or draw much: each member's have a pace, and what is refused reads nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bot.dispatch import heavy_work
from bot.domain.requester import Requester
from cogs.text import refusals
from tests.support.discord_stage import Card, Stage

pytestmark = pytest.mark.hostile("G-07")

A_LOT = "That was a lot in a short time. This works again <t:"


def used_up(stage: Stage, kind: str, limit: int, user_id: int) -> None:
    getattr(stage.core.service.heavy_work, f"_{kind}").of_members.note(user_id, limit)


@pytest.fixture
def reads(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Record what is read from the database."""
    found: list[Any] = []
    read = stage.core.store.database.read

    async def recorded(work: Callable[[Any], Any]) -> Any:
        found.append(work)
        return await read(work)

    monkeypatch.setattr(stage.core.store.database, "read", recorded)
    return found


COMMANDS = [
    ("exports", heavy_work.EXPORTS_PER_HOUR, "privacy export", {}),
    ("erasures", heavy_work.ERASURES_PER_HOUR, "privacy delete", {}),
    ("reports", heavy_work.REPORTS_PER_HOUR, "quota report", {"period": "day"}),
    ("pages", heavy_work.PAGES_PER_MINUTE, "quota audit", {}),
    ("pages", heavy_work.PAGES_PER_MINUTE, "quota show", {"member": "mo"}),
    ("pages", heavy_work.PAGES_PER_MINUTE, "settings show", {}),
    ("pages", heavy_work.PAGES_PER_MINUTE, "jobs", {}),
    ("pages", heavy_work.PAGES_PER_MINUTE, "usage", {}),
    ("pages", heavy_work.PAGES_PER_MINUTE, "history", {}),
    ("pages", heavy_work.PAGES_PER_MINUTE, "help", {}),
]


@pytest.mark.parametrize(("kind", "limit", "command", "options"), COMMANDS, ids=[case[2] for case in COMMANDS])
async def test_a_command_asked_for_too_often_is_refused_before_anything_is_read(
    stage: Stage, reads: list[Any], kind: str, limit: int, command: str, options: dict[str, Any]
) -> None:
    given = {name: getattr(stage, value, value) for name, value in options.items()}
    used_up(stage, kind, limit - 1, stage.mo.id)
    allowed = stage.said(await stage.mo.slash(stage.channel, command, **given))
    assert A_LOT not in allowed.text
    reads.clear()
    refused = stage.said(await stage.mo.slash(stage.channel, command, **given))
    assert refused.private
    assert A_LOT in refused.text
    assert reads == []
    assert len(stage.env.errors) == 1  # the refusal, shown as that sentence


@pytest.mark.parametrize("command", ["report", "audit"])
async def test_who_may_not_use_a_command_is_told_that_and_nothing_is_counted(stage: Stage, command: str) -> None:
    quota_id = int(stage.env.backend.commands[None]["quota", 1]["id"])
    stage.guild.set_command_permissions(quota_id, {stage.bob: True})
    assert (await stage.quota(command, stage.bob)).text == refusals.MODERATORS_ONLY()
    assert len(stage.env.errors) == 1
    work = stage.core.service.heavy_work
    assert not work._reports.of_members._uses
    assert not work._pages.of_members._uses


async def pages(stage: Stage) -> dict[str, tuple[Any, Card, str]]:
    """Return every button that turns a page, with who may click it."""
    for _ in range(12):
        await stage.until_says(await stage.imagine(), "Completed")
        await stage.quota("grant", member=stage.ada, amount="1")
    await stage.quiet()
    return {
        "history": (stage.ada, stage.said(await stage.ada.slash(stage.channel, "history")), "Older"),
        "history delete": (stage.ada, stage.said(await stage.ada.slash(stage.channel, "history")), "Delete"),
        "jobs": (stage.mo, stage.said(await stage.mo.slash(stage.channel, "jobs")), "Older"),
        "quota audit": (stage.mo, await stage.quota("audit"), "Older"),
    }


async def test_buttons_that_turn_pages_have_the_same_pace(stage: Stage) -> None:
    turns = await pages(stage)
    for who in (stage.ada, stage.mo):
        used_up(stage, "pages", heavy_work.PAGES_PER_MINUTE, who.id)
    for name, (who, card, label) in turns.items():
        before = card.text
        refused = stage.said(await stage.press(who, card, label))
        assert A_LOT in refused.text, name
        assert card.text == before, name


async def test_posting_a_report_counts_as_one(stage: Stage) -> None:
    await stage.until_says(await stage.imagine(), "Completed")
    await stage.quiet()
    report = await stage.quota("report", period="day")
    used_up(stage, "reports", heavy_work.REPORTS_PER_HOUR, stage.mo.id)
    (label,) = report.buttons
    assert A_LOT in stage.said(await stage.press(stage.mo, report, label)).text


async def test_suggestions_come_to_an_end_without_an_error(stage: Stage, reads: list[Any]) -> None:
    assert await stage.ada.autocomplete(stage.channel, "imagine", "model", "nano")
    used_up(stage, "suggestions", heavy_work.SUGGESTIONS_PER_MINUTE, stage.ada.id)
    reads.clear()
    assert await stage.ada.autocomplete(stage.channel, "imagine", "model", "nano") == []
    assert reads == []
    assert await stage.bob.autocomplete(stage.channel, "imagine", "model", "nano")


async def test_a_member_has_one_piece_of_heavy_work_at_a_time(stage: Stage) -> None:
    commands = ("privacy export", "privacy delete", "history")
    with stage.core.service.heavy_work.export(Requester(stage.guild.id, stage.ada.id)):
        for command in commands:
            answer = stage.said(await stage.ada.slash(stage.channel, command))
            assert answer.text == refusals.STILL_BUSY_FOR_YOU()
        assert stage.said(await stage.bob.slash(stage.channel, "privacy export")).files
    assert len(stage.env.errors) == len(commands)


async def test_a_double_click_is_answered_once(stage: Stage) -> None:
    turns = await pages(stage)
    who, question, label = turns["history delete"]
    work = stage.core.service.heavy_work
    with work.page(Requester(stage.guild.id, who.id)):
        first = stage.said(await stage.press(who, question, label))
        assert first.text == refusals.STILL_BUSY_FOR_YOU(), "after another command"
        errors = len(stage.env.errors)
        second = await stage.press(who, question, label)
    assert second.acknowledged
    assert second.followups == []
    assert not second.ephemeral
    assert len(stage.env.errors) == errors


async def test_who_waits_too_long_for_an_export_is_told_when_to_try_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heavy_work, "EXPORT_WAIT_SECONDS", 0.0)
    for server_id in range(heavy_work.EXPORTS_AT_A_TIME):
        await stage.core.service.heavy_work._export_slots.acquire(Requester(server_id, 9))
    answer = stage.said(await stage.ada.slash(stage.channel, "privacy export"))
    assert answer.text.startswith(refusals.MANY_ASKING(when="").removesuffix("."))
    assert "<t:" in answer.text
    assert len(stage.env.errors) == 1
