"""The bare minimum, careful: the same script with what nobody should leave out who spends other people's money.

    python -m benchmarks.careful        (settings as for the bot)

Each step is on disk before the next one that relies on it, the picture is kept until Discord has it, and the message
says so when the job runs. No quotas, no recovery, no cards, no checks: what the bot costs more than this is theirs.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
from pathlib import Path

import aiosqlite
import discord

from benchmarks.bare import Bare, made, ordered, start

FOLDER = Path(os.environ["DATABASE_URL"].removeprefix("sqlite:///")).parent
TABLE = "CREATE TABLE steps (number INTEGER PRIMARY KEY, step TEXT NOT NULL, detail TEXT NOT NULL) STRICT"
NOTE = "INSERT INTO steps (step, detail) VALUES (?, ?)"


class Careful(Bare):
    """A client with one command and a file of what it has done."""

    notes: aiosqlite.Connection

    async def setup_hook(self) -> None:
        await super().setup_hook()
        self.notes = await aiosqlite.connect(FOLDER / "steps.sqlite3", isolation_level=None)
        for statement in ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL", TABLE):
            await self.notes.execute(statement)

    async def note(self, step: str, detail: str) -> None:
        """On disk when this returns."""
        await self.notes.execute(NOTE, (step, detail))


async def imagine(interaction: discord.Interaction[Careful], prompt: str, model: str) -> None:
    """Everything that has to happen for one picture, and a note of each step."""
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
    file = discord.File(io.BytesIO(image), filename="picture.png")
    await interaction.edit_original_response(content=f"Completed: {prompt}", attachments=[file])
    await client.note("delivered", job["job_id"])


def keep(image: bytes) -> str:
    """Under its hash, once."""
    name = hashlib.sha256(image).hexdigest()
    path = FOLDER / name
    if not path.exists() or path.read_bytes() != image:
        with path.open("wb") as file:
            file.write(image)
            file.flush()
            os.fsync(file.fileno())
    return name


if __name__ == "__main__":
    start(Careful(imagine))
