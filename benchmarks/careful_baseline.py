"""The careful minimum: the naive baseline with the durable steps that spending other people's money requires.

    python -m benchmarks.careful_baseline        (settings as for the bot)

Each step is on disk before the next one that relies on it, the image is kept until Discord has it, and the message
says when the job runs. No quotas, recovery, cards or checks: they are what the bot costs more than this.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
from pathlib import Path

import aiosqlite
import discord

from benchmarks.naive_baseline import NaiveBaseline, made, ordered, start

FOLDER = Path(os.environ["DATABASE_URL"].removeprefix("sqlite:///")).parent
TABLE = "CREATE TABLE steps (number INTEGER PRIMARY KEY, step TEXT NOT NULL, detail TEXT NOT NULL) STRICT"
NOTE = "INSERT INTO steps (step, detail) VALUES (?, ?)"


class CarefulBaseline(NaiveBaseline):
    """A client with one command and a file of the steps it has done."""

    notes: aiosqlite.Connection

    async def setup_hook(self) -> None:
        await super().setup_hook()
        self.notes = await aiosqlite.connect(FOLDER / "steps.sqlite3", isolation_level=None)
        for statement in ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL", TABLE):
            await self.notes.execute(statement)

    async def note(self, step: str, detail: str) -> None:
        """Write one step. It is on disk when this returns."""
        await self.notes.execute(NOTE, (step, detail))


async def imagine(interaction: discord.Interaction[CarefulBaseline], prompt: str, model: str) -> None:
    """Do everything that one image needs, and write down each step."""
    client, session = interaction.client, interaction.client.providers
    assert session is not None
    await client.note("ordered", prompt)
    await interaction.response.send_message(f"Queued: {prompt}")
    await client.note("shown and about to be sent", prompt)
    job = await ordered(session, prompt, model)
    await client.note("sent", job["job_id"])
    await interaction.edit_original_response(content=f"Processing: {prompt}")
    image = await made(session, job)
    await client.note("charged", await asyncio.to_thread(keep, image))
    file = discord.File(io.BytesIO(image), filename="image.png")
    await interaction.edit_original_response(content=f"Completed: {prompt}", attachments=[file])
    await client.note("delivered", job["job_id"])


def keep(image: bytes) -> str:
    """Keep the image under its hash, once, and return the hash."""
    name = hashlib.sha256(image).hexdigest()
    path = FOLDER / name
    if not path.exists() or path.read_bytes() != image:
        with path.open("wb") as file:
            file.write(image)
            file.flush()
            os.fsync(file.fileno())
    return name


if __name__ == "__main__":
    start(CarefulBaseline(imagine))
