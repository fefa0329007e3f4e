"""/quota: only moderators set limits, and every change is recorded."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from simcord.actors import MemberActor

from bot.domain.audit import AuditEntry, Models, Standing
from bot.domain.money.quota import LimitSubject, Member
from cogs.moderation import quota_page
from cogs.text import audit_entries, refusals, spending, spending_report
from tests.support.discord_stage import Card, Stage
from tests.support.layouts import assert_fits

MEMBER, ROLE = "member", "role"


async def audited(stage: Stage, **options: Any) -> str:
    card = await stage.quota("audit", **options)
    assert card.private
    return card.text


# -- limits -----------------------------------------------------------------------------------------


@pytest.mark.f13
async def test_a_member_gets_an_own_limit_that_is_shown_and_recorded(stage: Stage) -> None:
    card = await stage.quota("set", member=stage.ada, amount="2.50", period="week", reason="won the `contest`")
    assert card.private
    assert card.text == f"{stage.ada.mention}: **$2.50 per week** (was not set)."
    card = await stage.quota("set", member=stage.ada, amount="$3")
    assert card.text == f"{stage.ada.mention}: **$3.00 per week** (was $2.50 per week)."
    shown = await stage.quota("show", member=stage.ada)
    assert "Quota: **$3.00 per week** (own limit)" in shown.text
    newest, oldest = (await audited(stage)).splitlines()[1:]
    assert f"<@{stage.mo.id}> set the limit of <@{stage.ada.id}>: $2.50 per week → $3.00 per week" in newest
    assert "$2.50 per week · `won the ˋcontestˋ`" in oldest
    assert newest.startswith("<t:")


SETTING = [
    pytest.param("role", "the role", "the limit of {name}", id="role"),
    pytest.param("default", spending.THE_DEFAULT(), "the limit of everybody else", id="default"),
    pytest.param("server", spending.THE_SERVER(), "the cap of the whole server", id="server"),
]


@pytest.mark.f13
@pytest.mark.parametrize(("command", "subject", "recorded"), SETTING)
async def test_limits_for_roles_everybody_and_the_server_are_set_and_recorded(
    stage: Stage, command: str, subject: str, recorded: str
) -> None:
    whose: dict[str, Any] = {"role": stage.artists} if command == "role" else {}
    name = stage.artists.mention if command == "role" else subject
    card = await stage.quota(command, None, **whose, amount="12.345678", period="month", reason="new year")
    assert card.text == f"{name}: **$12.345678 per month** (was not set)."
    assert f" set {recorded.format(name=name)}: not set → $12.345678 per month · `new year`" in await audited(stage)
    subjects = [subject for subject, _, _ in await stage.core.store.limits_of(stage.guild.id)]
    assert subjects == [LimitSubject(command)]


@pytest.mark.parametrize(
    ("amount", "shown"),
    [
        ("0", "$0.00 per day"),
        ("5", "$5.00 per day"),
        ("$0.065", "$0.065 per day"),
        (" 7.5 ", "$7.50 per day"),
        ("9999999.999999", "$9,999,999.999999 per day"),
        ("Unlimited", "unlimited"),
    ],
)
async def test_amounts_are_read_as_dollars(stage: Stage, amount: str, shown: str) -> None:
    assert f"**{shown}**" in (await stage.quota("set", member=stage.ada, amount=amount)).text


BAD_AMOUNTS = ["", "-1", "1,5", "5 €", "1e3", "12345678", "0.1234567", "٣", "NaN", "inf", "five", "`5`", "x" * 500]


@pytest.mark.f12
@pytest.mark.parametrize("command", ["set", "role", "default", "server", "grant"])
async def test_what_is_no_amount_is_refused_with_examples_and_changes_nothing(stage: Stage, command: str) -> None:
    whose: dict[str, Any] = {"set": {MEMBER: stage.ada}, "grant": {MEMBER: stage.ada}, "role": {ROLE: stage.artists}}
    for amount in BAD_AMOUNTS:
        card = await stage.quota(command, None, **whose.get(command, {}), amount=amount)
        assert card.private
        assert "is not an amount. Give dollars such as `5`, `2.50` or `$0.065`" in card.text
        assert card.text.count("`") % 2 == 0
    assert await stage.core.store.limits_of(stage.guild.id) == []
    assert await audited(stage) == f"### {audit_entries.AUDIT_TITLE()}\n{audit_entries.AUDIT_EMPTY()}"


@pytest.mark.parametrize("amount", ["0", "0.000000", "unlimited"])
async def test_an_extra_is_more_than_nothing(stage: Stage, amount: str) -> None:
    assert "more than zero" in (await stage.quota("grant", member=stage.ada, amount=amount)).text


async def test_a_bot_needs_no_quota(stage: Stage) -> None:
    robot = stage.guild.add_member(stage.env.create_user("robot", bot=True))
    card = await stage.quota("set", member=robot, amount="5")
    assert card.text == spending.BOT_HAS_NO_QUOTA(subject=robot.mention)
    assert await stage.core.store.limits_of(stage.guild.id) == []


async def test_a_limit_is_cleared_once(stage: Stage) -> None:
    await stage.quota("set", member=stage.ada, amount="5")
    await stage.quota("role", role=stage.artists, amount="6")
    cleared = await stage.quota("clear", member=stage.ada, reason="done")
    assert cleared.text == f"{stage.ada.mention}: limit removed (was $5.00 per day)."
    assert (await stage.quota("clear", member=stage.ada)).text == f"No limit is set for {stage.ada.mention}."
    assert "was $6.00 per day" in (await stage.quota("clear", role=stage.artists)).text
    assert await stage.core.store.limits_of(stage.guild.id) == []
    record = await audited(stage)
    assert record.count("removed the limit of") == 2
    assert "`done`" in record


async def test_clear_wants_exactly_one_member_or_role(stage: Stage) -> None:
    assert (await stage.quota("clear")).text == spending.CLEAR_ONE()
    assert (await stage.quota("clear", member=stage.ada, role=stage.artists)).text == spending.CLEAR_ONE()


# -- one-offs -----------------------------------------------------------------------------------------


async def test_an_extra_counts_on_top_until_the_period_ends(stage: Stage) -> None:
    card = await stage.quota("grant", member=stage.ada, amount="0.50", reason="birthday")
    assert card.text == f"{stage.ada.mention} gets **$0.50** extra for this period and has **$1.50** left."
    assert (await stage.balance()).available_usd_micros == 1_500_000
    assert "granted an extra to" in await audited(stage)
    assert "Extra this period: **$0.50**" in (await stage.quota("show", member=stage.ada)).text


async def test_an_extra_for_an_unlimited_member_leaves_what_the_bots_own_cap_leaves(stage: Stage) -> None:
    await stage.quota("set", member=stage.ada, amount="unlimited")
    said = (await stage.quota("grant", member=stage.ada, amount="5")).text
    assert "has **$5.00** left" in said
    assert "the bot's own cap for this server has **$5.00** left" in said


async def test_after_a_reset_spending_counts_from_zero_and_the_history_stays(stage: Stage) -> None:
    await stage.until_says(await stage.imagine(), "Completed")
    stage.core.krea.waits = True
    running = await stage.imagine()
    card = await stage.quota("reset", member=stage.ada, reason="a fault of ours")
    assert card.text == f"{stage.ada.mention}: spending counts from zero again. **$0.92** left."
    balance = await stage.balance()
    assert (balance.spent_usd_micros, balance.set_aside_usd_micros) == (0, 80_000)
    assert f"reset the spending of <@{stage.ada.id}>" in await audited(stage)
    await stage.until(lambda: stage.core.krea.accepted == 2)
    stage.core.krea.finishes()
    await stage.until_says(running, "Completed")
    assert "**$0.16** for 2 images" in (await stage.quota("report")).text


async def test_a_member_is_blocked_and_unblocked_once(stage: Stage) -> None:
    assert (
        await stage.quota("block", member=stage.ada, reason="spam")
    ).text == f"{stage.ada.mention} can no longer order images here."
    assert (await stage.quota("block", member=stage.ada)).text == f"{stage.ada.mention} was already blocked."
    assert f"{stage.ada.mention} can no longer order images here." in (await stage.quota("show", member=stage.ada)).text
    assert (await stage.quota("unblock", member=stage.ada)).text == f"{stage.ada.mention} can order images again."
    assert (await stage.quota("unblock", member=stage.ada)).text == f"{stage.ada.mention} was not blocked."
    lines = (await audited(stage)).splitlines()
    assert len(lines) == 3
    assert f"<@{stage.mo.id}> unblocked <@{stage.ada.id}>" in lines[1]
    assert f"blocked <@{stage.ada.id}>: not blocked → blocked · `spam`" in lines[2]


async def test_show_tells_everything_about_a_members_limit(stage: Stage) -> None:
    await stage.quota("server", amount="10", period="month")
    await stage.until_says(await stage.imagine(), "Completed")
    stage.core.krea.waits = True
    await stage.imagine(resolution="2K")
    card = await stage.quota("show", member=stage.ada)
    assert card.private
    assert f"### Quota of {stage.ada.mention}" in card.text
    assert "**$0.08** spent · **$0.12** set aside · **$0.80** left" in card.text
    assert "Quota: **$1.00 per day** (the bot's default)" in card.text
    assert "Resets <t:" in card.text
    assert "Server: $0.20 used of $10.00 per month" in card.text


# -- looking back -----------------------------------------------------------------------------------------


async def test_the_record_of_changes_turns_its_pages_and_stays_with_moderators(stage: Stage) -> None:
    for amount in range(1, 24):
        await stage.quota("default", amount=str(amount))
    card = await stage.quota("audit")
    assert (len(card.text.splitlines()), list(card.buttons)) == (11, ["Older"])
    assert "$23.00 per day" in card.text
    await stage.mo.click(card.message, label="Older")
    assert "$13.00 per day\n" in card.text
    await stage.restart()
    await stage.mo.click(card.message, label="Older")
    assert (len(card.text.splitlines()), list(card.buttons)) == (4, [])
    assert card.text.endswith("$1.00 per day")


@pytest.mark.f51
async def test_reasons_are_shown_whole_where_the_page_has_room(stage: Stage) -> None:
    reason = "because " * 24 + "the end"
    await stage.quota("default", amount="1", reason=reason)
    assert reason in (await stage.quota("audit")).text
    long = AuditEntry(
        id=1,
        guild_id=stage.guild.id,
        actor_id=stage.mo.id,
        action="models",
        subject="server",
        subject_id=None,
        topic=Models(pattern="m" * 100, role_id=stage.keepers.id),
        old_value=Standing.ALLOWED,
        new_value=Standing.DENIED,
        reason="x" * 200,
        created_at=datetime.now(UTC),
    )
    assert_fits(quota_page.audit([long] * 10, user_id=None, more=True))


async def test_the_page_button_refuses_who_is_no_moderator_any_more(stage: Stage) -> None:
    for amount in range(1, 13):
        await stage.quota("default", amount=str(amount))
    card = await stage.quota("audit")
    before = card.text
    stage.env.backend.get_guild(stage.guild.id).members[stage.mo.id].role_ids.clear()
    result = await stage.mo.click(card.message, label="Older")
    assert stage.said(result).text == refusals.MODERATORS_ONLY()
    assert card.text == before


async def test_the_record_of_one_member_leaves_out_the_others(stage: Stage) -> None:
    await stage.quota("set", member=stage.ada, amount="5")
    await stage.quota("set", member=stage.bob, amount="6")
    await stage.quota("default", amount="7")
    record = await audited(stage, member=stage.bob)
    assert len(record.splitlines()) == 2
    assert "$6.00" in record
    for amount in range(20):
        await stage.quota("set", member=stage.bob, amount=str(amount))
    card = await stage.quota("audit", member=stage.bob)
    await stage.mo.click(card.message, label="Older")
    assert "$5.00 per day → " not in card.text.splitlines()[-1]
    assert f"<@{stage.ada.id}>" not in card.text


# -- who may, and where -----------------------------------------------------------------------------------------

CALLS: dict[str, dict[str, str]] = {
    "show": {MEMBER: "ada"},
    "set": {MEMBER: "ada", "amount": "5"},
    "role": {ROLE: "artists", "amount": "5"},
    "default": {"amount": "5"},
    "server": {"amount": "5"},
    "clear": {MEMBER: "ada"},
    "grant": {MEMBER: "ada", "amount": "5"},
    "reset": {MEMBER: "ada"},
    "block": {MEMBER: "ada"},
    "unblock": {MEMBER: "ada"},
    "report": {},
    "audit": {},
}


def arguments(stage: Stage, command: str) -> dict[str, Any]:
    return {name: getattr(stage, value) if name in (MEMBER, ROLE) else value for name, value in CALLS[command].items()}


@pytest.mark.f51
@pytest.mark.parametrize("command", CALLS)
async def test_a_plain_member_is_refused_even_where_a_server_shows_them_the_command(stage: Stage, command: str) -> None:
    quota_id = int(stage.env.backend.commands[None]["quota", 1]["id"])
    stage.guild.set_command_permissions(quota_id, {stage.bob: True})
    card: Card = await stage.quota(command, stage.bob, **arguments(stage, command))
    assert card.text == refusals.MODERATORS_ONLY()
    assert card.private
    assert len(stage.env.errors) == 1
    assert await stage.core.store.limits_of(stage.guild.id) == []
    assert await stage.core.store.audit(stage.guild.id) == []


@pytest.mark.parametrize("command", CALLS)
async def test_every_subcommand_answers_a_moderator_privately(stage: Stage, command: str) -> None:
    card = await stage.quota(command, **arguments(stage, command))
    assert card.private
    assert card.text


@pytest.mark.f52
@pytest.mark.parametrize("command", [command for command in CALLS if MEMBER in CALLS[command]])
async def test_a_user_who_is_not_in_the_server_is_not_found(stage: Stage, command: str) -> None:
    options = arguments(stage, command) | {MEMBER: stage.env.create_user("stranger")}
    card = await stage.quota(command, None, **options)
    assert card.text == refusals.MEMBER_UNKNOWN()
    assert len(stage.env.errors) == 1
    assert await stage.core.store.audit(stage.guild.id) == []


@pytest.mark.f52
async def test_limits_record_and_report_of_one_server_do_not_reach_another(stage: Stage) -> None:
    eve, channel = stage.elsewhere()
    await stage.quota("server", amount="0.05", reason="only here")
    await stage.quota("default", amount="0", reason="only here")
    await stage.quota("set", member=stage.ada, amount="3", reason="only here")

    async def there(command: str) -> Card:
        return stage.said(await eve.slash(channel, f"quota {command}"))

    assert audit_entries.AUDIT_EMPTY() in (await there("audit")).text
    card = stage.said(await eve.slash(channel, "imagine", prompt="a red fox"))
    await stage.until_says(card, "Completed")
    assert "$0.08" in (await there("report")).text
    assert spending_report.REPORT_EMPTY() in (await stage.quota("report")).text
    member = Member(guild_id=channel.guild.id, user_id=stage.ada.id)
    default = stage.core.service.limits.default_quota
    balance = await stage.core.store.balance(member, default=default, now=stage.env.now())
    assert balance.limit_usd_micros == 1_000_000


async def test_an_administrator_counts_as_a_moderator(stage: Stage) -> None:
    owner = MemberActor(stage.env, stage.guild, stage.guild.owner)
    assert (await stage.quota("report", owner)).text.startswith("### Spending")


async def test_when_the_database_is_closed_a_moderator_is_told_so(stage: Stage) -> None:
    await stage.core.store.close()
    assert (await stage.quota("default", amount="5")).text == refusals.BOOKS_UNAVAILABLE()
    assert len(stage.env.errors) == 1
