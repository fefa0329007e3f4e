"""Mutants: small bugs put into the money code one at a time, to see whether the tests notice.

    python -m benchmarks.mutants --most 60

Each mutant changes one place of the source as it is imported by a forked process, which then runs the tests of that
file until the first failure. No file is changed. Survivors are explained in EXPLAINED, or they are holes in the tests.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import importlib
import importlib.abc
import importlib.util
import json
import os
import random
import re
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

PROJECT = Path(__file__).resolve().parents[1]
DEADLINE_SECONDS = 150
"""Tests that take so long have noticed: a loop does not end any more."""

SEVERAL = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """A file whose mistakes cost money, the tests that guard it (quickest first), and which functions count."""

    file: str
    tests: tuple[str, ...]
    functions: tuple[str, ...] = ()
    """None named: all."""

    @property
    def module(self) -> str:
        return self.file.removesuffix(".py").replace("/", ".")


TARGETS = (
    Target(
        file="bot/quota.py",
        tests=(
            "tests/test_quota.py",
            "tests/test_ledger.py",
            "tests/test_policy.py",
            "tests/test_rows_money.py",
            "tests/test_service.py",
            "tests/discord/test_settings.py",
        ),
    ),
    Target(
        file="bot/store/ledger.py",
        tests=(
            "tests/test_ledger.py",
            "tests/test_store_verify.py",
            "tests/test_store_jobs.py",
            "tests/test_privacy.py",
            "tests/test_policy.py",
            "tests/test_cli_ledger.py",
            "tests/test_ledger_machine.py",
            "tests/test_rows_money.py",
        ),
    ),
    Target(
        file="bot/worker.py",
        tests=(
            "tests/test_worker_results.py",
            "tests/test_worker.py",
            "tests/test_lost.py",
            "tests/test_service_cancel.py",
            "tests/test_service.py",
            "tests/test_recovery.py",
            "tests/discord/test_buttons.py",
            "tests/discord/test_imagine.py",
        ),
        functions=("_ends", "_look_up", "_watch", "_advance", "_collect", "fail"),
    ),
)

EXPLAINED: dict[str, str] = {
    "bot/quota.py Window.containing: 32 → 33": "so many days after the first, 31 to 58, it is the next month",
    "bot/quota.py Window.before: 1 → 2": "two microseconds before a window is the same window as one before",
    "bot/quota.py Window.containing: assert_never(period) → pass": "only a type checker ever gets there",
    "bot/quota.py : 1_000 → 1001": "that there is such a limit is tested; how high is a matter of taste",
    "bot/store/ledger.py reserve: True → False": "both lists are made of the same orders",
    "bot/store/ledger.py _SETTLE: BETWEEN 1 → BETWEEN 0": "a charge of nothing never comes here: it is a release",
    "bot/store/ledger.py _ADJUST: 0 → 1": "the first entry of a ledger reserves, and only what was settled is forgiven",
    "bot/store/ledger.py spend_report: 0 → 1": "who was forgotten comes first either way: nobody's id is below that",
    "bot/worker.py Worker._ends: True → False": "the books refuse to do anything more to a job that has ended",
    "bot/worker.py Worker._ends: <= → <": "in the very microsecond of its deadline a job is tried once more",
    "bot/worker.py Worker._ends: > → >=": "one try more or fewer before a job that was never sent is given back",
    "bot/worker.py Worker._collect: False → True": "the error is caught a few lines below, where nobody asks",
    "bot/worker.py Worker._collect: > → >=": "decides only whether a line is logged",
    "bot/worker.py Worker._advance: True → False": "the watching ends by itself after the last news",
    "bot/worker.py Worker._collect: cost > charged → (not (cost > charged))": "decides only whether a line is logged",
    "bot/store/ledger.py house_usd_micros: 0 → 1": "nothing was booked in the first microsecond of 1970",
}
"""Survivors that are no holes: 'file function: what changed' → why no test can or should tell."""

_COMPARISONS = {
    ast.Lt: "<=",
    ast.LtE: "<",
    ast.Gt: ">=",
    ast.GtE: ">",
    ast.Eq: "!=",
    ast.NotEq: "==",
    ast.Is: "is not",
    ast.IsNot: "is",
    ast.In: "not in",
    ast.NotIn: "in",
}
_OPERATORS = {ast.Add: "-", ast.Sub: "+", ast.Mult: "//", ast.Div: "*", ast.FloorDiv: "*", ast.Mod: "*"}
_SQL = (
    (r" <= ", " < "),
    (r" < ", " <= "),
    (r" >= ", " > "),
    (r" > ", " >= "),
    (r" = (?=[:?'\w])", " <> "),
    (r" \+ ", " - "),
    (r" - ", " + "),
    (r"\bmax\(0, ", "min(0, "),
    (r"\bAND ", "OR "),
    (r" OR ", " AND "),
    (r"IS NULL", "IS NOT NULL"),
    (r"BETWEEN 1 ", "BETWEEN 0 "),
    (r" DESC\b", " ASC"),
    (r"sum\(", "max("),
    (r"\b0(?=[,)])", "1"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Mutant:
    """One change: bytes `start` to `end` of the file become `new`."""

    target: Target
    function: str
    line: int
    start: int
    end: int
    old: str
    new: str

    @property
    def name(self) -> str:
        old, new = (" ".join(text.split()) for text in (self.old, self.new))
        return f"{self.target.file} {self.function}: {old[:60]} → {new[:60]}"


@dataclass(kw_only=True)
class Figures:
    """What came out."""

    mutants: int = 0
    caught: int = 0
    survivors: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    """With the line, and why it survives (empty: a hole)."""
    by_file: dict[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])
    """(caught, tried)."""
    seconds: float = 0.0


# -- making them --------------------------------------------------------------------------------------------


def mutants_of(target: Target) -> list[Mutant]:
    """Every change we know how to make, in the order of the file."""
    source = (PROJECT / target.file).read_bytes()
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))

    def span(node: ast.expr | ast.stmt) -> tuple[int, int]:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1] + node.end_col_offset

    found: list[Mutant] = []

    def change(function: str, node: ast.expr | ast.stmt, start: int, end: int, new: str) -> None:
        old = source[start:end].decode()
        mutant = Mutant(target=target, function=function, line=node.lineno, start=start, end=end, old=old, new=new)
        if old != new:
            found.append(mutant)

    def between(left: ast.expr, right: ast.expr) -> tuple[int, int]:
        return span(left)[1], span(right)[0]

    for function, node in _nodes(ast.parse(source)):
        if target.functions and function.rpartition(".")[2] not in target.functions:
            continue
        match node:
            case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _COMPARISONS:
                change(function, node, *between(left, right), f" {_COMPARISONS[type(op)]} ")
            case ast.Compare(left=left, ops=[first, *_], comparators=[right, *_]) if type(first) in _COMPARISONS:
                change(function, node, *between(left, right), f" {_COMPARISONS[type(first)]} ")
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
                if not isinstance(left, ast.Constant) or not isinstance(left.value, str):
                    change(function, node, *between(left, right), f" {_OPERATORS[type(op)]} ")
            case ast.BoolOp(op=op, values=[first, second, *_]):
                change(function, node, *between(first, second), " or " if isinstance(op, ast.And) else " and ")
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                change(function, node, *span(node), source[slice(*span(operand))].decode())
            case ast.Constant(value=bool(value)):
                change(function, node, *span(node), str(not value))
            case ast.Constant(value=int(value)):
                change(function, node, *span(node), str(value + 1))
            case ast.Call(func=ast.Name(id=("min" | "max") as name)):
                change(function, node, *span(node.func), "max" if name == "min" else "min")
            case ast.If(test=test) | ast.IfExp(test=test):
                change(function, test, *span(test), f"(not ({source[slice(*span(test))].decode()}))")
            case ast.Return(value=ast.expr() as value) if not isinstance(value, ast.Constant):
                change(function, node, *span(value), "None")
            case ast.Expr(value=ast.Call() | ast.Await()):
                change(function, node, *span(node), "pass")
            case ast.Assign(value=ast.Constant(value=str()) as text) if function == "":
                for pattern, new in _SQL:
                    start, end = span(text)
                    for hit in re.finditer(pattern.encode(), source[start:end]):
                        if b"--" not in source[start : start + hit.start()].rpartition(b"\n")[2]:
                            change(_name_of(node), text, start + hit.start(), start + hit.end(), new)
            case _:
                pass
    return sorted(found, key=lambda mutant: mutant.start)


def _name_of(node: ast.Assign) -> str:
    name = node.targets[0]
    return name.id if isinstance(name, ast.Name) else "?"


def _nodes(tree: ast.AST, function: str = "") -> Iterator[tuple[str, ast.AST]]:
    """Every node that does something, with the function it is in. Words for people and types are left alone."""
    for name, value in ast.iter_fields(tree):
        if name in ("annotation", "returns", "decorator_list", "args", "bases", "keywords") and not isinstance(
            tree, ast.Call
        ):
            continue
        for node in value if isinstance(value, list) else [value]:
            if not isinstance(node, ast.AST) or _is_talk(node):
                continue
            inside = function
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                inside = f"{function}.{node.name}".lstrip(".")
            yield function, node
            yield from _nodes(node, inside)


def _is_talk(node: ast.AST) -> bool:
    """A log line, a sentence in an exception, a docstring."""
    match node:
        case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name(id="_log")))) | ast.JoinedStr():
            return True
        case ast.Expr(value=ast.Constant()) | ast.Assert():
            return True
        case _:
            return False


# -- trying them --------------------------------------------------------------------------------------------


class _Loader(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module with other source."""

    def __init__(self, module: str, path: Path, source: bytes) -> None:
        self._module, self._path, self._source = module, path, source

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self._module:
            return None
        return importlib.util.spec_from_file_location(fullname, self._path, loader=self)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self._source, self._path, "exec"), module.__dict__)  # noqa: S102 - our own source, changed


def warm_up() -> None:
    """Import what takes long and is not under test, so that a fork starts at once."""
    for name in ("pytest", "pytest_asyncio", "hypothesis", "simcord", "discord", "aiohttp", "aiosqlite", "stamina"):
        importlib.import_module(name)
    for name in ("PIL.Image", "pydantic_settings", "prometheus_client", "structlog", "time_machine", "xdist"):
        importlib.import_module(name)
    assert not any(name.partition(".")[0] in ("bot", "cogs") for name in sys.modules)


def start(target: Target, mutant: Mutant | None) -> int:
    """Fork a process that runs the tests of a target against a mutant, or (None) against the source as it is."""
    child = os.fork()
    if child:
        return child
    os.setsid()
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    status = 99
    with contextlib.suppress(BaseException):
        os.environ["CI"] = "1"
        path = PROJECT / target.file
        if mutant is not None:
            source = path.read_bytes()
            changed = source[: mutant.start] + mutant.new.encode() + source[mutant.end :]
            sys.meta_path.insert(0, _Loader(target.module, path, changed))
        import pytest

        options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-m", "not slow and not torture"]
        options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # imported before by `warm_up`
        status = int(pytest.main([*options, *target.tests]))
    os._exit(status)


def caught(mutants: Sequence[Mutant]) -> Iterator[tuple[Mutant, bool]]:
    """Try all, several at a time."""
    waiting, running = list(reversed(mutants)), dict[int, tuple[Mutant, float]]()
    while waiting or running:
        while waiting and len(running) < SEVERAL:
            mutant = waiting.pop()
            running[start(mutant.target, mutant)] = (mutant, time.monotonic())
        child, status = os.waitpid(-1, os.WNOHANG)
        if child in running:
            mutant, _ = running.pop(child)
            yield mutant, os.waitstatus_to_exitcode(status) != 0
            continue
        for child, (_, begun_at) in running.items():
            if time.monotonic() - begun_at > DEADLINE_SECONDS:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child, signal.SIGKILL)
        time.sleep(0.05)


def measure(targets: Sequence[Target], *, most: int, seed: int) -> Figures:
    """Try at most so many mutants of each file, chosen by lot."""
    begun_at = time.monotonic()
    for target in targets:
        _, status = os.waitpid(start(target, None), 0)
        if os.waitstatus_to_exitcode(status) != 0:
            raise SystemExit(f"The tests of {target.file} do not even pass as it is.")
    figures = Figures()
    for target in targets:
        all_of_them = mutants_of(target)
        chosen = random.Random(seed).sample(all_of_them, min(most, len(all_of_them)))
        killed = 0
        for mutant, is_caught in caught(chosen):
            figures.mutants += 1
            killed += is_caught
            if not is_caught:
                figures.survivors.append((f"{mutant.name} (line {mutant.line})", EXPLAINED.get(mutant.name, "")))
                print(f"survived: {mutant.name} (line {mutant.line})", file=sys.stderr, flush=True)
        figures.caught += killed
        figures.by_file[target.file] = (killed, len(chosen))
    figures.seconds = round(time.monotonic() - begun_at, 1)
    return figures


def together(last: Figures, new: Figures) -> Figures:
    """The newest figures of each file."""
    by_file = last.by_file | new.by_file
    kept = [(name, why) for name, why in last.survivors if name.partition(" ")[0] not in new.by_file]
    return Figures(
        mutants=sum(tried for _, tried in by_file.values()),
        caught=sum(caught for caught, _ in by_file.values()),
        survivors=sorted([*kept, *new.survivors]),
        by_file=by_file,
        seconds=round(last.seconds + new.seconds, 1),
    )


def measure_again(targets: Sequence[Target], last: Figures) -> Figures:
    """Try only what survived the last time, after tests were added."""
    figures = last
    alive = [name.rpartition(" (line ")[0] for name, _ in last.survivors]
    for target in targets:
        mutants = mutants_of(target)
        still = [mutant for mutant, is_caught in caught([one for one in mutants if one.name in alive]) if not is_caught]
        survivors = [(f"{mutant.name} (line {mutant.line})", EXPLAINED.get(mutant.name, "")) for mutant in still]
        # What was in a line that has changed since is no mutant any more.
        of_file = [name for name in alive if name.partition(" ")[0] == target.file]
        tried = last.by_file[target.file][1] - len(set(of_file) - {mutant.name for mutant in mutants})
        by_file = {target.file: (tried - len(still), tried)}
        figures = together(figures, Figures(survivors=survivors, by_file=by_file))
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mutants", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--most", type=int, default=10_000, help="mutants of each file, chosen by lot")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--file", help="only this file; of the others the last figures stay")
    parser.add_argument("--again", action="store_true", help="try only what survived the last time")
    parser.add_argument("--list", action="store_true", help="only say what would be changed")
    parser.add_argument("--json", type=Path, default=Path("build/mutants.json"), help="where the figures go")
    arguments = parser.parse_args()
    if arguments.list:
        for target in TARGETS:
            for mutant in mutants_of(target):
                print(f"{mutant.line:4} {mutant.name}")
        return
    warm_up()
    last = Figures(**json.loads(arguments.json.read_text(encoding="utf-8"))) if arguments.json.exists() else Figures()
    targets = [target for target in TARGETS if arguments.file in (None, target.file)]
    if arguments.again:
        figures = measure_again(targets, last)
    else:
        figures = together(last, measure(targets, most=arguments.most, seed=arguments.seed))
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(asdict(figures), indent=2) + "\n", encoding="utf-8")
    for file, (killed, tried) in figures.by_file.items():
        print(f"{file:24} {killed} of {tried} caught")
    print(f"{'all':24} {figures.caught} of {figures.mutants} caught in {figures.seconds:.0f} s")
    sys.exit(0 if figures.caught >= 0.9 * figures.mutants else 1)


if __name__ == "__main__":
    main()
