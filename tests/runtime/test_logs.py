"""The log: every line in one shape, every line of a job with its id, and no secret in any of them."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import re
import subprocess
import sys
import textwrap
import threading
import warnings
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import aiohttp
import aiohttp.web
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from bot.runtime import logs
from bot.runtime.logs import HIDDEN, Redactor, bind_job, set_up_logging

CANARY = "canary-5f1c0e7a9b/+\"'=="
STYLES: tuple[Literal["console", "json"], ...] = ("console", "json")
SetUp = Callable[..., io.StringIO]


@pytest.fixture
def set_up() -> Iterator[SetUp]:
    """Set up the log into a string, and restore the logging of the process afterwards."""
    root = logging.getLogger()
    before = (root.level, list(root.handlers), sys.excepthook, threading.excepthook)

    def start(style: Literal["console", "json"] = "json", level: str = "INFO") -> io.StringIO:
        stream = io.StringIO()
        for handler in before[1]:
            root.removeHandler(handler)  # the test runner's raise where a program's must not
        set_up_logging(level=level, style=style, secrets=[CANARY], stream=stream)
        return stream

    yield start
    logging.captureWarnings(False)
    structlog.reset_defaults()
    root.setLevel(before[0])
    root.handlers[:] = before[1]
    sys.excepthook, threading.excepthook = before[2], before[3]
    for name in ("bot", "cogs", "sandbox"):
        logging.getLogger(name).setLevel(logging.NOTSET)


def test_json_lines_carry_time_level_logger_and_the_values(set_up: SetUp):
    out = set_up()
    logging.getLogger("bot.service.job_service").warning("%s is slow", "krea")
    structlog.get_logger("bot.dispatch.dispatcher").info("submitted", provider="krea", attempts=2)
    first, second = map(json.loads, out.getvalue().splitlines())
    assert (first["event"], first["level"], first["logger"]) == ("krea is slow", "warning", "bot.service.job_service")
    assert first["timestamp"].endswith("Z")
    assert (second["event"], second["provider"], second["attempts"]) == ("submitted", "krea", 2)


@pytest.mark.parametrize("style", STYLES)
async def test_every_line_of_a_job_carries_its_id(set_up: SetUp, style: Literal["console", "json"]):
    out = set_up(style)

    async def elsewhere() -> None:
        logging.getLogger("aiohttp.client").warning("retrying")
        structlog.get_logger("bot.media.blob_store").info("fetched")

    with bind_job("018f00000001abcd"):
        await asyncio.create_task(elsewhere())
    logging.getLogger("bot").info("outside")
    inside, also_inside, outside = out.getvalue().splitlines()
    assert "018f00000001abcd" in inside
    assert "018f00000001abcd" in also_inside
    assert "018f00000001abcd" not in outside


async def test_concurrent_jobs_keep_their_own_ids(set_up: SetUp):
    out = set_up()

    async def run(job_id: str) -> None:
        with bind_job(job_id):
            await asyncio.sleep(0)
            logging.getLogger("bot").info("line of %s", job_id)

    await asyncio.gather(*(run(f"job-{number}") for number in range(20)))
    for line in map(json.loads, out.getvalue().splitlines()):
        assert line["event"] == f"line of {line['job_id']}"


def test_libraries_stay_at_info_when_our_level_is_debug(set_up: SetUp):
    out = set_up(level="DEBUG")
    logging.getLogger("discord.http").debug("payload with a prompt")
    logging.getLogger("aiosqlite").debug("values of a row")
    logging.getLogger("bot.dispatch.dispatcher").debug("our own step")
    structlog.get_logger("cogs.generate.imagine").debug("also ours")
    assert [json.loads(line)["event"] for line in out.getvalue().splitlines()] == ["our own step", "also ours"]


def test_a_later_set_up_replaces_the_earlier_one(set_up: SetUp):
    first, second = set_up(), set_up()
    logging.getLogger("bot").info("once")
    assert first.getvalue() == ""
    assert len(second.getvalue().splitlines()) == 1


def _raise_with_the_key_in_a_chain() -> None:
    try:
        raise ValueError(f"key {CANARY}")
    except ValueError as error:
        raise RuntimeError({"headers": {"X": CANARY}}) from error


def _log_exception() -> None:
    try:
        _raise_with_the_key_in_a_chain()
    except RuntimeError:
        logging.getLogger("bot").exception("failed")


def _log_exception_through_structlog() -> None:
    try:
        _raise_with_the_key_in_a_chain()
    except RuntimeError:
        structlog.get_logger("bot").exception("failed", local=CANARY)


def _warn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        warnings.warn(f"old key {CANARY}", stacklevel=1)


def _fail_in_a_thread() -> None:
    thread = threading.Thread(target=_raise_with_the_key_in_a_chain)
    thread.start()
    thread.join()


def _fail_in_a_task_without_awaiting_it() -> None:
    async def fail() -> None:
        _raise_with_the_key_in_a_chain()

    async def main() -> None:
        task = asyncio.create_task(fail())
        await asyncio.wait([task])
        del task

    asyncio.run(main())


def _fail_uncaught() -> None:
    try:
        _raise_with_the_key_in_a_chain()
    except RuntimeError as error:
        sys.excepthook(type(error), error, error.__traceback__)


LEAKS: dict[str, Callable[[], object]] = {
    "in the message": lambda: logging.getLogger("bot").info("key " + CANARY),  # noqa: G003
    "as an argument": lambda: logging.getLogger("aiohttp").info("key %s %r", CANARY, {"k": [CANARY]}),
    "as a value": lambda: structlog.get_logger("bot").info("sent", key=CANARY, nested={"a": [(CANARY,)]}),
    "as a name": lambda: structlog.get_logger("bot").info("sent", **{CANARY: 1}),
    "as an object": lambda: structlog.get_logger("bot").info("sent", thing=type("T", (), {"__repr__": _canary})()),
    "in bytes": lambda: structlog.get_logger("bot").info("sent", body=CANARY.encode()),
    "in an exception": _log_exception,
    "in an exception of structlog": _log_exception_through_structlog,
    "with the stack": lambda: structlog.get_logger("bot").info(CANARY, stack_info=True),
    "in a warning": _warn,
    "in a thread": _fail_in_a_thread,
    "in a forgotten task": _fail_in_a_task_without_awaiting_it,
    "uncaught": _fail_uncaught,
}


def _canary(_: object) -> str:
    return f"<T {CANARY}>"


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("leak", LEAKS.values(), ids=LEAKS.keys())
def test_a_key_never_appears(
    set_up: SetUp, capfd: pytest.CaptureFixture[str], style: Literal["console", "json"], leak: Callable[[], object]
):
    out = set_up(style)
    leak()
    assert HIDDEN in out.getvalue()
    printed = capfd.readouterr()
    assert "5f1c0e7a9b" not in out.getvalue() + printed.out + printed.err


def test_a_line_that_cannot_be_written_is_mentioned_but_not_shown(set_up: SetUp, capfd: pytest.CaptureFixture[str]):
    set_up()
    logging.getLogger("bot").info("%d jobs of %s", "many", CANARY)
    message = capfd.readouterr().err
    assert message == "a log line from bot could not be written (TypeError)\n"


FULL_DISK = """
import logging, resource, sys
from bot.runtime.logs import set_up_logging
set_up_logging(level="INFO", style="json", secrets=[])
_, most = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, most))
for number in range(400):
    logging.getLogger("bot").info("line %d", number)
resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
logging.getLogger("bot").info("there is room again")
"""


def test_a_log_file_that_takes_no_more_bytes_costs_lines_and_nothing_else(tmp_path: Path):
    file = tmp_path / "log"
    with file.open("ab") as log:
        ended = subprocess.run([sys.executable, "-c", FULL_DISK], stderr=log, check=False, timeout=60)
    lines = file.read_text(encoding="utf-8").splitlines()
    assert ended.returncode == 0, lines[-1]
    back, lost = [json.loads(line)["event"] for line in lines[-2:]]
    assert back == "there is room again"
    assert re.fullmatch(r"up to \d+ lines before this one are lost: the log could not be written", lost)
    assert sum('"line ' in line for line in lines) > 50


def test_a_reader_of_the_log_that_is_gone_stops_nothing():
    reading, writing = os.pipe()
    os.close(reading)
    ended = subprocess.run([sys.executable, "-c", FULL_DISK], stderr=writing, check=False, timeout=60)
    os.close(writing)
    assert ended.returncode == 0


async def test_headers_of_a_failed_request_never_appear(set_up: SetUp):
    out = set_up()

    async def refuse(_: aiohttp.web.Request) -> aiohttp.web.Response:
        return aiohttp.web.Response(status=403)

    application = aiohttp.web.Application()
    application.router.add_get("/", refuse)
    runner = aiohttp.web.AppRunner(application, access_log=None)
    await runner.setup()
    site = aiohttp.web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    # Keys that the log does not know: only the names of the headers show that they are secret.
    headers = {"Authorization": "Bearer unknown-7c2", "Ocp-Apim-Subscription-Key": "unknown-8d3"}
    with pytest.raises(aiohttp.ClientResponseError) as caught:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{runner.addresses[0][1]}/", headers=headers) as response,
        ):
            response.raise_for_status()
    await runner.cleanup()
    sent = dict(caught.value.request_info.headers)
    assert "unknown-7c2" in repr(caught.value)
    logging.getLogger("bot").error("refused: %r", caught.value)
    logging.getLogger("bot").error("refused: %s", sent)
    structlog.get_logger("bot").error("refused", headers=sent)
    assert len(out.getvalue().splitlines()) == 3
    assert "unknown-" not in out.getvalue()


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("Authorization: Bearer abc.def", f"Authorization: Bearer {HIDDEN}"),
        ("'authorization': 'Bot abc'", f"'authorization': 'Bot {HIDDEN}'"),
        (r"{\"Ocp-Apim-Subscription-Key\": \"abc\"}", r"{\"Ocp-Apim-Subscription-Key\": \"" + HIDDEN + r"\"}"),
        ("[(b'Authorization', b'Bearer abc')]", f"[(b'Authorization', b'Bearer {HIDDEN}')]"),
        ("POST https://bot.example.com/hooks/s3cret", f"POST https://bot.example.com/hooks/{HIDDEN}"),
        ("/webhooks/123/s3cret/messages/@original", f"/webhooks/123/{HIDDEN}/messages/@original"),
        ("/interactions/123/s3cret/callback", f"/interactions/123/{HIDDEN}/callback"),
        ("token aW50ZXJhY3Rpb246MTIzOmFiYw== end", f"token {HIDDEN} end"),
        ("PATCH /channels/1/messages/2 took 3 s", "PATCH /channels/1/messages/2 took 3 s"),
    ],
)
def test_text_that_looks_like_a_credential_is_hidden_without_being_known(text: str, safe: str):
    assert Redactor([])(text) == safe


@given(
    secret=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=8),
    around=st.text(max_size=20),
)
def test_a_known_secret_is_hidden_in_every_notation(secret: str, around: str):
    redact = Redactor([secret, secret[:6]])
    for written in (secret, json.dumps({"k": secret}), repr([secret]), f"{around}{secret}{around}"):
        assert secret not in redact(written).replace(HIDDEN, "\0")


KEY = 'kid-1234:Se+"cret/?Key=0987'


@pytest.mark.parametrize(
    "written",
    [
        quote(KEY, safe=""),
        quote(KEY, safe="/:"),
        re.sub("%..", lambda found: found[0].lower(), quote(KEY, safe="")),
        json.dumps(KEY).replace("/", r"\/"),
        KEY.replace("+", r"\u002b").replace("=", r"\u003D"),
        b64encode(KEY.encode()).decode(),
        b64encode(f"Bearer {KEY}".encode()).decode(),
        b64encode(f"me:{KEY}\n".encode()).decode(),
        urlsafe_b64encode(f"x{KEY}".encode()).decode(),
    ],
)
def test_a_known_secret_is_hidden_when_it_is_encoded(written: str):
    hidden = Redactor([KEY])(f"refused for {written} here")
    assert HIDDEN in hidden
    assert written[8:20] not in hidden


@pytest.mark.parametrize("style", STYLES)
def test_the_traceback_of_an_error_that_repeats_is_written_once_a_minute(
    set_up: SetUp, style: Literal["console", "json"], monkeypatch: pytest.MonkeyPatch
):
    out = set_up(style)
    now = [1000.0]
    monkeypatch.setattr(logs.time, "monotonic", lambda: now[0])

    def fail(text: str, order: int) -> None:
        try:
            raise OSError(text)
        except OSError:
            logging.getLogger("bot").exception("order %d was not taken", order)

    for order in range(200):
        fail("the disk is full", order)
    assert out.getvalue().count("Traceback") == 1
    assert "order 199 was not taken: OSError: the disk is full" in out.getvalue()
    fail("something else", 200)
    assert out.getvalue().count("Traceback") == 2
    now[0] += logs.TRACEBACK_PAUSE_SECONDS
    fail("the disk is full", 201)
    assert out.getvalue().count("Traceback") == 3
    for number in range(1_000):
        fail(f"another {number}", number)
    assert len(out.getvalue().splitlines()) >= 1_202, "each of them has its line"


def test_a_key_of_a_few_letters_is_not_replaced():
    assert Redactor(["k", ""])("kept keys") == "kept keys"


def test_an_interrupt_from_the_keyboard_is_no_error(set_up: SetUp):
    out = set_up()
    sys.excepthook(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert out.getvalue() == ""


def test_an_error_that_ends_the_process_shows_no_key():
    program = f"""
        from bot.runtime.logs import set_up_logging
        key = {CANARY!r}
        set_up_logging(level="INFO", style="console", secrets=[key])
        raise RuntimeError("the key is " + key)
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert HIDDEN in result.stderr
    assert "5f1c0e7a9b" not in result.stdout + result.stderr
