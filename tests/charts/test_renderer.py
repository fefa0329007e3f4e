"""The chart renderer: an image in time or none, and the process that draws never outlives its use."""

from __future__ import annotations

import asyncio
import io
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from PIL import Image

from bot.charts.renderer import ChartRenderer
from tests.support.chart_samples import a_chart
from tests.support.child_processes import child_processes
from tests.support.fakes import until

PROJECT = Path(__file__).parents[2]


@pytest.fixture
async def renderer() -> AsyncIterator[ChartRenderer]:
    renderer = ChartRenderer(limit_seconds=300)  # however busy the machine is
    yield renderer
    await renderer.close()


def workers() -> list[psutil.Process]:
    return child_processes("bot.charts.worker")


async def a_worker() -> psutil.Process:
    """Wait until the process is started, and return it."""
    await until(workers)
    return workers()[0]


async def test_a_chart_is_a_png_of_twice_its_size_on_the_screen(renderer: ChartRenderer) -> None:
    image = await renderer.draw(a_chart())
    assert image is not None
    with Image.open(io.BytesIO(image)) as image:
        assert (image.format, image.size) == ("PNG", (1400, 900))
    assert workers() == []


async def test_one_chart_is_drawn_at_a_time(renderer: ChartRenderer) -> None:
    drawing = asyncio.gather(*(renderer.draw(a_chart()) for _ in range(3)))
    counts: set[int] = set()
    while not drawing.done():
        counts.add(len(workers()))
        await asyncio.sleep(0.01)
    assert max(counts) == 1
    assert all(await drawing)


async def test_a_chart_that_takes_too_long_is_given_up_and_its_process_ended(caplog: pytest.LogCaptureFixture) -> None:
    renderer = ChartRenderer(limit_seconds=1)
    drawing = asyncio.create_task(renderer.draw(a_chart()))
    worker = await a_worker()
    with suppress(psutil.NoSuchProcess):  # the limit may have passed already
        worker.suspend()
    assert await drawing is None
    assert not worker.is_running()
    assert "a chart took more than 1 seconds" in caplog.text
    await renderer.close()


async def test_a_process_that_dies_costs_its_chart_and_no_other(
    renderer: ChartRenderer, caplog: pytest.LogCaptureFixture
) -> None:
    drawing = asyncio.create_task(renderer.draw(a_chart()))
    (await a_worker()).kill()
    assert await drawing is None
    assert "a chart could not be drawn: exit code -9" in caplog.text
    assert await renderer.draw(a_chart()) is not None


async def test_a_chart_that_cannot_be_drawn_is_logged_with_its_error(
    renderer: ChartRenderer, caplog: pytest.LogCaptureFixture
) -> None:
    assert await renderer.draw(a_chart(models=0)) is None
    assert "a chart could not be drawn: ValueError: max()" in caplog.text


async def test_without_memory_there_is_no_chart(
    renderer: ChartRenderer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("bot.charts.renderer._MEMORY_LIMIT_BYTES", 32 << 20)
    assert await renderer.draw(a_chart()) is None
    assert "a chart could not be drawn" in caplog.text


async def test_a_cancelled_caller_leaves_no_process_behind(renderer: ChartRenderer) -> None:
    drawing = asyncio.create_task(renderer.draw(a_chart()))
    worker = await a_worker()
    drawing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await drawing
    assert not worker.is_running()
    assert await renderer.draw(a_chart()) is not None


async def test_closing_ends_the_drawing_at_once_and_leaves_no_folder() -> None:
    renderer = ChartRenderer(limit_seconds=300)
    drawing = asyncio.create_task(renderer.draw(a_chart()))
    worker = await a_worker()
    folder = Path(renderer._folder or "")
    assert folder.is_dir()
    worker.suspend()  # so that the drawing never ends by itself
    async with asyncio.timeout(60):
        await renderer.close()
    assert await drawing is None
    assert not worker.is_running()
    assert not folder.exists()
    assert await renderer.draw(a_chart()) is None


def test_the_bot_itself_never_imports_the_library_that_draws() -> None:
    program = "import bot.app, bot.cli, sys; sys.exit(any(name in sys.modules for name in ('matplotlib', 'numpy')))"
    subprocess.run([sys.executable, "-c", program], cwd=PROJECT, check=True)
