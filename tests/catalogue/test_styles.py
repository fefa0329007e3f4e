"""Styles: found by what people type, read in the background, known right after a restart, never blocking a command."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.catalogue import styles as styles_module
from bot.catalogue.styles import Style, Styles
from bot.dispatch.circuit_breaker import BreakerState, CircuitBreaker
from bot.dispatch.coordinator import LocalCoordinator
from bot.domain.errors import ProviderDenied, ProviderUnavailable
from bot.providers.api_client import open_session
from bot.providers.krea import KreaProvider
from bot.runtime.supervisor import Supervisor
from bot.service.maintenance import style_reader
from bot.service.maintenance.style_reader import StyleReader
from bot.store.store import Store
from sandbox.plans import How, Trouble
from sandbox.provider import SandboxProvider
from tests.support.fakes import FakePresenter

FLUX = ("flux_dev",)


def a_style(title: str, *, likes: int = 0, families: tuple[str, ...] = FLUX, key: str = "") -> Style:
    return Style(id=key or f"id-{title}", title=title, families=families, likes=likes)


def shelf(*styles: Style) -> Styles:
    found = Styles()
    found.replace(styles)
    return found


def titles(styles: Styles, text: str, families: tuple[str, ...] = FLUX) -> list[str]:
    return [style.title for style in styles.search(text, families=families)]


# -- searching ----------------------------------------------------------------------------------------------------

SHELF = shelf(
    a_style("Ink Wash", likes=5),
    a_style("Soft Ink", likes=90),
    a_style("Inky Élan", likes=7),
    a_style("Drinking Fountain", likes=500),
    a_style("Paper-Cut", likes=3),
    a_style("水彩", likes=2),
)


@pytest.mark.hostile("G-07")
def test_no_more_is_searched_for_than_a_title_has() -> None:
    words = "ink " * styles_module.MAX_SEARCHED_WORDS
    assert titles(SHELF, words + "nothing") == titles(SHELF, words)
    blanks = " " * styles_module.MAX_SEARCHED_CHARACTERS
    assert titles(SHELF, "ink" + blanks + "nothing") == titles(SHELF, "ink")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", ["Drinking Fountain", "Soft Ink", "Inky Élan", "Ink Wash", "Paper-Cut", "水彩"]),
        ("ink", ["Inky Élan", "Ink Wash", "Soft Ink", "Drinking Fountain"]),
        (" INK ", ["Inky Élan", "Ink Wash", "Soft Ink", "Drinking Fountain"]),
        ("ink w", ["Ink Wash"]),
        ("wash ink", ["Ink Wash"]),
        ("elan", ["Inky Élan"]),
        ("ÉLAN ink", ["Inky Élan"]),
        ("papercut", ["Paper-Cut"]),
        ("paper cut", ["Paper-Cut"]),
        ("水", ["水彩"]),
        ("no such look", []),
        ("`@everyone`", []),
        ("-_/.", ["Drinking Fountain", "Soft Ink", "Inky Élan", "Ink Wash", "Paper-Cut", "水彩"]),
    ],
)
def test_titles_that_start_with_the_text_come_first_then_the_most_liked(text: str, found: list[str]) -> None:
    assert titles(SHELF, text) == found


def test_only_styles_of_the_models_family_are_found_in_any_spelling() -> None:
    styles = shelf(
        a_style("One", families=("Flux Dev",)), a_style("Two", families=("qwen", "z-image")), a_style("Three")
    )
    assert titles(styles, "") == ["One", "Three"]
    assert titles(styles, "", ("Z_Image",)) == ["Two"]
    assert titles(styles, "", ()) == []


def test_a_title_is_replaced_by_its_id_and_other_text_is_kept() -> None:
    styles = shelf(a_style("Ink Wash", likes=1, key="a"), a_style("ink-wash", likes=9, key="b"))
    assert styles.id_of("INK wash") == "b"
    assert styles.id_of("b") == "b"
    assert styles.id_of("") == ""
    assert shelf(a_style("✨")).id_of("🔥") == "🔥"


texts = st.text(max_size=30)


@given(st.lists(st.tuples(texts, texts, st.integers(-5, 5))), texts)
def test_any_list_can_be_searched_stored_and_loaded(rows: list[tuple[str, str, int]], typed: str) -> None:
    styles = shelf(*(a_style(title, families=(family,), likes=likes) for title, family, likes in rows))
    copy = Styles()
    copy.load(styles.dump())
    families = {family for _, family, _ in rows}
    assert copy.search(typed, families=families) == styles.search(typed, families=families)


@pytest.mark.parametrize("text", ["", "no json", "{}", "[1]", "[[1, 2]]", "[[1, 2, 3, 4]]", "null"])
def test_a_damaged_note_changes_nothing(text: str) -> None:
    styles = shelf(a_style("Ink"))
    styles.load(text)
    assert titles(styles, "") == ([] if text == "{}" else ["Ink"])


# -- reading ------------------------------------------------------------------------------------------------------


@pytest.fixture
async def sandbox() -> AsyncIterator[SandboxProvider]:
    async with SandboxProvider() as started:
        yield started


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with open_session() as opened:
        yield opened


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with await Store.open(tmp_path / "bot.sqlite3") as opened:
        yield opened


class Corner:
    """A reader, what it fills, and the breaker that says whether the provider may be asked."""

    def __init__(self, sandbox: SandboxProvider, session: aiohttp.ClientSession, store: Store) -> None:
        self.sandbox = sandbox
        self.styles = Styles()
        provider = KreaProvider(session, base_url=sandbox.krea_base, api_key=sandbox.krea_key)
        self.breaker = CircuitBreaker(
            provider, coordinator=LocalCoordinator(), presenter=FakePresenter(), supervisor=Supervisor()
        )
        self.reader = StyleReader(
            self.styles,
            provider,
            store,
            breaker=self.breaker,
            first_pause_seconds=0.01,
            page_pause_seconds=0,
        )

    @property
    def asked(self) -> int:
        return len(self.sandbox.seen("styles"))


@pytest.fixture
def corner(sandbox: SandboxProvider, session: aiohttp.ClientSession, store: Store) -> Corner:
    return Corner(sandbox, session, store)


async def reads(corner: Corner, times: int) -> None:
    """Run the reader in the background until the list was requested that number of times."""
    task = asyncio.create_task(corner.reader.run())
    async with asyncio.timeout(60):
        while corner.asked < times or not (len(corner.styles) or corner.sandbox._troubles["styles"]):
            await asyncio.sleep(0.005)
    task.cancel()


def listed(number: int, **more: Any) -> dict[str, Any]:
    return {"id": f"s{number}", "title": f"Look {number}", "public": True, "models": ["flux_dev"], **more}


async def test_the_public_list_is_read_page_by_page(corner: Corner) -> None:
    corner.sandbox.styles = [listed(number) for number in range(250)]
    await corner.reader.read()
    assert len(corner.styles) == 250
    assert [seen.path for seen in corner.sandbox.seen("styles")] == [
        "/styles?filter=public&limit=100",
        "/styles?filter=public&limit=100&cursor=100",
        "/styles?filter=public&limit=100&cursor=200",
    ]
    assert corner.sandbox.violations == []


async def test_the_list_is_read_up_to_a_limit(corner: Corner) -> None:
    corner.sandbox.styles = [listed(number) for number in range(2_150)]
    await corner.reader.read()
    assert len(corner.styles) == style_reader.MAX_STYLES
    assert corner.asked == style_reader.MAX_PAGES


async def test_private_and_unnamed_styles_are_omitted_and_titles_are_one_clean_line(corner: Corner) -> None:
    corner.sandbox.styles = [
        listed(1, title="Ink\n\u202eWash  https://elsewhere.invalid/x"),
        listed(2, public=False),
        listed(3, title=None),
        listed(4, id="two words"),
        listed(5, models=None, like_count="many"),
        listed(6, title="x" * 5_000),
    ]
    await corner.reader.read()
    assert titles(corner.styles, "ink") == ["Ink Wash"]
    assert [len(title) for title in titles(corner.styles, "x")] == [200]
    assert len(corner.styles) == 3


async def test_a_restart_loads_the_stored_styles_at_once(
    corner: Corner, sandbox: SandboxProvider, session: aiohttp.ClientSession, store: Store
) -> None:
    await corner.reader.read()
    after = Corner(sandbox, session, store)
    after.breaker.set_state(BreakerState.DOWN)
    await after.reader.recall()
    assert after.styles.dump() == corner.styles.dump()
    assert len(after.styles) == len(sandbox.styles)


@pytest.mark.parametrize(
    "trouble",
    [
        pytest.param(Trouble(status=500), id="fault"),
        pytest.param(Trouble(status=429, headers={"Retry-After": "1"}), id="busy"),
        pytest.param(Trouble(how=How.NOT_JSON), id="no json"),
        pytest.param(Trouble(how=How.CUT_SHORT), id="cut short"),
        pytest.param(Trouble(status=200, body={"items": []}), id="empty"),
        pytest.param(Trouble(status=200, body=["what"]), id="another shape"),
        pytest.param(Trouble(how=How.TOO_BIG), id="too big"),
    ],
)
async def test_when_reading_fails_the_old_list_is_kept_and_reading_is_retried(corner: Corner, trouble: Trouble) -> None:
    await corner.reader.read()
    before = corner.styles.dump()
    corner.sandbox.next_answers("styles", trouble)
    with pytest.raises(ProviderUnavailable):
        await corner.reader.read()
    assert corner.styles.dump() == before
    corner.sandbox.next_answers("styles", trouble, trouble)
    await reads(corner, 5)
    assert len(corner.styles) == len(corner.sandbox.styles)


async def test_after_a_refused_key_the_next_attempt_is_much_later(corner: Corner) -> None:
    corner.sandbox.next_answers("styles", *[Trouble(status=403, body={"error": "Forbidden"})] * 3)
    with pytest.raises(ProviderDenied):
        await corner.reader.read()
    await reads(corner, 2)
    assert corner.asked == 2


async def test_styles_are_not_read_while_the_circuit_breaker_is_open(corner: Corner) -> None:
    corner.breaker.set_state(BreakerState.DOWN)
    task = asyncio.create_task(corner.reader.run())
    await asyncio.sleep(0.05)
    assert corner.asked == 0
    corner.breaker.set_state(BreakerState.CLOSED)
    async with asyncio.timeout(60):
        while not len(corner.styles):
            await asyncio.sleep(0.005)
    task.cancel()


async def test_styles_are_read_even_when_the_database_fails(corner: Corner, store: Store) -> None:
    await store.close()
    await corner.reader.recall()
    await corner.reader.read()
    assert len(corner.styles) == len(corner.sandbox.styles)
