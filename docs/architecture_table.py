"""Print the tables of architecture.md: `python docs/architecture_table.py`, or `--write` to update the page.

Imports are read with grimp, the library behind import-linter. The files of one `/imagine` are counted while it runs
against the simulated Discord of the tests, by tests/cogs/test_one_imagine.py.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import grimp

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"


def package_of(module: str) -> str:
    """Return `bot.store` for `bot.store.tables.money.ledger`, and `bot` for the files of `bot/` itself."""
    parts = module.split(".")
    return ".".join(parts[:2]) if (ROOT / "/".join(parts[:2])).is_dir() else parts[0]


def file_of(module: str) -> Path:
    path = ROOT / Path(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def package_rows(graph: grimp.ImportGraph) -> Iterator[str]:
    """Return one row per package: files, lines, and the numbers of outside modules it imports and is imported by."""
    modules = sorted(graph.modules)
    for package in sorted({package_of(module) for module in modules}):
        own = [module for module in modules if package_of(module) == package]
        lines = sum(len(file_of(module).read_text(encoding="utf-8").splitlines()) for module in own)
        imports = {name for module in own for name in graph.find_modules_directly_imported_by(module)}
        importers = {name for module in own for name in graph.find_modules_that_directly_import(module)}
        files = sum(file_of(module).name != "__init__.py" for module in own)
        counts = (files, lines, len(imports - set(own)), len(importers - set(own)))
        yield f"| `{package.replace('.', '/')}/` | {' | '.join(map(str, counts))} |"


def longest_chain(graph: grimp.ImportGraph) -> list[str]:
    """Return the longest path of imports from module to module."""
    known: dict[str, list[str]] = {}

    def chain(module: str) -> list[str]:
        if module not in known:
            known[module] = [module]  # an import cycle would end here
            below = (chain(name) for name in sorted(graph.find_modules_directly_imported_by(module)))
            known[module] = [module, *max(below, key=len, default=[])]
        return known[module]

    return max((chain(module) for module in sorted(graph.modules)), key=len)


def partials() -> int:
    """Return how often product code contains `partial(`."""
    files = [file for folder in ("bot", "cogs") for file in (ROOT / folder).rglob("*.py")]
    return sum(file.read_text(encoding="utf-8").count("partial(") for file in files)


def files_of_one_imagine() -> list[str]:
    """Return the files of bot/ and cogs/ with a function that runs between the command and the finished image."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "files.json"
        command = (sys.executable, "-m", "pytest", "-q", "tests/cogs/test_one_imagine.py")
        subprocess.run(command, cwd=ROOT, env=os.environ | {"ONE_IMAGINE_FILES": str(report)}, check=True)
        return json.loads(report.read_text(encoding="utf-8"))


def table() -> str:
    """Return all figures as Markdown."""
    sys.path.insert(0, str(ROOT))
    graph = grimp.build_graph("bot", "cogs", exclude_type_checking_imports=True)
    chain = longest_chain(graph)
    figures = (
        f"`partial(` in `bot/` and `cogs/`: {partials()}. "
        f"Files entered by one `/imagine`: {len(files_of_one_imagine())}. "
        f"Longest chain of imports: {len(chain)} modules, from `{chain[0]}` to `{chain[-1]}`."
    )
    head = "| package | files | lines | modules it imports from others | modules of others that import it |"
    return "\n".join([head, "| --- | --- | --- | --- | --- |", *package_rows(graph), "", figures])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--write", action="store_true", help="replace the tables in docs/architecture.md")
    made = table()
    if not parser.parse_args().write:
        print(made)
        return
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}\n\n{made}\n\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
