"""A bot that dies on request: the program as it is, with named points at which the process kills itself.

    CRASH_AT=store.admit CRASH_WHEN=after CRASH_NTH=1 python -m tests.support.crashing_bot

    CRASH_AT              one of `crash_points()`, or `sql` for the n-th statement of the writing connection
    CRASH_WHEN            `before` the call, or `after` it took effect and before the caller knows
    CRASH_NTH             at which of its calls, 1 unless told
    CRASH_RECORD          a file to which every point is written as it is passed
    CLOCK_AHEAD_SECONDS   how far this process is in the future
    IMPATIENT             anything: time limits made for real providers are seconds (see `_hurry`)

With `--warm` it imports everything once, then forks a bot for each line of JSON on its standard input
(`{"environment": {…}, "log": "…"}`), printing `<pid>` when it begins and `<exit status>` when it has ended.
"""

from __future__ import annotations

import functools
import gc
import inspect
import json
import os
import signal
import sqlite3
import sys
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import FunctionType
from typing import Any, NoReturn, cast

import time_machine

import bot.app  # all of it, so that forked bots start without importing
from bot.cli import main as run_bot
from bot.domain import jobs
from bot.media.blob_store import FileBlobStore
from bot.providers.krea import KreaProvider
from bot.providers.pixazo import PixazoProvider
from bot.service.execution import reconciliation
from bot.store.database import writes, writes_with_retry
from bot.store.sqlite import database
from bot.store.store import Store
from bot.store.tables.shared import reply_queue_rows
from cogs.ui.discord_api.message_api import MessageApi
from cogs.ui.initial_response import InitialResponse

SQL = "sql"


def crash_points() -> dict[str, tuple[type, str]]:
    """Return the names of all crash points: writes of the store, calls to providers and Discord, images stored."""
    found: dict[str, tuple[type, str]] = {}
    found |= {f"store.{name}": (Store, name) for name in _coroutines(Store) if _writes(getattr(Store, name))}
    for provider in (KreaProvider, PixazoProvider):
        prefix = provider.__name__.removesuffix("Provider").lower()
        found |= {f"{prefix}.{name}": (provider, name) for name in _coroutines(provider)}
    found |= {f"messages.{name}": (MessageApi, name) for name in _coroutines(MessageApi)}
    found["answer.show"] = (InitialResponse, "show")
    found["pictures.put"] = (FileBlobStore, "put")
    return found


def _coroutines(owner: type) -> list[str]:
    members = inspect.getmembers(owner, inspect.iscoroutinefunction)
    return [name for name, _ in members if not name.startswith("_")]


def _writes(method: Callable[..., Any]) -> bool:
    """Return whether this method of the store was made by `writes`, or calls one that was."""
    if method.__code__ in (_WRITES, _WRITES_WITH_RETRY):
        return True
    called = [getattr(Store, name, None) for name in method.__code__.co_names if name.startswith("_")]
    return any(_writes(found) for found in called if inspect.iscoroutinefunction(found))


_WRITES, _WRITES_WITH_RETRY = (
    cast("FunctionType", make(lambda connection: None)).__code__ for make in (writes, writes_with_retry)
)


def _arm(environment: dict[str, str]) -> None:
    """Insert the named crash point into the classes of this process."""
    wanted, when = environment.get("CRASH_AT"), environment.get("CRASH_WHEN", "before")
    nth = int(environment.get("CRASH_NTH", "1"))
    record = environment.get("CRASH_RECORD")
    log = os.open(record, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600) if record else None
    passed: Counter[str] = Counter()

    def passing(name: str, moment: str) -> None:
        if moment == "before":
            passed[name] += 1
            if log is not None:
                os.write(log, f"{name}\n".encode())
        if name == wanted and moment == when and passed[name] >= nth:
            _die()

    for name, (owner, attribute) in crash_points().items():
        setattr(owner, attribute, _with_point(name, getattr(owner, attribute), passing))
    if wanted == SQL or log is not None:
        _trace_statements(passing)


def _with_point(
    name: str, call: Callable[..., Awaitable[Any]], passing: Callable[[str, str], None]
) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(call)
    async def crossing(*arguments: Any, **named: Any) -> Any:
        passing(name, "before")
        outcome = await call(*arguments, **named)
        passing(name, "after")
        return outcome

    return crossing


def _trace_statements(passing: Callable[[str, str], None]) -> None:
    """Report each SQL statement before it runs, within a transaction as well as around it."""
    connect = database.connect

    def traced(path: Path) -> sqlite3.Connection:
        connection = connect(path)
        connection.set_trace_callback(lambda _: passing(SQL, "before"))
        return connection

    database.connect = traced


def _die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")


def _hurry() -> None:
    """Shorten the time limits of lost orders, dead workers and orphaned replies. Their order stays the same."""
    from bot.store.postgres import reply_queue

    reconciliation.MIN_RECONCILIATION_SECONDS = 2.0
    jobs.CHECKING_PERIOD = timedelta(minutes=5)
    reply_queue.LEASE = timedelta(seconds=5)
    reply_queue_rows.ORPHANED_AFTER = timedelta(seconds=7)


def _run(environment: dict[str, str], arguments: Sequence[str] = ()) -> int:
    ahead = float(environment.get("CLOCK_AHEAD_SECONDS", "0"))
    if ahead:
        time_machine.travel(datetime.now(UTC) + timedelta(seconds=ahead), tick=True).start()
    if environment.get("IMPATIENT"):
        _hurry()
    _arm(environment)
    return run_bot(arguments)


def _become_the_bot(order: dict[str, Any]) -> NoReturn:
    """Set up the forked process (environment, output, working directory) and run the program."""
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for descriptor, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(descriptor, target)
    os.environ.clear()
    os.environ.update(order["environment"])
    os.chdir(Path(order["log"]).parent)  # a developer's own .env must not reach it
    status = 1
    try:
        status = _run(order["environment"])
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _serve() -> None:
    from bot.store.postgres import reply_queue

    assert reply_queue is not None, "imported for what `_hurry` changes"
    # Or each bot looks for garbage in what it shares with the others, which copies it.
    gc.collect()
    gc.freeze()
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _become_the_bot(json.loads(line))
        _say(pid)
        _say(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def _say(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


def main() -> None:
    assert bot.app is not None, "imported for its speed"
    if sys.argv[1:] == ["--warm"]:
        _serve()
    else:
        sys.exit(_run(dict(os.environ), sys.argv[1:]))


if __name__ == "__main__":
    main()
