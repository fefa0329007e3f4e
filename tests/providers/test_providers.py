"""Krea and Pixazo over real sockets: every documented answer, and what each failure says about the money."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import socket
import threading
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import aiohttp
import pytest
import time_machine
from PIL import Image

from bot.domain.errors import (
    ForeignAnswer,
    OutcomeUncertain,
    ProviderDenied,
    ProviderError,
    ProviderRejected,
    ProviderUnavailable,
)
from bot.domain.jobs import FailureReason, JobStatus, Progress
from bot.providers import api_client, parsing
from bot.providers.api_client import Timeouts, Timing, open_session
from bot.providers.base import Provider, ProviderRequest, Update
from bot.providers.krea import KreaProvider
from bot.providers.pixazo import PixazoProvider
from bot.providers.poller import Poller
from sandbox.plans import LOST_ANSWER, Ending, ErrorForm, How, Plan, Shape, Trouble
from sandbox.provider import SandboxProvider

CANARY = "canary-7f3a:do-not-tell"
FLUX = "/generate/image/bfl/flux-1-dev"
PIXAZO_PATH = "/krea-2-large-text-to-image/v1/krea-2-large-text-to-image-request"
# `silence_seconds` is what each test of a hanging server takes.
TIMEOUTS = Timeouts(connect_seconds=10, silence_seconds=3, total_seconds=20)
TIMING = Timing(submit=TIMEOUTS, read=TIMEOUTS, upload=TIMEOUTS, pause_seconds=0.01)


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with open_session() as opened:
        yield opened


@pytest.fixture
async def sandbox() -> AsyncIterator[SandboxProvider]:
    async with SandboxProvider(steps_by_reads=True, krea_key=CANARY, pixazo_key=CANARY) as started:
        yield started


@pytest.fixture
def krea(session: aiohttp.ClientSession, sandbox: SandboxProvider) -> KreaProvider:
    return a_krea(session, sandbox.krea_base)


@pytest.fixture
def pixazo(session: aiohttp.ClientSession, sandbox: SandboxProvider) -> PixazoProvider:
    return PixazoProvider(session, base_url=sandbox.pixazo_base, api_key=CANARY, timing=TIMING)


def a_krea(session: aiohttp.ClientSession, base: str, key: str = CANARY) -> KreaProvider:
    return KreaProvider(session, base_url=base, api_key=key, timing=TIMING)


def an_order(prompt: str = "a fox", **fields: Any) -> ProviderRequest:
    return ProviderRequest(path=FLUX, body={"prompt": prompt, **fields})


def a_pixazo_order(prompt: str = "a fox", **fields: Any) -> ProviderRequest:
    return ProviderRequest(path=PIXAZO_PATH, body={"prompt": prompt, **fields})


def a_png(size: tuple[int, int] = (64, 64)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, "teal").save(buffer, "PNG")
    return buffer.getvalue()


async def life_of(provider: Provider, remote_id: str) -> list[Update]:
    """Return every different reading until the job is final."""
    updates: list[Update] = []
    for _ in range(50):
        update = await provider.fetch(remote_id)
        if not updates or update.provider_status != updates[-1].provider_status:
            updates.append(update)
        if update.status.is_final:
            return updates
        await asyncio.sleep(0.001)
    return updates


async def the_end(provider: Provider, remote_id: str) -> Update:
    return (await life_of(provider, remote_id))[-1]


def everything_about(error: BaseException) -> str:
    """Return what a log or traceback could show of an error: texts, reprs and attributes, of all causes."""
    told = "".join(traceback.format_exception(error))
    seen: BaseException | None = error
    while seen is not None:
        told += repr(seen) + str(seen) + repr(vars(seen)) + repr(seen.args)
        seen = seen.__cause__ or seen.__context__
    return told


Speak = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def a_server(speak: Speak) -> AsyncIterator[str]:
    """Start a server that answers exactly these bytes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await speak(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def a_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(
        (int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")), 0
    )
    return head + await reader.readexactly(length)


# -- the life of a job ------------------------------------------------------------------------------------


async def test_a_krea_job_goes_through_all_documented_statuses(krea: KreaProvider, sandbox: SandboxProvider) -> None:
    remote = await krea.submit(an_order(seed=7))
    assert remote.progress is Progress.WAITING
    assert remote.created_at is not None
    assert abs(remote.created_at - datetime.now(UTC)) < timedelta(minutes=1)
    updates = await life_of(krea, remote.remote_id)
    assert [(update.provider_status, update.status, update.progress) for update in updates] == [
        ("queued", JobStatus.RUNNING, Progress.WAITING),
        ("scheduled", JobStatus.RUNNING, Progress.WAITING),
        ("processing", JobStatus.RUNNING, Progress.PROCESSING),
        ("sampling", JobStatus.RUNNING, Progress.SAMPLING),
        ("intermediate-complete", JobStatus.RUNNING, Progress.PREVIEW),
        ("completed", JobStatus.SUCCEEDED, None),
    ]
    assert updates[4].preview_url is not None
    assert all(update.result_urls == () for update in updates[:-1]), "a preview is never a result"
    assert updates[-1].result_urls == (sandbox.jobs[remote.remote_id].image_url,)
    assert sandbox.bill_usd_micros == 7_000
    assert sandbox.violations == []


async def test_a_pixazo_job_goes_through_all_documented_words(pixazo: PixazoProvider, sandbox: SandboxProvider) -> None:
    sandbox.next_order(Plan(polling_url="http://127.0.0.1:9/elsewhere"))
    remote = await pixazo.submit(a_pixazo_order(aspect_ratio="16:9", creativity="low"))
    assert remote.remote_id.startswith("krea-2-large-text-to-image_")
    updates = await life_of(pixazo, remote.remote_id)
    assert [(update.provider_status, update.status) for update in updates] == [
        ("QUEUED", JobStatus.RUNNING),
        ("PROCESSING", JobStatus.RUNNING),
        ("COMPLETED", JobStatus.SUCCEEDED),
    ]
    assert updates[-1].result_urls == (sandbox.jobs[remote.remote_id].image_url,)
    assert sandbox.bill_usd_micros == 60_000
    assert sandbox.violations == []


async def test_over_the_concurrency_limit_krea_answers_backlogged(session: aiohttp.ClientSession) -> None:
    async with SandboxProvider(steps_by_reads=True, krea_key=CANARY, concurrency=1) as sandbox:
        krea = a_krea(session, sandbox.krea_base)
        await krea.submit(an_order())
        await asyncio.sleep(0)
        second = await krea.submit(an_order())
        update = await krea.fetch(second.remote_id)
        assert (update.provider_status, update.progress) == ("backlogged", Progress.WAITING)


@pytest.mark.parametrize("shape", [Shape.LIST, Shape.STRING, Shape.TYPED, Shape.NAMED])
async def test_every_documented_shape_of_a_result_is_read(
    krea: KreaProvider, pixazo: PixazoProvider, sandbox: SandboxProvider, shape: Shape
) -> None:
    for provider, order in ((krea, an_order()), (pixazo, a_pixazo_order())):
        sandbox.next_order(Plan(shape=shape))
        remote = await provider.submit(order)
        update = await the_end(provider, remote.remote_id)
        assert update.result_urls == (sandbox.jobs[remote.remote_id].image_url,)


@pytest.mark.parametrize("shape", [Shape.EMPTY, Shape.MISSING])
async def test_completed_without_an_image_is_reported_as_such(
    krea: KreaProvider, sandbox: SandboxProvider, shape: Shape
) -> None:
    sandbox.next_order(Plan(shape=shape))
    remote = await krea.submit(an_order())
    update = await the_end(krea, remote.remote_id)
    assert update.status is JobStatus.SUCCEEDED
    assert update.result_urls == ()


@pytest.mark.f25
async def test_a_word_never_seen_reads_as_running_and_is_logged_once(
    krea: KreaProvider, sandbox: SandboxProvider, caplog: pytest.LogCaptureFixture
) -> None:
    sandbox.next_order(*[Plan(words=(("queued", 0), ("daydreaming", 0), ("DAYDREAMING", 0), ("processing", 0)))] * 2)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            remote = await krea.submit(an_order())
            updates = await life_of(krea, remote.remote_id)
            odd = next(update for update in updates if update.provider_status == "daydreaming")
            assert odd.status is JobStatus.RUNNING
            assert odd.progress is None
            assert updates[-1].status is JobStatus.SUCCEEDED
    assert caplog.text.lower().count('"daydreaming"') == 1


async def test_a_stated_price_is_read_exactly(krea: KreaProvider, sandbox: SandboxProvider) -> None:
    sandbox.next_order(Plan(states_cost=True))
    remote = await krea.submit(an_order())
    assert (await the_end(krea, remote.remote_id)).cost_usd_micros == 7_000


# -- failures of a job ------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [ErrorForm.OBJECT, ErrorForm.TEXT, ErrorForm.IN_RESULT])
async def test_a_failed_job_tells_why_when_that_helps(
    krea: KreaProvider, sandbox: SandboxProvider, form: ErrorForm
) -> None:
    message = "The face in the picture\nis too small \u202e see https://krea.ai/help?x=1 for more"
    sandbox.next_order(Plan(ending=Ending.FAILED, message=message, error_form=form))
    remote = await krea.submit(an_order())
    update = await the_end(krea, remote.remote_id)
    assert update.status is JobStatus.FAILED
    assert not update.may_be_charged, "Krea does not bill failures"
    assert update.failure is not None
    assert update.failure.reason is FailureReason.PROVIDER_FAILED
    assert update.failure.hint == "The face in the picture is too small see for more"


@pytest.mark.parametrize(
    "message",
    ["Internal server error", "", "unknown error", '{"trace": 1}', "Invalid API key for upstream", "Task failed."],
)
async def test_an_uninformative_message_is_not_shown(
    krea: KreaProvider, sandbox: SandboxProvider, message: str
) -> None:
    sandbox.next_order(Plan(ending=Ending.FAILED, code="x1", message=message, error_form=ErrorForm.TEXT))
    remote = await krea.submit(an_order())
    failure = (await the_end(krea, remote.remote_id)).failure
    assert failure is not None
    assert failure.hint == ""


async def test_a_failure_without_any_reason_is_still_a_failure(krea: KreaProvider, sandbox: SandboxProvider) -> None:
    sandbox.next_order(Plan(ending=Ending.FAILED, error_form=ErrorForm.NONE))
    remote = await krea.submit(an_order())
    failure = (await the_end(krea, remote.remote_id)).failure
    assert failure is not None
    assert (failure.reason, failure.hint) == (FailureReason.PROVIDER_FAILED, "")


@pytest.mark.f32
@pytest.mark.parametrize("code", ["nsfw", "ip_detected", "violence", "personal_info", "NSFW_CONTENT", "content_policy"])
async def test_moderation_is_recognised_and_the_prompt_not_repeated(
    krea: KreaProvider, sandbox: SandboxProvider, code: str
) -> None:
    sandbox.next_order(Plan(ending=Ending.FAILED, code=code, message="secret words of a prompt"))
    remote = await krea.submit(an_order())
    failure = (await the_end(krea, remote.remote_id)).failure
    assert failure is not None
    assert (failure.reason, failure.hint) == (FailureReason.MODERATED, "")


async def test_a_field_name_with_safety_in_it_is_no_moderation(krea: KreaProvider, sandbox: SandboxProvider) -> None:
    sandbox.next_order(Plan(trouble=Trouble(status=400, body={"error": "enable_safety_checker: unrecognized key"})))
    with pytest.raises(ProviderRejected) as caught:
        await krea.submit(an_order())
    assert caught.value.reason == FailureReason.REJECTED


@pytest.mark.parametrize(
    ("ending", "charged"), [(Ending.FAILED, True), (Ending.MODERATED, True), (Ending.ERROR, False)]
)
async def test_pixazo_says_that_an_error_is_free_but_not_that_a_failure_is(
    pixazo: PixazoProvider, sandbox: SandboxProvider, ending: Ending, charged: bool
) -> None:
    sandbox.next_order(Plan(ending=ending))
    remote = await pixazo.submit(a_pixazo_order())
    update = await the_end(pixazo, remote.remote_id)
    assert update.status is JobStatus.FAILED
    assert update.may_be_charged is charged


async def test_a_job_cancelled_by_the_system_is_cancelled(
    krea: KreaProvider, pixazo: PixazoProvider, sandbox: SandboxProvider
) -> None:
    for provider, order in ((krea, an_order()), (pixazo, a_pixazo_order())):
        sandbox.next_order(Plan(ending=Ending.CANCELLED))
        remote = await provider.submit(order)
        assert (await the_end(provider, remote.remote_id)).status is JobStatus.CANCELLED


# -- refused orders ---------------------------------------------------------------------------------------


@pytest.mark.f06
@pytest.mark.parametrize(
    ("status", "body", "reason", "hint"),
    [
        (400, {"error": "aspect_ratio: invalid"}, FailureReason.REJECTED, "aspect_ratio: invalid"),
        (400, {"error": {"code": "bad", "message": "width too big"}}, FailureReason.REJECTED, "width too big"),
        (413, "just text", FailureReason.REJECTED, "just text"),
        (422, {"error": "Invalid asset URL"}, FailureReason.REJECTED, "Invalid asset URL"),
        (422, {"error": "Input file rejected"}, FailureReason.REJECTED, "Input file rejected"),
        (
            422,
            {"detail": [{"loc": ["body", "seed"], "msg": "not a number", "type": "x"}, {"loc": [], "msg": "no"}]},
            FailureReason.REJECTED,
            "seed: not a number; no",
        ),
        (422, {"detail": "seed is odd"}, FailureReason.REJECTED, "seed is odd"),
        (422, {"error": "flagged by moderation"}, FailureReason.MODERATED, ""),
        (400, {"error": "Model not found", "message": "It is disabled"}, FailureReason.MODEL_RETIRED, ""),
        (404, {"error": "Not found"}, FailureReason.MODEL_RETIRED, ""),
        (404, None, FailureReason.REJECTED, ""),
        (400, None, FailureReason.REJECTED, ""),
        (405, None, FailureReason.REJECTED, ""),
        (413, "<html>too large</html>", FailureReason.REJECTED, ""),
        (415, {"error": "JSON only"}, FailureReason.REJECTED, "JSON only"),
        (403, {"error": "This style is private"}, FailureReason.REJECTED, "This style is private"),
        (
            410,
            {"error": "model_unavailable", "reason": "deprecated", "message": "gone", "replacement": "bfl/flux-9"},
            FailureReason.MODEL_RETIRED,
            "bfl/flux-9",
        ),
        (410, {"error": "model_unavailable"}, FailureReason.MODEL_RETIRED, ""),
    ],
)
async def test_a_refused_order_is_known_not_to_be_bought(
    krea: KreaProvider, sandbox: SandboxProvider, status: int, body: Any, reason: str, hint: str
) -> None:
    sandbox.next_order(Plan(trouble=Trouble(status=status, body=body)))
    with pytest.raises(ProviderRejected) as caught:
        await krea.submit(an_order())
    assert type(caught.value) is ProviderRejected
    assert (caught.value.status, caught.value.reason, caught.value.hint) == (status, reason, hint)
    assert len(sandbox.orders) == 1


@pytest.mark.f21
@pytest.mark.f22
@pytest.mark.parametrize(
    ("status", "body"),
    [
        (401, {"message": "Unauthorized"}),
        (402, {"error": "Insufficient Balance", "message": "Top up"}),
        (402, {"error": "Plan required"}),
        (403, {"error": "API access is not enabled"}),
        (403, None),
    ],
)
async def test_a_refused_key_or_balance_is_for_the_operator(
    krea: KreaProvider, pixazo: PixazoProvider, sandbox: SandboxProvider, status: int, body: Any
) -> None:
    for provider, order in ((krea, an_order()), (pixazo, a_pixazo_order())):
        sandbox.next_order(Plan(trouble=Trouble(status=status, body=body)))
        with pytest.raises(ProviderDenied) as caught:
            await provider.submit(order)
        assert caught.value.status == status
        assert caught.value.hint == "", "members need not know"


@pytest.mark.hostile("G-38")
async def test_a_403_page_of_something_in_between_says_nothing_about_the_key(
    krea: KreaProvider, pixazo: PixazoProvider, sandbox: SandboxProvider
) -> None:
    for provider, order in ((krea, an_order()), (pixazo, a_pixazo_order())):
        sandbox.next_order(Plan(trouble=Trouble(status=403, body="<html>Attention Required!</html>")))
        with pytest.raises(ProviderUnavailable) as caught:
            await provider.submit(order)
        assert caught.value.status == 403
    accepted = await krea.submit(an_order())
    sandbox.next_answers("read", Trouble(status=403, body="<html>"))
    with pytest.raises(ProviderUnavailable):  # the poller asks again
        await krea.fetch(accepted.remote_id)


async def test_the_contracts_real_refusals_are_understood(
    krea: KreaProvider, pixazo: PixazoProvider, session: aiohttp.ClientSession, sandbox: SandboxProvider
) -> None:
    with pytest.raises(ProviderRejected, match="imageUrl: alias"):
        await krea.submit(an_order(imageUrl="https://x/y.png"))
    with pytest.raises(ProviderRejected, match="Model not found"):
        await pixazo.submit(ProviderRequest(path="/krea-9/v1/order", body={"prompt": "x"}))
    retired = ProviderRequest(path="/generate/image/bytedance/seedream-3", body={"prompt": "x"})
    with pytest.raises(ProviderRejected) as caught:
        await krea.submit(retired)
    assert caught.value.reason == FailureReason.MODEL_RETIRED
    assert "bytedance/seedream-5-lite" in caught.value.hint
    with pytest.raises(ProviderDenied):
        await a_krea(session, sandbox.krea_base, key="wrong").submit(an_order())
    sandbox.balance_usd_micros = 6_999
    with pytest.raises(ProviderDenied) as denied:
        await krea.submit(an_order())
    assert denied.value.status == 402


@pytest.mark.f19
@pytest.mark.hostile("G-14")
@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("7", 7.0),
        ("0.01", 1.0),
        ("0", 1.0),
        ("-3", 1.0),
        ("1e9", 3600.0),
        ("1e999", None),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 3600.0),
        ("Mon, 01 Jan 0001 00:00:00 +1400", 1.0),
        ("Mon, 01 Jan 99999999999999999999 00:00:00 GMT", None),
        (None, None),
        ("soon", None),
        ("nan", None),
        ("in 90 seconds", 90.0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 1.0),
    ],
)
async def test_429_may_be_sent_again_after_the_stated_time(
    krea: KreaProvider, sandbox: SandboxProvider, header: str | None, expected: float | None
) -> None:
    if header == "in 90 seconds":
        header = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    headers = {} if header is None else {"Retry-After": header}
    sandbox.next_order(Plan(trouble=Trouble(status=429, body={"error": "Too many"}, headers=headers)))
    with pytest.raises(ProviderUnavailable) as caught:
        await krea.submit(an_order())
    told = caught.value.retry_after_seconds
    assert told == (pytest.approx(expected, abs=30) if expected else expected)
    assert len(sandbox.orders) == 1


# -- lost responses: sent once, outcome uncertain ---------------------------------------------------------


LOST = [
    LOST_ANSWER,
    Trouble(how=How.RESET),
    Trouble(how=How.HANG, accepted=True),
    Trouble(how=How.NOT_JSON, accepted=True),
    Trouble(how=How.CUT_SHORT, accepted=True),
    Trouble(how=How.NO_ID, accepted=True),
    Trouble(how=How.TOO_BIG, accepted=True),
    Trouble(how=How.BAD_ENCODING, accepted=True),
    *(Trouble(status=status, body={"error": "x"}, accepted=True) for status in (500, 502, 503, 504, 524, 408)),
    Trouble(status=200, body=None),
    Trouble(status=200, body=[]),
    Trouble(status=200, body={"job_id": ""}),
    Trouble(status=200, body={"job_id": ".."}),
    Trouble(status=200, body={"job_id": "a b"}),
    Trouble(status=200, body={"job_id": "x" * 500}),
    Trouble(status=200, body={"job_id": 7, "request_id": 7}),
    *(
        Trouble(status=status, body=None, headers={"Location": "/elsewhere"}, accepted=True)
        for status in (301, 302, 303, 307, 308)
    ),
]


@pytest.mark.f23
@pytest.mark.f24
@pytest.mark.parametrize("trouble", LOST, ids=lambda trouble: f"{trouble.how}-{trouble.status}")
@pytest.mark.f23
@pytest.mark.f24
async def test_an_order_whose_answer_is_lost_is_uncertain_and_sent_once(
    krea: KreaProvider, pixazo: PixazoProvider, sandbox: SandboxProvider, trouble: Trouble
) -> None:
    for provider, order in ((krea, an_order()), (pixazo, a_pixazo_order())):
        sandbox.next_order(Plan(trouble=trouble))
        before = len(sandbox.orders)
        with pytest.raises(OutcomeUncertain) as caught:
            await provider.submit(order)
        assert CANARY not in everything_about(caught.value)
        assert len(sandbox.orders) == before + 1
    assert sandbox.seen("nowhere") == [], "no redirect is followed"


async def test_a_refusal_holds_even_when_its_body_is_cut_short(session: aiohttp.ClientSession) -> None:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await a_request(reader)
        writer.write(b"HTTP/1.1 422 Unprocessable\r\nContent-Type: application/json\r\nContent-Length: 999\r\n\r\n{")

    async with a_server(speak) as host:
        with pytest.raises(ProviderRejected):
            await a_krea(session, f"http://{host}").submit(an_order())


@pytest.mark.f24
@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1",
        b"I am no web server\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nBad Header\x00: 1\r\n\r\n",
        b"SSH-2.0-x\r\n",
    ],
)
async def test_something_that_is_not_http_leaves_the_order_uncertain(
    session: aiohttp.ClientSession, answer: bytes
) -> None:
    requests: list[bytes] = []

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await a_request(reader))
        writer.write(answer)

    async with a_server(speak) as host:
        with pytest.raises(OutcomeUncertain) as caught:
            await a_krea(session, f"http://{host}").submit(an_order())
    assert CANARY not in everything_about(caught.value)
    assert len(requests) == 1


@pytest.mark.f23
async def test_an_order_on_a_kept_connection_that_dies_is_uncertain_and_not_sent_again(
    session: aiohttp.ClientSession,
) -> None:
    requests: list[bytes] = []

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await a_request(reader))
        body = b'{"items": [], "next_cursor": null}'
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        )
        requests.append(await a_request(reader))

    async with a_server(speak) as host:
        krea = a_krea(session, f"http://{host}")
        await krea.probe()
        with pytest.raises(OutcomeUncertain):
            await krea.submit(an_order())
    assert [request.split(b" ")[0] for request in requests] == [b"GET", b"POST"]


# -- before a byte was sent -------------------------------------------------------------------------------


@pytest.mark.f18
async def test_a_refused_connection_means_never_accepted(session: aiohttp.ClientSession) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        krea = a_krea(session, f"http://127.0.0.1:{unused.getsockname()[1]}")
        with pytest.raises(ProviderUnavailable) as caught:
            await krea.submit(an_order())
    assert CANARY not in everything_about(caught.value)


@pytest.mark.f18
async def test_an_unknown_name_means_never_accepted(session: aiohttp.ClientSession) -> None:
    with pytest.raises(ProviderUnavailable):
        await a_krea(session, "http://unknown.invalid").submit(an_order())


async def test_a_connection_that_is_never_made_means_never_accepted(session: aiohttp.ClientSession) -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        # Two unaccepted connections fill the backlog; the next one waits for an answer to its first packet.
        visitors = [socket.socket() for _ in range(4)]
        for visitor in visitors:
            visitor.setblocking(False)
            visitor.connect_ex(full.getsockname())
        await asyncio.sleep(0.05)
        try:
            with pytest.raises(ProviderUnavailable, match="not reached"):
                await a_krea(session, f"http://127.0.0.1:{full.getsockname()[1]}").submit(an_order())
        finally:
            for visitor in visitors:
                visitor.close()


@pytest.mark.parametrize("hello", [b"", b"HTTP/1.1 400 Plain\r\n\r\n"])
async def test_a_failed_tls_handshake_means_never_accepted(session: aiohttp.ClientSession, hello: bytes) -> None:
    heard: list[bytes] = []

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(4096))
        writer.write(hello)

    async with a_server(speak) as host:
        with pytest.raises(ProviderUnavailable):
            await a_krea(session, f"https://{host}").submit(an_order())
    assert all(b"POST" not in data for data in heard)


async def test_a_closed_session_means_never_accepted(sandbox: SandboxProvider) -> None:
    session = open_session()
    await session.close()
    with pytest.raises(ProviderUnavailable):
        await a_krea(session, sandbox.krea_base).submit(an_order())


@pytest.mark.parametrize("path", ["@evil.example/x", ".evil.example/x", "no-slash", "", ":8443/x"])
async def test_a_path_cannot_carry_the_key_to_another_host(
    krea: KreaProvider, sandbox: SandboxProvider, path: str
) -> None:
    with pytest.raises(ProviderRejected):
        await krea.submit(ProviderRequest(path=path, body={}))
    assert sandbox.requests == []


async def test_an_order_that_is_not_json_is_never_sent(krea: KreaProvider, sandbox: SandboxProvider) -> None:
    with pytest.raises(ProviderRejected):
        await krea.submit(an_order(seed=float("nan")))
    with pytest.raises(ProviderRejected):
        await krea.submit(ProviderRequest(path=FLUX, body={"prompt": "x"}, webhook_url="http://x/\r\nEvil: 1"))
    assert sandbox.requests == []


async def test_a_cancelled_order_is_cancelled_and_not_sent_again(krea: KreaProvider, sandbox: SandboxProvider) -> None:
    sandbox.next_order(Plan(trouble=Trouble(how=How.HANG, accepted=True)))
    task = asyncio.create_task(krea.submit(an_order()))
    while not sandbox.jobs:
        await asyncio.sleep(0.005)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(sandbox.orders) == 1


# -- reading ----------------------------------------------------------------------------------------------


READ_TROUBLES = [
    Trouble(how=How.HANG),
    Trouble(how=How.NOT_JSON),
    Trouble(how=How.CUT_SHORT),
    Trouble(how=How.TOO_BIG),
    Trouble(how=How.BAD_ENCODING),
    *(Trouble(status=status) for status in (500, 502, 503, 408, 429)),
    Trouble(status=307, headers={"Location": "/elsewhere"}),
    Trouble(status=200, body={}),
    Trouble(status=200, body=[1]),
    Trouble(status=200, body={"status": None}),
]


@pytest.mark.parametrize("trouble", READ_TROUBLES, ids=lambda trouble: f"{trouble.how}-{trouble.status}")
async def test_a_failed_poll_does_not_change_the_job(
    krea: KreaProvider, pixazo: PixazoProvider, sandbox: SandboxProvider, trouble: Trouble
) -> None:
    for provider, order in ((krea, an_order()), (pixazo, a_pixazo_order())):
        remote = await provider.submit(order)
        sandbox.next_answers("read", trouble)
        before = len(sandbox.seen("read"))
        with pytest.raises(ProviderUnavailable) as caught:
            await provider.fetch(remote.remote_id)
        assert CANARY not in everything_about(caught.value)
        assert len(sandbox.seen("read")) == before + 1, "the poller decides when to poll again"
        assert (await the_end(provider, remote.remote_id)).status is JobStatus.SUCCEEDED


async def test_an_answer_about_another_job_is_no_answer(
    krea: KreaProvider, pixazo: PixazoProvider, sandbox: SandboxProvider
) -> None:
    for provider, order in ((krea, an_order()), (pixazo, a_pixazo_order())):
        other, own = await provider.submit(order), await provider.submit(order)
        done = await the_end(provider, other.remote_id)
        assert done.status is JobStatus.SUCCEEDED
        sandbox.next_answers("read", Trouble(body=sandbox.jobs[other.remote_id].as_document(), status=200))
        with pytest.raises(ForeignAnswer):
            await provider.fetch(own.remote_id)
        assert (await the_end(provider, own.remote_id)).result_urls != done.result_urls


async def test_a_cancellation_answered_about_another_job_is_no_agreement(
    krea: KreaProvider, sandbox: SandboxProvider
) -> None:
    remote = await krea.submit(an_order())
    sandbox.next_answers("cancel", *[Trouble(status=200, body={"job_id": "another", "status": "cancelled"})] * 3)
    with pytest.raises(ProviderUnavailable):
        await krea.cancel(remote.remote_id)


UNDOCUMENTED = [(status, {"error": "odd"}) for status in (406, 409, 418, 421, 423, 425, 451, 499)]
PAGES = [(status, "<html>404 Not Found: nginx</html>") for status in (400, 404, 422)]


@pytest.mark.parametrize(("status", "body"), [*UNDOCUMENTED, *PAGES])
async def test_an_order_is_refused_only_by_a_documented_answer_of_the_api_itself(
    krea: KreaProvider, pixazo: PixazoProvider, sandbox: SandboxProvider, status: int, body: Any
) -> None:
    for provider, order in ((krea, an_order()), (pixazo, a_pixazo_order())):
        sandbox.next_order(Plan(trouble=Trouble(status=status, body=body, accepted=True)))
        with pytest.raises(OutcomeUncertain) as caught:
            await provider.submit(order)
        assert caught.value.status == status
    assert len(sandbox.orders) == len(sandbox.jobs) == 2


@pytest.mark.f20
@pytest.mark.parametrize(
    ("status", "body"),
    [
        *UNDOCUMENTED,
        *PAGES,
        (410, "<html>Gone</html>"),
        *((status, {"error": "bad request"}) for status in (400, 405, 413, 415, 422)),
        (422, {"error": "flagged by moderation"}),
        (403, {"error": "This style is private"}),
    ],
)
async def test_only_a_404_or_410_of_the_api_itself_says_that_a_job_is_unknown(
    krea: KreaProvider, pixazo: PixazoProvider, sandbox: SandboxProvider, status: int, body: Any
) -> None:
    for provider in (krea, pixazo):
        sandbox.next_answers("read", Trouble(status=status, body=body), Trouble(status=410, body={"error": "gone"}))
        with pytest.raises(ProviderUnavailable):
            await provider.fetch("a")
        with pytest.raises(ProviderRejected):
            await provider.fetch("a")


@pytest.mark.parametrize("status", [400, 404, 410, 422])
async def test_a_gateway_that_knows_no_probed_request_has_accepted_the_key(
    pixazo: PixazoProvider, sandbox: SandboxProvider, status: int
) -> None:
    sandbox.next_answers("read", *[Trouble(status=status, body={"error": "No such request"})] * 3)
    await pixazo.probe()


async def test_an_unknown_job_is_rejected(krea: KreaProvider, pixazo: PixazoProvider) -> None:
    for provider in (krea, pixazo):
        with pytest.raises(ProviderRejected) as caught:
            await provider.fetch("00000000-0000-0000-0000-000000000000")
        assert caught.value.status == 404


async def test_an_id_is_escaped_into_its_path(
    krea: KreaProvider, pixazo: PixazoProvider, sandbox: SandboxProvider
) -> None:
    for provider in (krea, pixazo):
        with pytest.raises(ProviderRejected):
            await provider.fetch("a/../b?c#d e")
    assert [request.path for request in sandbox.requests] == [
        "/jobs/a%2F..%2Fb%3Fc%23d%20e",
        "/v2/requests/status/a%2F..%2Fb%3Fc%23d%20e",
    ]


@pytest.mark.f20
async def test_ten_faults_in_a_row_and_then_the_image(krea: KreaProvider, sandbox: SandboxProvider) -> None:
    remote = await krea.submit(an_order())
    sandbox.next_answers("read", *[Trouble(status=503), Trouble(how=How.RESET)] * 5)
    poller = Poller(krea, poll_seconds=0.001)
    started = datetime.now(UTC)
    updates = [
        update
        async for update in poller.watch(
            remote.remote_id, submitted_at=started, deadline_at=started + timedelta(minutes=1)
        )
    ]
    assert updates[-1].status is JobStatus.SUCCEEDED


# -- cancel, upload, recent, probe ------------------------------------------------------------------------


async def test_cancelling_returns_whether_the_provider_agreed(krea: KreaProvider, sandbox: SandboxProvider) -> None:
    remote = await krea.submit(an_order())
    assert await krea.cancel(remote.remote_id)
    assert (await krea.fetch(remote.remote_id)).status is JobStatus.CANCELLED
    assert sandbox.bill_usd_micros == 0
    done = await krea.submit(an_order())
    await the_end(krea, done.remote_id)
    assert not await krea.cancel(done.remote_id)
    assert not await krea.cancel("unknown")
    sandbox.next_answers("cancel", Trouble(status=401))
    with pytest.raises(ProviderDenied):
        await krea.cancel(done.remote_id)


async def test_a_cancel_answered_without_a_body_counts(session: aiohttp.ClientSession) -> None:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await a_request(reader)
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")

    async with a_server(speak) as host:
        assert await a_krea(session, f"http://{host}").cancel("x")


async def test_an_uploaded_image_can_be_used_in_an_order(krea: KreaProvider, sandbox: SandboxProvider) -> None:
    sandbox.next_answers("upload", Trouble(status=503), Trouble(how=How.RESET))
    url = await krea.upload(a_png(), "image/png")
    assert url.startswith(sandbox.krea_base)
    assert len(sandbox.seen("upload")) == 3
    remote = await krea.submit(an_order(image_url=url))
    assert (await the_end(krea, remote.remote_id)).status is JobStatus.SUCCEEDED
    assert sandbox.jobs[remote.remote_id].images == (("source", a_png()),)


async def test_the_non_standard_name_of_jpeg_is_corrected(krea: KreaProvider) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64)).save(buffer, "JPEG")
    assert (await krea.upload(buffer.getvalue(), "image/jpg")).endswith(".jpg")


async def test_an_upload_that_cannot_work_is_rejected(
    krea: KreaProvider, pixazo: PixazoProvider, sandbox: SandboxProvider
) -> None:
    with pytest.raises(ProviderRejected, match="broken"):
        await krea.upload(b"not a picture", "image/png")
    with pytest.raises(ProviderRejected, match="75 MB"):
        await krea.upload(bytes(75_000_001), "image/png")
    with pytest.raises(ProviderRejected):
        await pixazo.upload(a_png(), "image/png")
    assert len(sandbox.seen("upload")) == 1
    sandbox.next_answers("upload", *[Trouble(status=200, body={"image_url": "ftp://x"})])
    with pytest.raises(ProviderUnavailable):
        await krea.upload(a_png(), "image/png")


async def test_recent_jobs_are_listed_newest_first_over_all_pages(session: aiohttp.ClientSession) -> None:
    async with SandboxProvider(steps_by_reads=True, krea_key=CANARY, backlog=1000) as sandbox:
        krea = a_krea(session, sandbox.krea_base)
        first = [(await krea.submit(an_order(f"old {n}"))).remote_id for n in range(5)]
        since = datetime.now(UTC)
        later = [(await krea.submit(an_order(f"new {n}"))).remote_id for n in range(130)]
        sandbox.next_answers("list", Trouble(status=500))
        found = await krea.recent(since=since)
        assert [job.remote_id for job in found] == later[::-1]
        assert all(job.created_at is not None and job.created_at >= since for job in found)
        assert not set(first) & {job.remote_id for job in found}
        assert len(sandbox.seen("list")) == 3, "one failed, two pages, none in vain"


async def test_probing_needs_an_accepted_key(
    krea: KreaProvider, pixazo: PixazoProvider, session: aiohttp.ClientSession, sandbox: SandboxProvider
) -> None:
    await krea.probe()
    await pixazo.probe()
    with pytest.raises(ProviderDenied):
        await a_krea(session, sandbox.krea_base, key="wrong").probe()
    with pytest.raises(ProviderDenied):
        await PixazoProvider(session, base_url=sandbox.pixazo_base, api_key="wrong").probe()
    sandbox.next_answers("list", *[Trouble(status=500)] * 3)
    with pytest.raises(ProviderUnavailable):
        await krea.probe()
    assert sandbox.jobs == {}


# -- the key ----------------------------------------------------------------------------------------------


@pytest.mark.f21
async def test_the_key_shows_up_in_no_error_and_no_log(
    krea: KreaProvider, pixazo: PixazoProvider, sandbox: SandboxProvider, caplog: pytest.LogCaptureFixture
) -> None:
    errors: list[ProviderError] = []
    echo = {"error": f"Incorrect key {CANARY}", "message": f"You sent {CANARY}", "detail": CANARY}
    with caplog.at_level(logging.DEBUG):
        for status in (400, 401, 402, 403, 404, 410, 422, 429, 500):
            for provider, order in ((krea, an_order()), (pixazo, a_pixazo_order())):
                sandbox.next_order(Plan(trouble=Trouble(status=status, body=echo)))
                with pytest.raises(ProviderError) as caught:
                    await provider.submit(order)
                errors.append(caught.value)
    assert all(CANARY not in everything_about(error) for error in errors)
    assert CANARY not in caplog.text
    assert CANARY not in repr(krea) + repr(pixazo) + repr(vars(krea)) + repr(vars(pixazo))


@pytest.mark.f21
@pytest.mark.parametrize("key_form", [CANARY, f"Bearer {CANARY}"])
async def test_the_key_shows_up_in_nothing_that_is_told_of_a_job_or_a_style(
    krea: KreaProvider,
    pixazo: PixazoProvider,
    sandbox: SandboxProvider,
    caplog: pytest.LogCaptureFixture,
    key_form: str,
) -> None:
    told = ""
    word = f"{'x' * 40} {key_form}"
    failed = {"status": "failed", "error": {"code": key_form, "message": f"refused for {key_form} by region"}}
    odd = {"status": word, "completed_at": "2026-11-29T08:00:00Z", "error": f"no luck with {key_form}"}
    for provider in (krea, pixazo):
        sandbox.next_answers("read", *[Trouble(status=200, body=body) for body in (failed, odd, {"status": word})])
        for _ in range(3):
            update = await provider.fetch("a")
            told += repr(update)
            if update.failure is not None:
                assert "[hidden]" in update.failure.hint
    style = {"id": "a", "title": f"Clay {key_form}", "public": True, "models": []}
    sandbox.next_answers("styles", Trouble(status=200, body={"items": [style]}))
    told += repr(await krea.styles(None))
    assert CANARY not in told
    assert "canary" not in told
    assert "canary" not in caplog.text


async def test_keys_are_sent_in_the_documented_headers_only(
    krea: KreaProvider, pixazo: PixazoProvider, session: aiohttp.ClientSession, sandbox: SandboxProvider
) -> None:
    await krea.submit(ProviderRequest(path=FLUX, body={"prompt": "x"}, webhook_url="https://bot.example/hooks/1"))
    await pixazo.submit(ProviderRequest(path=PIXAZO_PATH, body={"prompt": "x"}, webhook_url="https://bot.example/2"))
    to_krea, to_pixazo = (request.headers for request in sandbox.orders)
    assert to_krea["Authorization"] == f"Bearer {CANARY}"
    assert to_krea["X-Webhook-URL"] == "https://bot.example/hooks/1"
    assert "Ocp-Apim-Subscription-Key" not in to_krea
    assert to_pixazo["Ocp-Apim-Subscription-Key"] == CANARY
    assert to_pixazo["X-Webhook-URL"] == "https://bot.example/2"
    assert "Authorization" not in to_pixazo
    assert "Authorization" not in session.headers
    assert sandbox.violations == []


# -- clocks -------------------------------------------------------------------------------------------------


@pytest.mark.f23
@pytest.mark.parametrize("minutes", [-14, 14])
async def test_a_job_is_dated_by_our_own_clock_also_when_it_is_wrong(
    krea: KreaProvider, sandbox: SandboxProvider, minutes: int
) -> None:
    with time_machine.travel(datetime.now(UTC) + timedelta(minutes=minutes), tick=True):
        ordered_at = datetime.now(UTC)
        await krea.submit(an_order())
        (job,) = await krea.recent(since=ordered_at - timedelta(seconds=5))
        assert job.created_at is not None
        assert abs(job.created_at - ordered_at) < timedelta(seconds=5)


@pytest.mark.hostile("G-14")
@pytest.mark.parametrize("date", ["Mon, 01 Jan 0001 00:00:00 GMT", "Fri, 31 Dec 9999 23:59:59 GMT", "garbage"])
async def test_an_impossible_date_of_a_response_moves_no_time_of_a_job(
    session: aiohttp.ClientSession, date: str
) -> None:
    created_at = datetime.now(UTC).replace(microsecond=0)
    body = json.dumps({"items": [{"job_id": "a", "status": "queued", "created_at": created_at.isoformat()}]}).encode()

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await a_request(reader)
        head = f"HTTP/1.1 200 OK\r\nDate: {date}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()

    async with a_server(speak) as address:
        (job,) = await a_krea(session, f"http://{address}").recent(since=created_at - timedelta(seconds=5))
    assert job.created_at == created_at


# -- odd JSON -----------------------------------------------------------------------------------------


@asynccontextmanager
async def a_speaker(*bodies: bytes) -> AsyncIterator[str]:
    """Start a server that answers each request with the next of these bodies."""
    left = list(bodies)

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await a_request(reader)
        body = left.pop(0)
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)
        await writer.drain()

    async with a_server(speak) as address:
        yield f"http://{address}"


MIB = 2**20
TOO_LARGE = b"[" + b"{}," * (4 * MIB // 3) + b"{}]"


@pytest.mark.hostile("G-36")
@pytest.mark.parametrize(
    "body",
    [
        TOO_LARGE,
        b'{"status": "completed", "result": "' + b"x" * MIB + b'"}',
        b"[" * 100_000,
        b"{" * 10,
        b"\xff\xfe{}",
        b"NaN",
        b'{"status": NaN}',
        b'{"status": "failed", "status": "completed", "result": {"urls": ["https://x/1.png"]}}',
        b'{"status": "completed", "result": {"urls": ["https://x/1.png"]}, "result": {}}',
        b'{"status": ' + b"9" * 5000 + b"}",
    ],
    ids=lambda body: repr(body[:20]),
)
async def test_odd_json_of_a_job_is_one_error_and_the_next_answer_counts(
    session: aiohttp.ClientSession, body: bytes
) -> None:
    good = b'{"job_id": "a", "status": "completed", "result": {"urls": ["https://x/2.png"]}}'
    async with a_speaker(body, good) as base:
        krea = a_krea(session, base)
        with pytest.raises(ProviderUnavailable):
            await krea.fetch("a")
        assert (await krea.fetch("a")).result_urls == ("https://x/2.png",)


@pytest.mark.hostile("G-36")
@pytest.mark.parametrize(
    ("body", "remote_id"),
    [
        (b'{"job_id": "a", "status": "queued", "status": "failed"}', "a"),
        (b'{"job_id": "a", "status": "queued", "cost_usd": NaN}', "a"),
        (b'{"job_id": "a", "job_id": "b", "status": "queued"}', None),
        (b'{"job_id": "\\ud800", "status": "queued"}', None),
        (TOO_LARGE, None),
    ],
    ids=lambda value: repr(value)[:60],
)
async def test_odd_json_of_an_order_is_accepted_with_one_id_and_uncertain_without(
    session: aiohttp.ClientSession, body: bytes, remote_id: str | None
) -> None:
    async with a_speaker(body) as base:
        krea = a_krea(session, base)
        if remote_id is None:
            with pytest.raises(OutcomeUncertain):
                await krea.submit(an_order())
        else:
            assert (await krea.submit(an_order())).remote_id == remote_id


@pytest.mark.hostile("G-36")
async def test_half_surrogates_leave_a_job_readable_and_every_text_writable(session: aiohttp.ClientSession) -> None:
    body = (
        b'{"job_id": "a", "status": "odd \\ud800 word", "completed_at": "2026-11-29T08:00:00Z",'
        b' "result": {"urls": ["https://x/\\udfff.png"]}, "error": "no \\ud83d luck"}'
    )
    async with a_speaker(body) as base:
        update = await a_krea(session, base).fetch("a")
    assert update.status is JobStatus.FAILED
    assert update.failure is not None
    assert f"{update.provider_status} {update.failure.hint}".encode() == b"odd word no luck"


@pytest.mark.hostile("G-36")
async def test_a_large_body_is_parsed_beside_the_event_loop(
    session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[bool] = []

    def noting(body: bytes) -> tuple[Any, bool]:
        threads.append(threading.current_thread() is threading.main_thread())
        return parsing.parse_json(body)

    monkeypatch.setattr(api_client, "parse_json", noting)
    job = b'{"job_id": "a", "status": "queued", "filler": "%s"}'
    async with a_speaker(job % b"", job % (b"x" * 65 * 1024)) as base:
        krea = a_krea(session, base)
        assert [(await krea.fetch("a")).status for _ in range(2)] == [JobStatus.RUNNING] * 2
    assert threads == [True, False]
