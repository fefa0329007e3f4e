"""The path of money is a chain of direct calls: a reader, or a tool, can walk it by "go to definition".

`walk` follows calls with `ast` and `inspect`, and nothing but plain names: a method called on a part of `self`, a
wrapper of the store, a function of a table module. A `partial`, a lambda or a callback in between ends the walk.
"""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, cast

import pytest

import bot.store.store
from bot.service.execution.job_runner import JobRunner
from bot.service.execution.reply_runner import ReplyRunner
from bot.service.input_images import InputUploads
from bot.service.job_service import JobService
from bot.store.store import Store
from bot.store.tables import jobs
from bot.store.tables.money import ledger, transactions
from cogs.generate.imagine import Imagine
from cogs.generate.ordering.order_flow import OrderFlow

WRAPPERS = {"reads", "writes", "writes_with_retry"}
PARTS: dict[str, type] = {"store": Store, "_store": Store, "_service": JobService, "_order_flow": OrderFlow}
"""The type of an attribute of `self`, by its name. Attributes not listed are not followed."""


def calls_in(function: Callable[..., Any]) -> Iterator[ast.Call]:
    """Return the calls in the body of a function, but not those that a lambda or an inner function makes later."""
    waiting: list[ast.AST] = list(ast.parse(textwrap.dedent(inspect.getsource(function))).body[0].body)  # type: ignore[attr-defined]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Lambda | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.Call):
            yield node
        waiting.extend(ast.iter_child_nodes(node))


def definition_of_wrapper(name: str) -> Callable[..., Any] | None:
    """Return the SQL function in `name = writes(module.function)` of the class Store."""
    for node in ast.parse(textwrap.dedent(inspect.getsource(Store))).body[0].body:  # type: ignore[attr-defined]
        match node:
            case ast.Assign(
                targets=[ast.Name(id=found)], value=ast.Call(func=ast.Name(id=wrapper), args=[made_of, *_])
            ):
                if found == name and wrapper in WRAPPERS:
                    return resolved(made_of, vars(bot.store.store))
    return None


def resolved(node: ast.expr, names: Mapping[str, Any]) -> Callable[..., Any] | None:
    """Return the function that a plain name, or a name in a module, refers to."""
    match node:
        case ast.Name(id=name):
            found = names.get(name)
        case ast.Attribute(value=ast.Name(id=owner), attr=name) if isinstance(names.get(owner), ModuleType):
            found = getattr(names[owner], name, None)
        case _:
            found = None
    return cast("FunctionType", found) if inspect.isfunction(found) else None


def method_of(owner: type, name: str) -> tuple[Callable[..., Any], type] | None:
    """Return the method of a class, and the class."""
    method = inspect.unwrap(getattr(owner, name)) if hasattr(owner, name) else None
    return (method, owner) if inspect.isfunction(method) else None


def target_of(
    call: ast.Call, function: Callable[..., Any], owner: type | None
) -> tuple[Callable[..., Any], type | None] | None:
    """Return where "go to definition" on a call ends, and the class it is a method of."""
    match call.func:
        case ast.Attribute(value=ast.Attribute(value=ast.Name(id="self"), attr=part), attr=name) if part in PARTS:
            if (of := PARTS[part]) is Store and (found := definition_of_wrapper(name)) is not None:
                return found, None
            return method_of(of, name)
        case ast.Attribute(value=ast.Name(id="self"), attr=name) if owner is not None:
            return method_of(owner, name)
        case _:
            found = resolved(call.func, inspect.unwrap(function).__globals__)
            return None if found is None or not found.__module__.startswith(("bot.", "cogs.")) else (found, None)


def reachable(start: Callable[..., Any], owner: type | None) -> list[Callable[..., Any]]:
    """Return every function that direct calls lead to, and `start`."""
    found: list[tuple[Callable[..., Any], type | None]] = [(inspect.unwrap(start), owner)]
    for function, of in found:
        for call in calls_in(function):
            if (target := target_of(call, function, of)) is not None and target not in found:
                found.append(target)
    return [function for function, _ in found]


def executed_by(function: Callable[..., Any]) -> set[str]:
    """Return the names of the module's constants that a function passes to `connection.execute`."""
    return {
        call.args[0].id
        for call in calls_in(function)
        if isinstance(call.func, ast.Attribute) and call.func.attr == "execute" and isinstance(call.args[0], ast.Name)
    }


def statements(start: Callable[..., Any], owner: type) -> set[tuple[str, str]]:
    """Return the SQL constants that direct calls lead to, each with its module."""
    return {(function.__module__, name) for function in reachable(start, owner) for name in executed_by(function)}


def test_a_charge_is_a_straight_line_from_the_job_runner_to_the_sql() -> None:
    path = reachable(JobRunner._collect, JobRunner)
    assert ledger.settle in path
    assert (ledger.__name__, "_SETTLE") in statements(JobRunner._collect, JobRunner)
    assert "UPDATE reservations" in ledger._SETTLE


def test_a_release_is_a_straight_line_from_the_job_runner_to_the_sql() -> None:
    assert (ledger.__name__, "_RELEASE") in statements(JobRunner.fail, JobRunner)
    assert "UPDATE reservations" in ledger._RELEASE


def test_a_reservation_is_a_straight_line_from_the_service_to_the_sql() -> None:
    found = statements(JobService.admit, JobService)
    assert {(ledger.__name__, "_RESERVE"), (jobs.__name__, "_INSERT_REPLY"), (jobs.__name__, "_INSERT_JOB")} <= found
    assert "INSERT INTO reservations" in ledger._RESERVE
    assert "SELECT" in ledger._RESERVE


def test_an_order_is_a_straight_line_from_the_command_to_the_sql() -> None:
    handler = cast("Callable[..., Any]", Imagine.imagine.callback)
    path = reachable(handler, Imagine)
    assert [JobService.admit, transactions.admit] == [step for step in path if step.__name__ == "admit"]
    assert (ledger.__name__, "_RESERVE") in statements(handler, Imagine)


@pytest.mark.parametrize("owner", [JobRunner, InputUploads, JobService, ReplyRunner])
def test_every_call_of_the_store_is_direct(owner: type) -> None:
    """Check that each mention of a method of the store is a call: none is passed on to be called later."""
    tree = ast.parse(Path(inspect.getfile(owner)).read_text(encoding="utf-8"))
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    in_lambda = {id(inner) for node in ast.walk(tree) if isinstance(node, ast.Lambda) for inner in ast.walk(node)}
    mentioned = 0
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Attribute(value=ast.Name(id="self"), attr=part), attr=name) if part in PARTS:
                if inspect.iscoroutinefunction(getattr(Store, name, None)):
                    mentioned += 1
                    assert id(node) in called, f"line {node.lineno}: {name} is not called here"
                    assert id(node) not in in_lambda, f"line {node.lineno}: {name} is called by a lambda"
    assert mentioned


def test_a_bot_on_sqlite_does_not_import_the_driver_of_postgresql(tmp_path: Path) -> None:
    program = """
import asyncio, sys
from pathlib import Path
import bot.__main__
import bot.cli
from bot.store.store import Store

async def main() -> None:
    async with await Store.open(Path(sys.argv[1])) as store:
        assert await store.problem() is None

asyncio.run(main())
print(sorted(name for name in sys.modules if name.partition(".")[0] == "psycopg"))
"""
    command = [sys.executable, "-c", program, str(tmp_path / "bot.sqlite3")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
