"""What a process says about itself to the others, and the rows of `check` about all of them."""

from __future__ import annotations

import hashlib
import secrets
from functools import cache
from pathlib import Path

from bot.domain.deployment.database_url import PostgresAddress
from bot.domain.deployment.fleet import ProcessInfo, disagreements
from bot.domain.deployment.process_role import Role, Shards
from bot.domain.money.quota import format_usd
from bot.settings import Settings
from bot.store.admin.readonly import open_server_readonly
from bot.store.tables.shared import processes

_ROOT = Path(__file__).parents[2]


def describe_process(settings: Settings, *, role: Role, shards: Shards | None, overrides: Path) -> ProcessInfo:
    """Describe this process, without any secret. `overrides` is the operator's file of prices, which need not exist."""
    prices = hashlib.sha256(overrides.read_bytes()).hexdigest()[:8] if overrides.exists() else "none"
    return ProcessInfo(
        id=secrets.token_hex(4),
        role=role,
        version=_code_version(),
        shards="" if shards is None else f"{shards.ids[0]}-{shards.ids[-1]}/{shards.count}",
        provider_keys=tuple(sorted(settings.provider_keys)),
        settings={
            **({} if role is Role.WORKER else {"DEFAULT_MODEL": settings.default_model}),
            "DEFAULT_QUOTA_USD": format_usd(settings.default_quota_usd),
            "DEFAULT_QUOTA_PERIOD": settings.default_quota_period,
            "DIRECT_QUOTA_USD": format_usd(settings.direct_quota_usd),
            "DIRECT_QUOTA_PERIOD": settings.direct_quota_period,
            "OPERATOR_DAILY_CAP_USD": format_usd(settings.operator_daily_cap_usd),
            "OPERATOR_SERVER_CAP_USD": format_usd(settings.server_cap_usd_micros),
            "OPERATOR_COST_PER_MEMBER_USD": format_usd(settings.operator_cost_per_member_usd),
            "OPERATOR_COST_DAILY_CAP_USD": format_usd(settings.cost_daily_cap_usd_micros),
            "MAX_RUNNING_JOBS_PER_USER": str(settings.max_running_jobs_per_user),
            **{f"{each.name.upper()}_MAX_CONCURRENCY": str(each.max_concurrency) for each in settings.providers},
            overrides.name: prices,
        },
    )


@cache
def _code_version() -> str:
    """Return eight hexadecimal digits that are equal for equal programs: builds between releases share a number."""
    digest = hashlib.sha256()
    for file in sorted(file for folder in ("bot", "cogs") for file in (_ROOT / folder).rglob("*.py")):
        digest.update(str(file.relative_to(_ROOT)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:8]


def check_fleet(location: PostgresAddress) -> list[tuple[str, bool, str]]:
    """Return a row for each process that was seen lately, and one for each thing on which they disagree."""
    with open_server_readonly(location) as connection:
        found = processes.every(connection)
    rows = [(process.name, process.is_alive, _describe(process)) for process in found]
    return [*rows, *(("fleet", False, what) for what in disagreements(found))]


def _describe(process: ProcessInfo) -> str:
    keys = " and ".join(process.provider_keys) or "no provider"
    shards = "" if process.role is Role.WORKER else f"shards {process.shards or 'all'}, "
    seen = f"seen {process.age_seconds:.0f} s ago"
    return f"{shards}keys for {keys}, version {process.version}, {seen if process.is_alive else f'gone: {seen}'}"
