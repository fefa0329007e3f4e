"""Bills: comparing what the ledger says we paid with what a provider lists and with its exported invoice. No I/O.

Nothing here decides; it only names what differs, to the micro-dollar, so that a person can ask.
"""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from bot.domain.errors import SettingsError
from bot.domain.jobs import JobStatus
from bot.domain.money.quota import MICROS_PER_USD, format_usd

MAX_INVOICE_BYTES = 50 * 2**20
MAX_INVOICE_ROWS = 1_000_000

MATCH_WITHIN = timedelta(minutes=2)
"""How far our time of sending and the provider's time of creation of one job may be apart."""

_ID_COLUMNS = ("job_id", "request_id", "id", "job", "reference", "generation_id")
_AMOUNT_COLUMNS = ("amount_usd", "cost_usd", "amount", "cost", "price", "usd", "total", "charge")
_TIME_COLUMNS = ("created_at", "completed_at", "date", "time", "timestamp", "at")
_ERASED = "erased "
"""How the id begins of a job whose provider's id was forgotten with its member."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LedgerJob:
    """One order as the ledger has it. `paid_usd_micros` is what was charged and what the operator bore."""

    job_id: str
    provider: str
    model_id: str
    remote_id: str | None
    status: JobStatus
    submitted_at: datetime
    paid_usd_micros: int

    @property
    def is_erased(self) -> bool:
        """Whether the provider's id of the job was forgotten."""
        return self.remote_id is not None and self.remote_id.startswith(_ERASED)


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedJob:
    """One job in the provider's own list. `cost_usd_micros` is None where the list has no amounts."""

    remote_id: str
    status: JobStatus
    created_at: datetime | None = None
    cost_usd_micros: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class JobList:
    """What the provider lists. `since` is from when on nothing is missing."""

    provider: str
    jobs: Sequence[ListedJob]
    since: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class InvoiceLine:
    """One amount of an exported bill; `at` is None where the bill has no times."""

    remote_id: str
    amount_usd_micros: int
    at: datetime | None = None


class Kind(StrEnum):
    """What differs."""

    ONLY_AT_PROVIDER = "only at the provider"
    ONLY_IN_LEDGER = "only in the ledger"
    ONLY_ON_INVOICE = "only on the invoice"
    NOT_ON_INVOICE = "not on the invoice"
    AMOUNT = "amount"
    OUTCOME = "outcome"


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """One thing that only one side knows or that both sides say differently. Amounts are None where there is none."""

    kind: Kind
    provider: str
    remote_id: str | None
    job_id: str | None
    detail: str
    ledger_usd_micros: int | None = None
    provider_usd_micros: int | None = None

    def __str__(self) -> str:
        names = [f"job {self.job_id}" if self.job_id else "", f"{self.provider} {self.remote_id or ''}".strip()]
        return f"{self.kind}: {', '.join(name for name in names if name)}: {self.detail}"


@dataclass(slots=True)
class _Matched:
    """The jobs of one provider, by the provider's ids."""

    by_remote_id: dict[str, LedgerJob] = field(default_factory=dict[str, LedgerJob])
    erased: list[LedgerJob] = field(default_factory=list[LedgerJob])
    unsure: list[LedgerJob] = field(default_factory=list[LedgerJob])
    """Sent, without an id yet: the answer was lost, or is under way."""

    def take_near(self, at: datetime | None) -> bool:
        """Return whether a job without a usable id was sent at about this time; each is taken once."""
        for jobs in (self.erased, self.unsure):
            for job in jobs:
                if at is not None and abs(job.submitted_at - at) <= MATCH_WITHIN:
                    jobs.remove(job)
                    return True
        return False


def _matched(ledger: Iterable[LedgerJob], provider: str) -> _Matched:
    found = _Matched()
    for job in ledger:
        if job.provider != provider:
            continue
        if job.is_erased:
            found.erased.append(job)
        elif job.remote_id is not None:
            found.by_remote_id[job.remote_id] = job
        elif job.status in (JobStatus.SUBMITTING, JobStatus.UNCERTAIN):
            found.unsure.append(job)
    return found


def compare_list(ledger: Sequence[LedgerJob], listed: JobList, *, now: datetime) -> list[Difference]:
    """Compare the ledger with the provider's list: what only one has, outcomes, and amounts where the list has them."""
    provider = listed.provider
    ours = _matched(ledger, provider)
    found: list[Difference] = []
    seen: set[str] = set()
    for remote in listed.jobs:
        if remote.remote_id in seen or (remote.created_at is not None and remote.created_at < listed.since):
            continue
        seen.add(remote.remote_id)
        job = ours.by_remote_id.get(remote.remote_id)
        if job is not None:
            found += _compare_job(job, remote)
        elif remote.created_at is not None and now - remote.created_at < MATCH_WITHIN:
            continue  # its order may still be on its way into the ledger
        elif not ours.take_near(remote.created_at):
            cost = remote.cost_usd_micros
            priced = "" if cost is None else f" for {format_usd(cost)}"
            found.append(
                Difference(
                    kind=Kind.ONLY_AT_PROVIDER,
                    provider=provider,
                    remote_id=remote.remote_id,
                    job_id=None,
                    detail=f"{remote.status}{priced}, created {_time(remote.created_at)}; the ledger does not know it",
                    provider_usd_micros=cost,
                )
            )
    begun = max(listed.since + MATCH_WITHIN, listed.since)
    found += [
        Difference(
            kind=Kind.ONLY_IN_LEDGER,
            provider=provider,
            remote_id=job.remote_id,
            job_id=job.job_id,
            detail=f"{job.status}, {format_usd(job.paid_usd_micros)}, sent {_time(job.submitted_at)}; it is not listed",
            ledger_usd_micros=job.paid_usd_micros,
        )
        for remote_id, job in ours.by_remote_id.items()
        if remote_id not in seen and begun <= job.submitted_at <= now - MATCH_WITHIN
    ]
    return found


def _compare_job(job: LedgerJob, remote: ListedJob) -> list[Difference]:
    if not job.status.is_final or not remote.status.is_final:
        return []
    paid, cost = job.paid_usd_micros, remote.cost_usd_micros
    if remote.status is JobStatus.SUCCEEDED and cost is not None:
        kind, detail = Kind.AMOUNT, f"the ledger has {format_usd(paid)}, the provider {format_usd(cost)}"
        is_different = paid != cost
    elif remote.status is JobStatus.SUCCEEDED:
        kind, detail = Kind.OUTCOME, f"completed at the provider; {job.status} in the ledger, with nothing paid"
        is_different = paid == 0
    else:
        kind = Kind.OUTCOME
        detail = f"{remote.status} at the provider, which is not billed; the ledger has {format_usd(paid)}"
        is_different = paid != 0
        cost = 0
    return (
        [
            Difference(
                kind=kind,
                provider=job.provider,
                remote_id=job.remote_id,
                job_id=job.job_id,
                detail=detail,
                ledger_usd_micros=paid,
                provider_usd_micros=cost,
            )
        ]
        if is_different
        else []
    )


def compare_invoice(ledger: Sequence[LedgerJob], lines: Sequence[InvoiceLine], *, since: datetime) -> list[Difference]:
    """Compare the ledger with an exported bill. Only jobs of providers and times that the bill is about are missed."""
    billed: defaultdict[str, int] = defaultdict(int)
    times: dict[str, datetime] = {}
    for line in lines:
        billed[line.remote_id] += line.amount_usd_micros
        if line.at is not None:
            times.setdefault(line.remote_id, line.at)
    known = {job.remote_id: job for job in ledger if job.remote_id is not None and not job.is_erased}
    providers = {known[remote_id].provider for remote_id in billed if remote_id in known}
    erased = {provider: _matched(ledger, provider) for provider in {job.provider for job in ledger}}
    found: list[Difference] = []
    for remote_id, amount in billed.items():
        job, at = known.get(remote_id), times.get(remote_id)
        if job is None:
            is_erased = any(matched.take_near(at) for matched in erased.values())
            if amount and not is_erased and (at is None or at >= since):
                detail = f"{format_usd(amount)}; the ledger does not know it"
                found.append(_on_invoice(Kind.ONLY_ON_INVOICE, remote_id, None, detail, None, amount))
        elif job.status.is_final and job.paid_usd_micros != amount:
            detail = f"the ledger has {format_usd(job.paid_usd_micros)}, the invoice {_signed(amount)}"
            found.append(_on_invoice(Kind.AMOUNT, remote_id, job, detail, job.paid_usd_micros, amount))
    first, last = (min(times.values()), max(times.values())) if times else (since, None)
    for remote_id, job in known.items():
        is_covered = job.submitted_at >= max(first, since) and (last is None or job.submitted_at <= last)
        if remote_id not in billed and job.paid_usd_micros and job.provider in providers and is_covered:
            detail = f"the ledger has {format_usd(job.paid_usd_micros)}, sent {_time(job.submitted_at)}"
            found.append(_on_invoice(Kind.NOT_ON_INVOICE, remote_id, job, detail, job.paid_usd_micros, None))
    return found


def _on_invoice(
    kind: Kind, remote_id: str, job: LedgerJob | None, detail: str, ours: int | None, theirs: int | None
) -> Difference:
    return Difference(
        kind=kind,
        provider="invoice" if job is None else job.provider,
        remote_id=remote_id,
        job_id=None if job is None else job.job_id,
        detail=detail,
        ledger_usd_micros=ours,
        provider_usd_micros=theirs,
    )


def _signed(amount: int) -> str:
    return format_usd(amount) if amount >= 0 else f"-{format_usd(-amount)}"


def _time(moment: datetime | None) -> str:
    return "at an unknown time" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S}"


# -- the exported bill -----------------------------------------------------------------------------------


def read_invoice(data: bytes) -> list[InvoiceLine]:
    """Read an exported bill: CSV with a line of names, a column of ids and one of amounts in dollars.

    Lines without an id, such as a top-up, are left out. Raises SettingsError with what is wrong.
    """
    if len(data) > MAX_INVOICE_BYTES:
        raise SettingsError(f"the invoice is larger than {MAX_INVOICE_BYTES // 2**20} MiB")
    try:
        rows = csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
        names = {(name or "").strip().casefold(): name for name in rows.fieldnames or ()}
        id_column = _column(names, _ID_COLUMNS, "the provider's ids of jobs")
        amount_column = _column(names, _AMOUNT_COLUMNS, "amounts in dollars")
        time_column = next((names[name] for name in _TIME_COLUMNS if name in names), None)
        lines: list[InvoiceLine] = []
        for number, row in enumerate(rows, start=2):
            if number > MAX_INVOICE_ROWS:
                raise SettingsError(f"the invoice has more than {MAX_INVOICE_ROWS:,} lines")
            if remote_id := (row.get(id_column) or "").strip():
                amount = _micros((row.get(amount_column) or "").strip(), number)
                at = _moment((row.get(time_column) or "").strip()) if time_column else None
                lines.append(InvoiceLine(remote_id=remote_id, amount_usd_micros=amount, at=at))
    except (UnicodeDecodeError, csv.Error) as error:
        raise SettingsError(f"the invoice is not a CSV file in UTF-8: {error}") from None
    return lines


def _column(names: Mapping[str, str], wanted: Sequence[str], what: str) -> str:
    found = next((names[name] for name in wanted if name in names), None)
    if found is None:
        raise SettingsError(f"the invoice has no column of {what}: one of {', '.join(wanted)}")
    return found


def _micros(text: str, number: int) -> int:
    try:
        amount = Decimal(text.replace("$", "").replace(" ", "")[:40]) * MICROS_PER_USD
    except ArithmeticError:
        raise SettingsError(f"line {number} of the invoice has no amount in dollars") from None
    if not amount.is_finite() or abs(amount) > 10**15 or amount != int(amount):
        raise SettingsError(f"line {number} of the invoice has an amount that is not in whole micro-dollars")
    return int(amount)


def _moment(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text[:40])
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
