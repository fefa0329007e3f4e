"""The chart maker: a picture in time or none at all, and the process that draws never outlives its use."""

from __future__ import annotations

import asyncio
import io
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
from PIL import Image

from bot.charts.renderer import ChartRenderer
from tests.support.chart_samples import a_chart

PROJECT = Path(__file__).parents[2]


@pytest.fixture
async def maker() -> AsyncIterator[ChartRenderer]:
    maker = ChartRenderer()
    yield maker
    await maker.close()


def workers() -> list[psutil.Process]:
    return [
        child
        for child in psutil.Process().children()
        if child.status() != psutil.STATUS_ZOMBIE and "bot.charts.worker" in child.cmdline()
    ]


async def a_worker() -> psutil.Process:
    """The process, once it is there."""
    async with asyncio.timeout(10):
        while not (found := workers()):
            await asyncio.sleep(0.005)
    return found[0]


async def test_a_chart_is_a_picture_for_half_its_size_on_the_screen(maker: ChartRenderer) -> None:
    image = await maker.draw(a_chart())
    assert image is not None
    with Image.open(io.BytesIO(image)) as image:
        assert (image.format, image.size) == ("PNG", (1400, 900))
    assert workers() == []


async def test_one_chart_is_drawn_at_a_time(maker: ChartRenderer) -> None:
    drawing = asyncio.gather(*(maker.draw(a_chart()) for _ in range(3)))
    most = 0
    while not drawing.done():
        most = max(most, len(workers()))
        await asyncio.sleep(0.01)
    assert most == 1
    assert all(await drawing)


async def test_a_chart_that_takes_too_long_is_given_up_and_its_process_ended(caplog: pytest.LogCaptureFixture) -> None:
    maker = ChartRenderer(limit_seconds=1)
    drawing = asyncio.create_task(maker.draw(a_chart()))
    worker = await a_worker()
    worker.suspend()
    assert await drawing is None
    assert not worker.is_running()
    assert "a chart took more than 1 seconds" in caplog.text
    await maker.close()


async def test_a_process_that_dies_costs_its_chart_and_no_other(
    maker: ChartRenderer, caplog: pytest.LogCaptureFixture
) -> None:
    drawing = asyncio.create_task(maker.draw(a_chart()))
    (await a_worker()).kill()
    assert await drawing is None
    assert "a chart could not be drawn: exit code -9" in caplog.text
    assert await maker.draw(a_chart()) is not None


async def test_what_cannot_be_drawn_says_so_in_the_log(maker: ChartRenderer, caplog: pytest.LogCaptureFixture) -> None:
    assert await maker.draw(a_chart(models=0)) is None
    assert "a chart could not be drawn: exit code 1: " in caplog.text


async def test_without_memory_there_is_no_chart(
    maker: ChartRenderer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("bot.charts.renderer._MEMORY_LIMIT_BYTES", 32 << 20)
    assert await maker.draw(a_chart()) is None
    assert "a chart could not be drawn" in caplog.text


async def test_whoever_gives_up_waiting_leaves_no_process_behind(maker: ChartRenderer) -> None:
    drawing = asyncio.create_task(maker.draw(a_chart()))
    worker = await a_worker()
    drawing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await drawing
    assert not worker.is_running()
    assert await maker.draw(a_chart()) is not None


async def test_closing_ends_the_drawing_at_once_and_leaves_no_folder() -> None:
    maker = ChartRenderer()
    drawing = asyncio.create_task(maker.draw(a_chart()))
    worker = await a_worker()
    folder = Path(maker._folder or "")
    assert folder.is_dir()
    began = time.perf_counter()
    await maker.close()
    assert time.perf_counter() - began < 5
    assert await drawing is None
    assert not worker.is_running()
    assert not folder.exists()
    assert await maker.draw(a_chart()) is None


def test_the_bot_itself_never_imports_the_library_that_draws() -> None:
    program = "import bot.app, bot.cli, sys; sys.exit(any(name in sys.modules for name in ('matplotlib', 'numpy')))"
    subprocess.run([sys.executable, "-c", program], cwd=PROJECT, check=True)
