"""Parsing: no answer of a provider makes it fail, and none makes it show what must stay private."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.domain.errors import ProviderUnavailable
from bot.domain.jobs import FailureReason, JobStatus
from bot.providers.api_client import open_session
from bot.providers.krea import KreaProvider
from bot.providers.parsing import (
    read_cost_usd_micros,
    read_error_body,
    read_id,
    read_image_urls,
    read_preview_url,
    read_time,
)
from bot.providers.pixazo import PixazoProvider
from bot.runtime.logs import Redactor
from sandbox.plans import Trouble
from sandbox.provider import SandboxProvider

SECRET = "key-0815"
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=60) | st.just(SECRET)
    | st.sampled_from(["https://x/1.png", "http://x/2.png", "ftp://x", "nsfw", "failed", "completed", "queued"]),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(
        st.sampled_from(["error", "message", "code", "detail", "loc", "msg", "url", "type", "urls", "status", "result"])
        | st.text(max_size=8),
        inner,
        max_size=5,
    ),
    max_leaves=12,
)  # fmt: skip


@given(ANY_JSON)
def test_any_complaint_becomes_one_clean_short_line(document: Any) -> None:
    error_body = read_error_body(document, redact=Redactor([SECRET]))
    for line in (error_body.hint, error_body.summary, error_body.as_failure().hint):
        assert SECRET not in line
        assert line.isprintable()
        assert "http" not in line or "://" not in line
    assert len(error_body.hint) <= 200
    assert error_body.as_failure().reason in (FailureReason.MODERATED, FailureReason.PROVIDER_FAILED)


@given(ANY_JSON)
def test_any_result_gives_web_addresses_or_nothing(document: Any) -> None:
    urls = read_image_urls(document)
    assert all(url.startswith(("http://", "https://")) for url in urls)
    assert len(set(urls)) == len(urls)
    shown = read_preview_url(document)
    assert shown is None or shown.startswith(("http://", "https://"))


@given(
    st.dictionaries(
        st.sampled_from(["job_id", "status", "result", "error", "created_at", "cost_usd", "output"]), ANY_JSON
    )
)
def test_any_job_is_read_as_some_update(job: dict[str, Any]) -> None:
    word = job["status"] if isinstance(job.get("status"), str) else "odd"
    for provider in (KreaProvider, PixazoProvider):
        reader = provider(None, base_url="http://127.0.0.1", api_key="k")  # type: ignore[arg-type]
        update = reader._update("r", word, job)
        assert (update.failure is not None) == (update.status is JobStatus.FAILED)
        assert update.result_urls == () or update.status is JobStatus.SUCCEEDED
        assert update.preview_url is None or update.status is JobStatus.RUNNING


@pytest.mark.f25
@pytest.mark.f27
@given(st.text())
def test_any_status_text_is_running_unless_documented(word: str) -> None:
    reader = KreaProvider(None, base_url="http://127.0.0.1", api_key="k")  # type: ignore[arg-type]
    final = {"completed": JobStatus.SUCCEEDED, "failed": JobStatus.FAILED, "cancelled": JobStatus.CANCELLED}
    assert reader._update("r", word, {}).status is final.get(word.strip().lower(), JobStatus.RUNNING)


@pytest.mark.hostile("G-14")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-21T08:00:00Z", datetime(2026, 11, 21, 8, tzinfo=UTC)),
        ("2026-11-21T08:00:00.123456+02:00", datetime(2026, 11, 21, 6, 0, 0, 123456, tzinfo=UTC)),
        ("2026-11-21T08:00:00", datetime(2026, 11, 21, 8, tzinfo=UTC)),
        ("0001-01-01T00:00:00+14:00", None),
        ("0001-01-01T00:00:00Z", None),
        ("9999-12-31T23:59:59Z", None),
        ("1970-01-01T00:00:00Z", None),
        ("yesterday", None),
        (1763712000, None),
        (None, None),
    ],
)
def test_times_are_aware_utc_or_nothing(text: Any, expected: datetime | None) -> None:
    assert read_time(text) == expected


@pytest.mark.hostile("G-14")
@pytest.mark.parametrize(
    ("job", "expected"),
    [
        ({"cost_usd": 0.0175}, 17_500),
        ({"cost_usd": "0.065"}, 65_000),
        ({"cost_microdollars": 80_000, "cost_usd": 9}, 80_000),
        ({"cost_usd": 0.00000001}, 1),
        ({"cost_usd": 0}, 0),
        ({"cost_usd": -1}, None),
        ({"cost_usd": 1e12}, None),
        ({"cost_usd": "9e999999"}, None),
        ({"cost_usd": "-9e999999"}, None),
        ({"cost_usd": "1e-999999"}, 1),
        ({"cost_usd": 10**400}, None),
        ({"cost_usd": "9" * 100_000}, None),
        ({"cost_usd": float("nan")}, None),
        ({"cost_microdollars": "sNaN", "cost_usd": 1}, 1_000_000),
        ({"cost_usd": True}, None),
        ({"cost_usd": "free"}, None),
        ({"cost_usd": float("inf")}, None),
        ({}, None),
    ],
)
def test_a_stated_cost_is_exact_or_absent(job: dict[str, Any], expected: int | None) -> None:
    assert read_cost_usd_micros(job) == expected


@pytest.mark.parametrize("value", ["", ".", "..", "a b", "x" * 201, "ü", "a\n", 7, None, ["a"]])
def test_ids_that_do_not_fit_a_path_are_none(value: Any) -> None:
    assert read_id(value) is None


def test_a_deeply_nested_answer_does_not_overwhelm() -> None:
    nested = json.loads("[" * 400 + '"https://x/1.png"' + "]" * 400)
    assert read_image_urls(nested) == ()


async def test_a_list_that_never_ends_is_not_taken_for_the_whole() -> None:
    async with SandboxProvider() as sandbox, open_session() as session:
        krea = KreaProvider(session, base_url=sandbox.krea_base, api_key=sandbox.krea_key)
        now = datetime.now(UTC).isoformat()
        pages = [
            Trouble(status=200, body={"items": [{"job_id": f"job-{n}", "created_at": now}], "nextCursor": f"{n}"})
            for n in range(30)
        ]
        sandbox.next_answers("list", *pages)
        with pytest.raises(ProviderUnavailable, match="more than"):
            await krea.recent(since=datetime(2020, 1, 1, tzinfo=UTC))


# -- status words that are not documented -------------------------------------------------------------

DONE_AT = "2026-11-29T08:00:00Z"
IMAGE = "https://x/1.png"


@pytest.mark.hostile("G-31")
@pytest.mark.parametrize(
    ("job", "expected"),
    [
        ({"completed_at": DONE_AT, "result": {"urls": [IMAGE]}}, JobStatus.SUCCEEDED),
        ({"completed_at": DONE_AT, "result": {"urls": [IMAGE]}, "error": "a part failed"}, JobStatus.SUCCEEDED),
        ({"result": {"urls": [IMAGE]}}, JobStatus.SUCCEEDED),
        ({"completed_at": DONE_AT, "error": {"message": "no luck"}}, JobStatus.FAILED),
        ({"completed_at": DONE_AT, "result": {"error": "no luck"}}, JobStatus.FAILED),
        ({"completed_at": None, "result": {"urls": [IMAGE]}}, JobStatus.RUNNING),
        ({"completed_at": DONE_AT, "result": {"urls": [{"type": "preview", "url": IMAGE}]}}, JobStatus.RUNNING),
        ({"completed_at": None, "error": "trying again"}, JobStatus.RUNNING),
        ({"completed_at": DONE_AT}, JobStatus.RUNNING),
        ({"completed_at": "9999-12-31T00:00:00Z", "error": "no luck"}, JobStatus.RUNNING),
        ({}, JobStatus.RUNNING),
    ],
)
def test_for_an_unknown_word_what_the_job_holds_decides(job: dict[str, Any], expected: JobStatus) -> None:
    reader = KreaProvider(None, base_url="http://127.0.0.1", api_key="k")  # type: ignore[arg-type]
    update = reader._update("r", "archived", {"status": "archived", **job})
    assert update.status is expected
    assert update.may_be_charged == (expected is JobStatus.FAILED), "only documented failures are known to be free"
    assert bool(update.result_urls) == (expected is JobStatus.SUCCEEDED)
    other = PixazoProvider(None, base_url="http://127.0.0.1", api_key="k")  # type: ignore[arg-type]
    output = {"media_url": job.get("result", {}).get("urls")}
    error = job.get("error") or job.get("result", {}).get("error")
    translated = {**job, "status": "archived", "output": output, "error": error}
    assert other._update("r", "archived", translated).status is expected


@pytest.mark.hostile("G-31")
def test_each_new_word_is_new_once_and_not_without_end() -> None:
    reader = KreaProvider(None, base_url="http://127.0.0.1", api_key="k")  # type: ignore[arg-type]
    words = ["queued", *(word for number in range(50) for word in (f"odd {number}", f" ODD {number} "))]
    new = [word for word in words if reader._update("r", word, {"status": word}).is_new_word]
    assert new == [f"odd {number}" for number in range(10)]
