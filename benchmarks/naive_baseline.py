"""The naive baseline: one job's unavoidable calls with the same libraries. No ledger, no recovery.

    python -m benchmarks.naive_baseline        (settings as for the bot)

It answers, submits, polls with a fixed pause, downloads and uploads. What the bot costs more than this is the price of
everything it keeps safe.
"""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import Callable, Coroutine
from typing import Any

import aiohttp
import discord
import yarl
from discord import app_commands
from discord.gateway import DiscordWebSocket
from discord.http import Route

POLL_SECONDS = float(os.environ.get("KREA_POLL_SECONDS", "2"))
KREA = os.environ["KREA_API_BASE"]
HEADERS = {"Authorization": f"Bearer {os.environ['KREA_API_KEY']}"}


class NaiveBaseline(discord.Client):
    """A client with one command."""

    def __init__(self, imagine: Callable[..., Coroutine[Any, Any, None]]) -> None:
        super().__init__(
            intents=discord.Intents(guilds=True),
            max_messages=None,
            member_cache_flags=discord.MemberCacheFlags.none(),
            chunk_guilds_at_startup=False,
        )
        self.tree = app_commands.CommandTree(self)
        self.tree.add_command(app_commands.Command(name="imagine", description="Make an image", callback=imagine))
        self.providers: aiohttp.ClientSession | None = None

    async def setup_hook(self) -> None:
        gateway: dict[str, Any] = await self.http.request(Route("GET", "/gateway/bot"))
        DiscordWebSocket.DEFAULT_GATEWAY = yarl.URL(gateway["url"])
        self.providers = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers=HEADERS)


async def imagine(interaction: discord.Interaction[NaiveBaseline], prompt: str, model: str) -> None:
    """Do everything that one image needs."""
    session = interaction.client.providers
    assert session is not None
    await interaction.response.send_message(f"Queued: {prompt}")
    image = await made(session, await ordered(session, prompt, model))
    file = discord.File(io.BytesIO(image), filename="image.png")
    await interaction.edit_original_response(content=f"Completed: {prompt}", attachments=[file])


async def ordered(session: aiohttp.ClientSession, prompt: str, model: str) -> dict[str, Any]:
    """Submit the order and return the job as the provider accepted it."""
    order = {"prompt": prompt, "width": 1024, "height": 1024}
    async with session.post(f"{KREA}/generate/image/{model.removeprefix('krea/')}", json=order) as response:
        return await response.json()


async def made(session: aiohttp.ClientSession, job: dict[str, Any]) -> bytes:
    """Poll until the job is done and return its image."""
    while job["status"] != "completed":
        await asyncio.sleep(POLL_SECONDS)
        async with session.get(f"{KREA}/jobs/{job['job_id']}") as response:
            job = await response.json()
    async with session.get(job["result"]["urls"][0]) as response:
        return await response.read()


def start(client: NaiveBaseline) -> None:
    """Run the client until the process is ended."""
    Route.BASE = os.environ["DISCORD_API_BASE"]
    client.run(os.environ["DISCORD_TOKEN"], log_handler=None)


if __name__ == "__main__":
    start(NaiveBaseline(imagine))
