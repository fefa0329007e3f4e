"""Who may import whom, read off the source. A file that wants to import upward holds a name that lives elsewhere."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ANYTHING = {""}
DOMAIN = {
    f"bot.{name}"
    for name in ("accepted", "audit", "durations", "errors", "jobs", "quota", "models", "aspect_ratio", "orders")
} | {f"bot.{name}" for name in ("catalogue", "location", "pattern", "wordlist", "policy", "role", "styles")}
# The work on pictures runs in a process of its own, which must start fast and know nothing.
PIXELS = {"bot.pixels", "bot.metadata", "bot.formats", "PIL"}
# What the story of a job knows of the outside: never a concrete provider, never SQL.
BORDERS = {"bot.providers.base", "bot.providers.watcher", "bot.store.store"}
# And what one process hears of the others.
NEIGHBOURS = {"bot.store.neighbours", "bot.store.notices"}
TOOLS = {"bot.fetch", "bot.images", "bot.patience", "bot.pictures", "bot.supervisor", "stamina"}

# The longest matching name counts. The standard library is open to all, but for SQL.
MAY_IMPORT: dict[str, set[str]] = {
    **dict.fromkeys(DOMAIN, DOMAIN),
    "bot": set(),  # a new file asks for nothing until it has a line here
    "bot.settings": {"bot.errors", "bot.location", "bot.quota", "dotenv", "pydantic", "pydantic_settings"},
    "bot.catalogue_refresh": DOMAIN,
    "bot.log": {"stamina", "structlog"},
    "bot.http": {"bot.errors", "aiohttp", "prometheus_client"},
    "bot.formats": set(),
    "bot.metadata": set(),
    "bot.pixels": PIXELS,
    "bot.image_worker": PIXELS,
    "bot.images": DOMAIN | {"bot.metadata", "bot.formats"},
    "bot.chart": set(),
    # Drawing has a process of its own too: what it needs takes longer to import than the whole bot.
    "bot.lettering": {"bot.chart", "matplotlib"},
    "bot.plot": {"bot.chart", "bot.lettering", "bot.quota", "matplotlib"},
    "bot.chart_worker": {"bot.chart", "bot.plot"},
    "bot.chart_maker": {"bot.chart"},
    "bot.pictures": DOMAIN,
    "bot.fetch": {"bot.errors", "bot.addresses", "aiohttp", "yarl"},
    "bot.store": DOMAIN | {"bot.store", "bot.pictures", "aiosqlite", "pgqueuer", "psycopg", "sqlite3"},
    "bot.providers": DOMAIN | {"bot.providers", "bot.budget", "aiohttp", "yarl"},
    # From here each line may use the ones above it.
    "bot.line": set(),
    "bot.observer": DOMAIN,
    "bot.live": DOMAIN,
    "bot.metrics": DOMAIN | {"aiohttp", "prometheus_client"},
    "bot.pace": set(),
    "bot.rush": set(),
    "bot.heap": set(),
    "bot.budget": set(),
    "bot.patience": DOMAIN | {"stamina"},
    "bot.style_reader": DOMAIN | BORDERS,
    "bot.lane": DOMAIN | BORDERS | {"bot.budget", "bot.line", "bot.rush"},
    "bot.lost": DOMAIN | BORDERS | {"bot.lane", "bot.live"},
    "bot.worker": DOMAIN
    | BORDERS
    | TOOLS
    | {"bot.lane", "bot.live", "bot.lost", "bot.metrics", "bot.observer", "bot.rush"},
    "bot.following": DOMAIN | BORDERS | TOOLS | {"bot.lane", "bot.live", "bot.observer"},
    "bot.company": {"bot.lane", "bot.line"},
    "bot.cluster": DOMAIN | TOOLS | NEIGHBOURS | {"bot.following", "bot.lane", "bot.line", "bot.live"},
    "bot.places": BORDERS | {"bot.company", "bot.lane"},
    "bot.service": DOMAIN
    | BORDERS
    | TOOLS
    | {
        "bot.cluster",
        "bot.company",
        "bot.following",
        "bot.lane",
        "bot.live",
        "bot.metrics",
        "bot.observer",
        "bot.pace",
        "bot.places",
        "bot.rush",
        "bot.worker",
    },
    "bot.client": ANYTHING,
    "bot.app": ANYTHING,
    "bot.cli": ANYTHING,
    "bot.__main__": ANYTHING,
    "cogs": DOMAIN
    | {
        "cogs",
        "bot.chart",
        "bot.chart_maker",
        "bot.observer",
        "bot.patience",
        "bot.service",
        "bot.supervisor",
        "discord",
        "stamina",
        "aiohttp.ClientError",
    },
    "cogs.files": {"aiohttp", "discord"},
    "sandbox": {"sandbox", "aiohttp", "PIL"},
    "sandbox.demo": ANYTHING,
    "sandbox.screenshots": {"sandbox", "playwright"},
}


def module_of(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports_of(tree: ast.Module) -> Iterator[str]:
    """Full dotted names: `from bot import jobs` is `bot.jobs`, `import aiohttp` is every `aiohttp.name` in use."""
    guards = [node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)]
    for_types = {child for guard in guards for child in ast.walk(guard)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            if node in for_types and node.module == "bot.app":
                continue  # a cog may say what `setup` is given
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{name.name}" for name in node.names)
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name != "aiohttp")
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "aiohttp":
            yield f"aiohttp.{node.attr}"


def covers(allowed: str, name: str) -> bool:
    return allowed == "" or name == allowed or name.startswith(f"{allowed}.")


SOURCES = sorted(file for folder in ("bot", "cogs", "sandbox") for file in (ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("file", SOURCES, ids=module_of)
def test_imports_point_down_only(file: Path):
    module = module_of(file)
    allowed = MAY_IMPORT[max((rule for rule in MAY_IMPORT if covers(rule, module)), key=len)]
    for name in imports_of(ast.parse(file.read_text(encoding="utf-8"))):
        free = name.partition(".")[0] in sys.stdlib_module_names and not name.startswith("sqlite3")
        assert free or any(covers(rule, name) for rule in allowed), f"{module} may not import {name}"


def test_every_line_of_the_table_is_about_something_there():
    modules = {module_of(file) for file in SOURCES}
    ruled = {rule for rule, allowed in MAY_IMPORT.items() if allowed != ANYTHING}
    assert not {rule for rule in ruled if not any(covers(rule, module) for module in modules)}
