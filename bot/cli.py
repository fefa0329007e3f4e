"""The command line: `python -m bot` runs the bot, or one of the sub-commands that `--help` lists.

Each sub-command is one function that returns the exit code: 0 success, 1 a failure (the output says which), 2 an
invalid setting or argument, or a ledger that was tampered with.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from collections import Counter, defaultdict
from collections.abc import Awaitable, Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import aiohttp
import discord

from bot import __version__, app
from bot.catalogue.catalogue import Catalogue
from bot.cli_commands import catalogue, reconcile
from bot.domain.deployment.database_url import Location, PostgresAddress, parse_location
from bot.domain.deployment.process_role import Role, Shards
from bot.domain.errors import BotError, DatabaseUnusable, LedgerTampered, SettingsError, StoreError
from bot.domain.jobs import DIRECT_GUILD_ID
from bot.domain.money.quota import OperatorCostLine, format_usd
from bot.gateway.discord_client import PUBLIC_BOT, REFUSED_BY_DISCORD, aim_at
from bot.providers.base import Provider
from bot.runtime.logs import set_up_logging
from bot.runtime.processes import confinement
from bot.runtime.processes.allocator import map_large_blocks_separately
from bot.runtime.processes.file_descriptors import raise_descriptor_limit
from bot.runtime.trusted_clock import DISCORD, MAX_SKEW, TrustedClock
from bot.settings import Settings, load_settings
from bot.startup.fleet_check import check_fleet
from bot.store.admin.readonly import exists, open_jobs, open_readonly
from bot.store.sqlite.backup import copy_database
from bot.store.sqlite.backup import restore as restore_database
from bot.store.sqlite.moved_mark import refuse_half_move
from bot.store.tables.money.operator_costs import operator_cost_lines

# What imports PostgreSQL's driver is imported where it is used: a bot with a file does without those 8 MB.

_log = logging.getLogger(__name__)

INVITE_PERMISSIONS = discord.Permissions(
    view_channel=True, send_messages=True, send_messages_in_threads=True, attach_files=True, read_message_history=True
)
"""The minimum: to edit replies after 15 minutes, and to post an image whose reply was deleted."""


def main(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    parsed = _parser().parse_args(arguments)
    try:
        return _run(parsed)
    except (SettingsError, LedgerTampered) as error:  # starting again cannot help
        print(error, file=sys.stderr)
        return 2
    except BotError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0


def _run(parsed: argparse.Namespace) -> int:
    match parsed.command:
        case "check":
            return check()
        case "backup":
            return backup(parsed.file)
        case "migrate-to":
            return migrate_to(parsed.address, is_undo=parsed.undo)
        case "restore":
            return restore(parsed.file)
        case "ledger" if parsed.question == "verify":
            return ledger_verify()
        case "ledger" if parsed.question == "reconcile":
            return reconcile.reconcile(since=parsed.since, invoice=parsed.invoice, as_json=parsed.json)
        case "ledger":
            return ledger_house()
        case "catalogue":
            return catalogue.catalogue(refresh=parsed.refresh, accept=parsed.accept, keep=parsed.keep)
        case _:
            return run_bot(role=parsed.role, shards=parsed.shards)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bot", description="A Discord bot that makes and edits images.")
    parser.add_argument("--version", action="version", version=f"image-bot {__version__}")
    parser.add_argument(
        "--role",
        type=_role,
        metavar="{" + ",".join(Role) + "}",
        default=Role.ALL,
        help="what this process does where several share a PostgreSQL database; all of it unless told",
    )
    parser.add_argument(
        "--shards", type=_shards, help="with --role gateway: those it serves, such as 0-3/16; all unless told"
    )
    calls = parser.add_subparsers(title="calls", metavar="", dest="command")
    calls.add_parser("check", help="read the settings, open the database, ask Discord and each provider")
    backup_parser = calls.add_parser("backup", help="write a consistent copy of the database, also while the bot runs")
    backup_parser.add_argument("file", type=Path)
    migrate_parser = calls.add_parser(
        "migrate-to", help="move the database from its file to an empty PostgreSQL database"
    )
    migrate_parser.add_argument("address", metavar="postgresql://…")
    migrate_parser.add_argument("--undo", action="store_true", help="use the file again, if nothing was ordered since")
    restore_parser = calls.add_parser("restore", help="put a backup in place of the database; the bot must be stopped")
    restore_parser.add_argument("file", type=Path)
    ledger_parser = calls.add_parser("ledger", help="read the ledger")
    questions = ledger_parser.add_subparsers(title="questions", metavar="question", dest="question", required=True)
    questions.add_parser("verify", help="prove every invariant over the whole database")
    questions.add_parser("house", help="list the jobs whose cost no member bore: who, why, and their sums")
    reconcile_parser = questions.add_parser(
        "reconcile", help="compare the ledger with the provider's list of jobs and an exported bill; changes nothing"
    )
    reconcile_parser.add_argument("--since", type=_day, metavar="DATE", help="a UTC day; 30 days ago unless told")
    reconcile_parser.add_argument("--invoice", type=Path, metavar="FILE.csv", help="a bill exported by the provider")
    reconcile_parser.add_argument("--json", action="store_true", help="for machines")
    catalogue_parser = calls.add_parser("catalogue", help="list the models and their prices")
    catalogue_parser.add_argument("--refresh", action="store_true", help="compare with the provider's live description")
    catalogue_parser.add_argument(
        "--accept", nargs="+", metavar="ID", help="take over what the description changes about these models, or: all"
    )
    catalogue_parser.add_argument(
        "--keep", nargs="+", metavar="ID", help="go on with what there was about these models, or: all"
    )
    return parser


def _role(text: str) -> Role:
    try:
        return Role(text)
    except ValueError:
        raise argparse.ArgumentTypeError("must be all, gateway or worker") from None


def _day(text: str) -> datetime:
    try:
        return datetime.combine(date.fromisoformat(text), time(), UTC)
    except ValueError:
        raise argparse.ArgumentTypeError("must be a date such as 2026-11-30") from None


def _shards(text: str) -> Shards:
    try:
        return Shards.parse(text)
    except ValueError:
        raise argparse.ArgumentTypeError("must be of the form 0-3/16 or 5/16, counted from 0") from None


def run_bot(*, role: Role, shards: Shards | None) -> int:
    """Run the bot until it is stopped."""
    if shards is not None and role is not Role.GATEWAY:
        raise SettingsError("--shards goes with --role gateway: only gateways are connected for shards")
    settings = load_settings()
    map_large_blocks_separately()
    raise_descriptor_limit()
    set_up_logging(level=settings.log_level, style=settings.log_format, secrets=settings.secret_values)
    if not confinement.hide_memory():
        _log.warning("this system cannot hide the memory of the bot from other programs of its user")
    try:
        asyncio.run(app.run(settings, role=role, shards=shards))
    except discord.LoginFailure:
        raise SettingsError(f"{REFUSED_BY_DISCORD}: copy the bot's token again") from None
    except DatabaseUnusable as error:  # damaged, newer, moved or another program's: starting again cannot help
        print(error, file=sys.stderr)
        return 2
    return 0


# -- check ------------------------------------------------------------------------------------------------


def check() -> int:
    """Check settings, catalogue, database, Discord and providers; print one line for each."""
    settings = load_settings()
    set_up_logging(level="ERROR", style=settings.log_format, secrets=settings.secret_values)
    rows = [("settings", True, _describe_money(settings)), *asyncio.run(_check_all(settings))]
    width = max(len(name) for name, _, _ in rows)
    for name, works, what in rows:
        print(f"{'ok  ' if works else 'FAIL'}  {name:<{width}}  {what}")
    return 0 if all(works for _, works, _ in rows) else 1


def _describe_money(settings: Settings) -> str:
    """Say what the settings may cost, so that an amount meant in cents is noticed."""
    limits = settings.limits
    most_usd_micros = limits.operator_daily_cap_usd_micros + limits.operator_cost_daily_cap_usd_micros
    server_usd_micros = min(limits.operator_server_cap_usd_micros, limits.operator_daily_cap_usd_micros)
    quota = settings.default_quota_usd
    return (
        f"complete; a day costs you at most {format_usd(most_usd_micros)}, one server "
        f"{format_usd(server_usd_micros)}; a member may spend {format_usd(quota)} a "
        f"{settings.default_quota_period} unless a server's moderators set another quota"
    )


async def _check_all(settings: Settings) -> list[tuple[str, bool, str]]:
    rows = [
        await _row("catalogue", _check_catalogue(settings)),
        await _row("database", _check_database(settings)),
        await _row("processes", _check_processes(settings)),
        *await _check_fleet(settings),
        *await _check_keys(settings),
        await _row("discord", _check_discord(settings)),
        *([await _row("top-ups", _check_top_ups(settings))] if settings.topup_skus else []),
        ("http", True, _describe_listeners(settings)),
    ]
    async with aiohttp.ClientSession() as session:
        for provider, chosen in app.providers_of(settings, session):
            rows.append(await _row(provider.name, _check_provider(provider, chosen.max_concurrency)))
    return rows


async def _row(name: str, result: Awaitable[str]) -> tuple[str, bool, str]:
    try:
        return name, True, await result
    except BotError as error:
        return name, False, str(error)
    except discord.LoginFailure:
        return name, False, "the token is not accepted"
    except (discord.HTTPException, aiohttp.ClientError, OSError, TimeoutError) as error:
        return name, False, f"cannot be reached: {error}"


async def _check_provider(provider: Provider, slots: int) -> str:
    await provider.probe()
    return f"answers and takes the key; up to {slots} jobs at a time"


async def _check_catalogue(settings: Settings) -> str:
    try:
        loaded = await asyncio.to_thread(app.load_catalogue, settings)
    except StoreError:  # the row of the database says what is wrong with it
        loaded = Catalogue.load(app.overrides_of(settings))
    return catalogue.describe(settings, loaded)


async def _check_database(settings: Settings) -> str:
    location = settings.database_url
    if not await asyncio.to_thread(exists, location):
        if isinstance(location, PostgresAddress):
            await asyncio.to_thread(refuse_half_move, settings.data_folder, str(location))
        missing = "does not exist" if isinstance(location, Path) else "is empty"
        return f"{location} {missing} yet and is created at the first start"
    findings = await asyncio.to_thread(_findings, location)
    if findings:
        raise StoreError(f"{location}: {len(findings)} findings, see: python -m bot ledger verify")
    return f"{location} is sound"


async def _check_processes(settings: Settings) -> str:
    location = settings.database_url
    if not isinstance(location, PostgresAddress):
        return "one, since the database is a file; several need a server: python -m bot migrate-to postgresql://…"
    if not await asyncio.to_thread(exists, location):
        return "any, once the database is there"
    from bot.store.admin.readiness import readiness

    found = await asyncio.to_thread(readiness, location)
    return (
        f"{found.processes} at work, room for {found.room} more: {found.used} of {found.allowed} connections are used"
    )


async def _check_fleet(settings: Settings) -> list[tuple[str, bool, str]]:
    location = settings.database_url
    try:
        if isinstance(location, PostgresAddress) and await asyncio.to_thread(exists, location):
            return await asyncio.to_thread(check_fleet, location)
    except StoreError:
        return []  # the row of the database says it
    return []


async def _check_keys(settings: Settings) -> list[tuple[str, bool, str]]:
    """Name providers that have orders to end and no key; with several processes, another one may have the key."""
    location = settings.database_url
    try:
        jobs = await asyncio.to_thread(open_jobs, location) if isinstance(location, Path) else {}
    except StoreError:
        return []  # the row of the database says it
    return [
        (name, False, f"has no key; unfinished orders ({count}) fail when their time is over")
        for name, count in jobs.items()
        if name not in settings.provider_keys
    ]


def _describe_listeners(settings: Settings) -> str:
    """Say what is served where, and who can reach it."""
    main = f"{settings.http_host}:{settings.http_port}"
    plain = ""
    if settings.public_url is not None and not settings.public_url.startswith("https://"):
        plain = (
            ". WARNING: PUBLIC_URL does not begin with https://. Providers document https alone and may refuse every "
            "order that names it, and the secret paths of orders can be read on their way"
        )
    if settings.webhook_address is not None:
        host, port = settings.webhook_address
        return f"/healthz, /readyz and /metrics on {main}; webhooks alone on {host}:{port}{plain}"
    if settings.public_url is None:
        return f"/healthz, /readyz and /metrics on {main}"
    return (
        f"everything on {main}{plain}. WARNING: /metrics and /readyz can be reached by everybody who can reach the "
        f"webhooks; set WEBHOOK_PORT for a listener that serves nothing else"
    )


NO_USER_INSTALL = (
    "DIRECT_QUOTA_USD is set, but people cannot add this application themselves: switch on User Install on the "
    "Installation page of Discord's developer portal"
)


async def _check_discord(settings: Settings) -> str:
    assert settings.discord_token is not None
    aim_at(settings.discord_api_base)
    clock, trace = TrustedClock(), aiohttp.TraceConfig()
    clock.attach(trace, DISCORD)
    async with discord.Client(intents=discord.Intents.none(), http_trace=trace) as client:
        await client.login(settings.discord_token.get_secret_value())
        invite = discord.utils.oauth_url(client.application_id or 0, permissions=INVITE_PERMISSIONS)
        public = client.application is not None and client.application.bot_public and not settings.allowed_servers
        warnings = [PUBLIC_BOT] if public else []
        if settings.direct_quota_usd and (client.application is None or not client.application.user_integration_config):
            warnings.append(NO_USER_INSTALL)
        if abs(ahead_seconds := clock.skew_seconds()[DISCORD]) > MAX_SKEW.total_seconds():
            warnings.append(
                f"the clock of this machine is {'ahead' if ahead_seconds > 0 else 'behind'} by "
                f"{timedelta(seconds=round(abs(ahead_seconds)))}: set it, or nothing is erased by its age"
            )
        return "; WARNING: ".join([f"logged in as {client.user}; invite: {invite}", *warnings])


async def _check_top_ups(settings: Settings) -> str:
    """Say what is sold for wallets. Raises SettingsError for what Discord would not sell."""
    assert settings.discord_token is not None
    async with discord.Client(intents=discord.Intents.none()) as client:
        await client.login(settings.discord_token.get_secret_value())
        known = {sku.id: sku for sku in await client.fetch_skus()}
    for sku_id in settings.topup_skus:
        sku = known.get(sku_id)
        if sku is None:
            raise SettingsError(f"TOPUP_SKUS names {sku_id}, which is no SKU of this application")
        if sku.type is not discord.SKUType.consumable:
            raise SettingsError(f"TOPUP_SKUS names {sku_id} ({sku.name}), which is not a consumable")
        if not sku.flags.available:
            raise SettingsError(f"TOPUP_SKUS names {sku_id} ({sku.name}), which is not published")
    sold = [f"{known[sku_id].name} pays in {format_usd(amount)}" for sku_id, amount in settings.topup_skus.items()]
    return "; ".join(sold)


# -- the database ---------------------------------------------------------------------------------------------


def backup(file: Path) -> int:
    """Write a consistent copy of the database file."""
    source = _database_file(load_settings(credentials=False), "pg_dump --format=custom --file=COPY ADDRESS")
    copy_database(source, file)
    print(f"written: {file}")
    return 0


def restore(file: Path) -> int:
    """Replace the database file by a backup."""
    settings = load_settings(credentials=False)
    target = _database_file(settings, "pg_restore --dbname=ADDRESS COPY, into an empty database")
    newest_order_at = restore_database(file, target)
    print(f"restored: {target}")
    if newest_order_at is not None:
        print(
            f"Its newest order is of {newest_order_at:%Y-%m-%d %H:%M:%S} UTC, and it lacks everything since. Later "
            f"orders are not known, although the provider charges for them; limits and blocks are as they were. "
            f"Nothing is ordered or posted again. Compare with the provider's list of your jobs."
        )
    erasures = settings.data_folder / app.ERASURES_FILE
    if erasures.exists():
        print(f"What members erased since is erased again at the next start, as {erasures} says.")
    else:
        print(f"There is no list of erasures at {erasures}: put yours there before the start, if you have one.")
    return 0


def _database_file(settings: Settings, instead: str) -> Path:
    """Return the database file. Raises StoreError for one on a server, with the command to use instead."""
    if isinstance(settings.database_url, Path):
        return settings.database_url
    raise StoreError(
        f"This is for a database in a file. One on a PostgreSQL server has the server's own tools: {instead}"
    )


def migrate_to(address: str, *, is_undo: bool) -> int:
    """Move the database file into an empty PostgreSQL database, or make the file usable again."""
    from bot.store.admin.migrate_to_postgres import migrate, undo

    source = _database_file(load_settings(credentials=False), "pg_dump and pg_restore")
    try:
        target = parse_location(address)
    except ValueError:
        target = None
    if not isinstance(target, PostgresAddress):
        # Without the argument itself, which contains a password.
        raise SettingsError("The argument must be an address such as postgresql://user:password@host/database")
    if is_undo:
        undo(source, target)
        print(f"{source} is in use again. Delete the database {target}, so that no bot starts with it")
        return 0
    rows = migrate(source, target)
    for table, count in rows.items():
        print(f"{count:>10}  {table}")
    print(
        f"moved: the ledger balances on both sides. Set DATABASE_URL to the address of {target}; no bot starts with "
        f"{source} any more"
    )
    return 0


def ledger_verify() -> int:
    """Check every invariant of the database and print what violates one."""
    settings = load_settings(credentials=False)
    findings = _findings(settings.database_url)
    for finding in findings:
        print(finding)
    print("the ledger balances" if not findings else f"{len(findings)} findings")
    return 1 if findings else 0


def _findings(location: Location) -> list[str]:
    from bot.store.admin.verify import verify_location

    return [f"{finding.rule}: {finding.detail}" for finding in verify_location(location)]


def ledger_house() -> int:
    """List the jobs whose cost the operator bore: who caused it and why, the sums of each day, and their total."""
    settings = load_settings(credentials=False)
    with open_readonly(settings.database_url) as connection:
        lines = operator_cost_lines(connection)
    for line in lines:
        if line.failure is not None:
            reason = line.failure.replace("_", " ")
        else:
            reason = "came late, free for the member" if line.came_late else "charged above the price"
        amount = format_usd(line.amount_usd_micros)
        print(
            f"{line.at:%Y-%m-%d %H:%M}  {line.job_id}  {line.provider:<6}  {line.model_id:<38}  "
            f"{_who(line.user_id):<27} {_where(line.guild_id):<30}  {amount:>9}  {reason}"
        )
    for sums in _sums_by_day(lines):
        print(sums)
    total = format_usd(sum(line.amount_usd_micros for line in lines))
    print(f"the operator bore {total} for {len(lines)} {'job' if len(lines) == 1 else 'jobs'}")
    return 0


def _sums_by_day(lines: Sequence[OperatorCostLine]) -> Iterator[str]:
    """Yield what each member cost on each UTC day, by which the limits are held: the day of the order."""
    sums: defaultdict[date, Counter[int | None]] = defaultdict(Counter)
    for line in lines:
        sums[line.ordered_at.date()][line.user_id] += line.amount_usd_micros
    for day, by_member in sorted(sums.items()):
        yield f"{day}  {'all members':<27}  {format_usd(by_member.total()):>9}"
        for user_id, amount in by_member.most_common():
            yield f"{day}  {_who(user_id):<27}  {format_usd(amount):>9}"


def _where(guild_id: int) -> str:
    return "outside servers" if guild_id == DIRECT_GUILD_ID else f"in server {guild_id}"


def _who(user_id: int | None) -> str:
    return "former members" if user_id is None else f"member {user_id}"
