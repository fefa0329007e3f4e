"""`python -m bot ledger reconcile`: the ledger beside the provider's list of jobs and an exported bill. Read-only."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp

from bot import app
from bot.domain.errors import SettingsError
from bot.domain.money.bill import Difference, JobList, LedgerJob, compare_invoice, compare_list, read_invoice
from bot.domain.money.quota import format_usd
from bot.settings import Settings, load_settings
from bot.store.admin.readonly import open_readonly
from bot.store.tables.money.operator_costs import ledger_jobs

USUAL_SPAN = timedelta(days=30)
MARGIN = timedelta(days=1)
"""How much earlier an order may have been sent than the provider's first job in the span was created."""


def reconcile(*, since: datetime | None, invoice: Path | None, as_json: bool) -> int:
    """Print what differs; return 1 when anything does."""
    settings = load_settings(credentials=False)
    now = datetime.now(UTC)
    since = since or now - USUAL_SPAN
    lines = None if invoice is None else read_invoice(_content(invoice))
    listed = asyncio.run(_listed(settings, since, now))
    if listed is None and lines is None:
        raise SettingsError("KREA_API_KEY is missing: without it there is only an exported bill to compare (--invoice)")
    # Read after the list, so that what is listed was recorded by then.
    with open_readonly(settings.database_url) as connection:
        jobs = ledger_jobs(connection, since=since - MARGIN)
    found: list[Difference] = []
    if listed is not None:
        found += compare_list(jobs, listed, now=now)
    if lines is not None:
        found += compare_invoice(jobs, lines, since=since)
    print(_as_json(found, jobs, listed, since) if as_json else _as_text(found, jobs, listed, since))
    return 1 if found else 0


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise SettingsError(f"{file} cannot be read: {error.strerror}") from None


async def _listed(settings: Settings, since: datetime, now: datetime) -> JobList | None:
    """Return the provider's list; None without a key. Raises ProviderError."""
    async with aiohttp.ClientSession() as session:
        for provider, _ in app.providers_of(settings, session):
            if provider.lists_costs:
                return await provider.listed_costs(since=since, now=now)
    return None


def _as_text(found: Sequence[Difference], jobs: Sequence[LedgerJob], listed: JobList | None, since: datetime) -> str:
    lines = [str(difference) for difference in found]
    if listed is not None and listed.since > since:
        lines.append(f"the list of {listed.provider} goes back to {listed.since:%Y-%m-%d %H:%M} only")
    compared = sum(job.submitted_at >= since for job in jobs)
    if not found:
        return "\n".join([*lines, f"nothing is open: {compared} orders since {since:%Y-%m-%d} compared"])
    kinds = Counter(difference.kind for difference in found)
    ours = sum(difference.ledger_usd_micros or 0 for difference in found)
    theirs = sum(difference.provider_usd_micros or 0 for difference in found)
    counted = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    lines.append(
        f"{len(found)} open ({counted}); of these the ledger has {format_usd(ours)}, the provider states "
        f"{'-' if theirs < 0 else ''}{format_usd(abs(theirs))}"
    )
    return "\n".join(lines)


def _as_json(found: Sequence[Difference], jobs: Sequence[LedgerJob], listed: JobList | None, since: datetime) -> str:
    document = {
        "since": since.isoformat(),
        "listed_since": None if listed is None else listed.since.isoformat(),
        "compared": sum(job.submitted_at >= since for job in jobs),
        "open": [
            {
                "kind": difference.kind,
                "provider": difference.provider,
                "remote_id": difference.remote_id,
                "job_id": difference.job_id,
                "detail": difference.detail,
                "ledger_usd_micros": difference.ledger_usd_micros,
                "provider_usd_micros": difference.provider_usd_micros,
            }
            for difference in found
        ],
    }
    return json.dumps(document, indent=1, ensure_ascii=False)
