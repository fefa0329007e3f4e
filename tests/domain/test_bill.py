"""Bills: each thing that only one side knows, or that both say differently, is named, and nothing else is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from bot.domain.errors import SettingsError
from bot.domain.jobs import JobStatus
from bot.domain.money.bill import (
    InvoiceLine,
    JobList,
    Kind,
    LedgerJob,
    ListedJob,
    compare_invoice,
    compare_list,
    read_invoice,
)

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
SINCE = NOW - timedelta(days=10)


def sent_at(number: int) -> datetime:
    return SINCE + timedelta(hours=1, minutes=5 * number)


def ledger_job(
    number: int, *, paid: int = 7_000, status: JobStatus = JobStatus.SUCCEEDED, erased: bool = False
) -> LedgerJob:
    return LedgerJob(
        job_id=f"job-{number}",
        provider="krea",
        model_id="krea/bfl/flux-1-dev",
        remote_id=f"erased job-{number}" if erased else f"remote-{number}",
        status=status,
        submitted_at=sent_at(number),
        paid_usd_micros=paid,
    )


def listed_job(number: int, *, cost: int | None = None, status: JobStatus = JobStatus.SUCCEEDED) -> ListedJob:
    created_at = sent_at(number) + timedelta(seconds=2)
    return ListedJob(remote_id=f"remote-{number}", status=status, created_at=created_at, cost_usd_micros=cost)


def a_list(*jobs: ListedJob) -> JobList:
    return JobList(provider="krea", jobs=jobs, since=SINCE)


def test_fifty_injected_differences_are_each_found_and_named_and_no_other():
    ledger = [ledger_job(number) for number in range(500)]
    listed = [listed_job(number, cost=7_000 if number % 2 else None) for number in range(500)]
    wanted: dict[str, Kind] = {}
    for number in range(0, 100, 10):  # the provider has it, we do not
        ledger[number] = ledger_job(number + 10_000, erased=True)
        wanted[f"remote-{number}"] = Kind.ONLY_AT_PROVIDER
    gone = range(101, 200, 10)
    listed = [job for number, job in enumerate(listed) if number not in gone]
    wanted |= {f"remote-{number}": Kind.ONLY_IN_LEDGER for number in gone}
    for number in range(201, 300, 10):  # by one micro-dollar
        listed[number - len(gone)] = listed_job(number, cost=7_001)
        wanted[f"remote-{number}"] = Kind.AMOUNT
    for number in range(300, 400, 10):  # completed there, given back here
        ledger[number] = ledger_job(number, paid=0, status=JobStatus.FAILED)
        wanted[f"remote-{number}"] = Kind.OUTCOME
    for number in range(400, 500, 10):  # not billed there, charged here
        listed[number - len(gone)] = listed_job(number, status=JobStatus.FAILED)
        wanted[f"remote-{number}"] = Kind.OUTCOME
    found = compare_list(ledger, a_list(*listed), now=NOW)
    assert {difference.remote_id: difference.kind for difference in found} == wanted
    assert len(found) == 50
    amount = next(difference for difference in found if difference.kind is Kind.AMOUNT)
    assert str(amount) == "amount: job job-201, krea remote-201: the ledger has $0.007, the provider $0.007001"
    assert (amount.ledger_usd_micros, amount.provider_usd_micros) == (7_000, 7_001)


def test_what_is_under_way_erased_or_older_than_the_list_is_no_difference():
    ledger = [
        ledger_job(0, erased=True),
        ledger_job(1, paid=0, status=JobStatus.RUNNING),
        LedgerJob(**{**_values(ledger_job(2, paid=0, status=JobStatus.UNCERTAIN)), "remote_id": None}),
        LedgerJob(**{**_values(ledger_job(3)), "submitted_at": SINCE - timedelta(hours=1)}),
    ]
    fresh = ListedJob(remote_id="fresh", status=JobStatus.RUNNING, created_at=NOW - timedelta(seconds=30))
    listed = a_list(listed_job(0), listed_job(1, status=JobStatus.SUCCEEDED), listed_job(2), fresh)
    assert compare_list(ledger, listed, now=NOW) == []


def _values(job: LedgerJob) -> dict[str, object]:
    return {name: getattr(job, name) for name in LedgerJob.__dataclass_fields__}


def test_one_erased_order_explains_one_job_only():
    two = [listed_job(0), ListedJob(remote_id="other", status=JobStatus.SUCCEEDED, created_at=sent_at(0))]
    (difference,) = compare_list([ledger_job(0, erased=True)], a_list(*two), now=NOW)
    assert difference.kind is Kind.ONLY_AT_PROVIDER


def test_a_bill_is_compared_to_the_micro_dollar():
    ledger = [ledger_job(number) for number in range(4)]
    lines = [
        InvoiceLine(remote_id="remote-0", amount_usd_micros=7_000, at=sent_at(0)),
        InvoiceLine(remote_id="remote-1", amount_usd_micros=7_000, at=sent_at(1)),
        InvoiceLine(remote_id="remote-1", amount_usd_micros=7_000, at=sent_at(1)),  # twice
        InvoiceLine(remote_id="remote-3", amount_usd_micros=6_999, at=sent_at(3)),
        InvoiceLine(remote_id="nobody", amount_usd_micros=80_000, at=sent_at(3)),
    ]
    found = compare_invoice(ledger, lines, since=SINCE)
    assert [(difference.kind, difference.remote_id) for difference in found] == [
        (Kind.AMOUNT, "remote-1"),
        (Kind.AMOUNT, "remote-3"),
        (Kind.ONLY_ON_INVOICE, "nobody"),
        (Kind.NOT_ON_INVOICE, "remote-2"),
    ]
    assert found[1].detail == "the ledger has $0.007, the invoice $0.006999"


def test_a_bill_is_read_by_the_names_of_its_columns():
    lines = ("Date,Job_ID,Amount_USD,Model", "2026-11-20T10:00:00Z,remote-1,$0.0429,nano", "2026-11-20,,5.00,top-up")
    data = b"\xef\xbb\xbf" + "\r\n".join(lines).encode()
    (line,) = read_invoice(data)
    assert (line.remote_id, line.amount_usd_micros) == ("remote-1", 42_900)
    assert line.at == datetime(2026, 11, 20, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"model,amount\nx,1\n", "no column of the provider's ids"),
        (b"id,model\nx,1\n", "no column of amounts"),
        (b"id,amount\nx,free\n", "line 2 of the invoice has no amount"),
        (b"id,amount\nx,0.0000001\n", "whole micro-dollars"),
        (b"id,amount\nx,1e99999999\n", "no amount in dollars"),
        (b"id,amount\nx,1e20\n", "whole micro-dollars"),
        (b"\xff\xfe\x00", "not a CSV file"),
        (b"", "no column"),
    ],
)
def test_a_bill_that_cannot_be_read_is_one_sentence(data: bytes, said: str):
    with pytest.raises(SettingsError, match=said):
        read_invoice(data)
