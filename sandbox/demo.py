"""The demo: the whole bot as it is, a simulated Discord in a browser page, a simulated provider. No account, no key.

`python -m sandbox.demo` prints one address and runs until Ctrl-C. Everything it keeps lives in a temporary directory.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from bot.catalogue.catalogue import OVERRIDE_FILE
from sandbox.discord import LocalDiscord, Permission
from sandbox.discord.files import Json, Upload
from sandbox.discord.viewer import Viewer
from sandbox.discord.world import COMPONENTS_V2, Server
from sandbox.drawing import Sketch, draw, encode
from sandbox.provider import SandboxProvider

PROJECT = Path(__file__).resolve().parent.parent
SHOP = {"Credit of $0.50": ("$0.99", "0.50"), "Credit of $5.00": ("$7.99", "5.00")}
"""What the simulated Discord sells: its price there, and what the bot pays into the buyer's wallet."""

PRICES = {"krea/enhance/topaz/standard-enhance": "0.05"}
"""A price that an operator sets: without one for upscaling there is no Upscale button."""

STOP_SECONDS = 12.0
START_SECONDS = 60.0
KEPT_LOG_LINES = 25

WELCOME = """### Welcome to the studio
I make and edit images for everybody here. Each member has **$1.00 a day**; nothing here costs real money.
1. Choose </imagine:1>, say what you would like to see, press Enter, watch the card. Then try the buttons under it.
2. Open the menu of Ben's image below (**⋯**, or the right mouse button) and choose **Edit this image**.
3. </models:1> lists what there is, </usage:1> what you have left, </history:1> your images, </help:1> the rest.
4. **Remix** under an image changes prompt, model and options; </compare:1> asks several models at once, with votes; \
</preset add:1> saves options under a name.
5. </usage:1> sells **credit** that is spent after the dollar of the day. Buying is simulated as well.
6. Beside the channel, set another **language**, or become **Mona**: moderators have `/quota`, `/settings`, `/jobs`; \
with `/settings review` they see images in #desk before everybody else."""
HINT = (
    "-# Images come from a simulated provider on this machine; nothing leaves it. "
    "With `[fail]`, `[nsfw]`, `[slow]`, `[busy]` or `[lost]` in a prompt you see what happens then."
)
PHOTO = "boats in our harbour this morning"
QUESTION = "This is our harbour this morning. Who can show me how it looks at night, in winter?"
ADVICE = "That is one for you, Alice: **⋯** beside the image, then **Edit this image**."


@dataclass(frozen=True, kw_only=True)
class Demo:
    """The running demo: where the page is, and what is behind it."""

    url: str
    discord: LocalDiscord
    provider: SandboxProvider
    bot: asyncio.subprocess.Process
    log: Path


@asynccontextmanager
async def running_demo(*, port: int = 0) -> AsyncGenerator[Demo]:
    """Start provider, Discord, page and bot; stop them in reverse. Ready when the bot has registered its commands."""
    async with AsyncExitStack() as stack:
        provider = await stack.enter_async_context(SandboxProvider())
        discord = LocalDiscord(port=port)
        server = _furnish(discord)
        await stack.enter_async_context(discord)
        await _begin_talk(discord, server)
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="image-bot-demo-")))
        log = folder / "bot.log"
        bot = await stack.enter_async_context(_the_bot(discord, provider, folder, log))
        await _until_ready(discord, bot, log)
        yield Demo(url=f"{discord.base}/", discord=discord, provider=provider, bot=bot, log=log)


def _furnish(discord: LocalDiscord) -> Server:
    """Create a server with two channels, and two members and a moderator for whom one can act in the page."""
    server = discord.server("The Atelier", owner="Olga")
    moderators = discord.role(
        server, "Moderator", permissions=Permission.MANAGE_SERVER | Permission.MANAGE_MESSAGES, colour=0x5EE0C0
    )
    patrons = discord.role(server, "Patron", colour=0xF0A35E)
    alice = discord.member(server, "Alice", colour=0xE4699B)
    ben = discord.member(server, "Ben", roles=[patrons], colour=0x4D9DE0)
    mona = discord.member(server, "Mona", roles=[moderators], colour=0x2FA58A)
    discord.channel(server, "studio", topic="Make images here: type / to begin")
    discord.channel(server, "gallery", topic="The ones worth keeping")
    discord.channel(server, "desk", topic="Mona sees images here first, once /settings review says so")
    Viewer(discord, server, [alice, ben, mona])
    return server


async def _begin_talk(discord: LocalDiscord, server: Server) -> None:
    """Post a welcome message, and a member's image with the request to change it."""
    studio = server.channels[0]
    people = {member.name: member for member in server.members.values()}
    box: Json = {"type": 17, "accent_color": 0x8B9BFF}
    box["components"] = [{"type": 10, "content": WELCOME}, {"type": 14}, {"type": 10, "content": HINT}]
    await discord.bot_says(studio, {"flags": COMPONENTS_V2, "components": [box]})
    photo = draw(Sketch(prompt=PHOTO, seed=4, width=400, height=225))
    await discord.say(
        people["Ben"], studio, QUESTION, files=[Upload(filename="harbour.jpg", data=encode(photo, "jpg"))]
    )
    await discord.say(people["Mona"], studio, ADVICE)


@asynccontextmanager
async def _the_bot(
    discord: LocalDiscord, provider: SandboxProvider, folder: Path, log: Path
) -> AsyncGenerator[asyncio.subprocess.Process]:
    """Run `python -m bot` with settings that point to the simulated Discord and providers."""
    settings = {
        "DISCORD_TOKEN": discord.token,
        "DISCORD_API_BASE": discord.api_base,
        "DISCORD_CDN_HOSTS": discord.cdn_host,
        "KREA_API_KEY": provider.krea_key,
        "KREA_API_BASE": provider.krea_base,
        "KREA_POLL_SECONDS": "0.5",
        "PIXAZO_API_KEY": provider.pixazo_key,
        "PIXAZO_API_BASE": provider.pixazo_base,
        "PIXAZO_POLL_SECONDS": "0.5",
        "DATABASE_URL": f"sqlite:///{folder / 'bot.sqlite3'}",
        "HTTP_PORT": "0",
        "MEDIA_ALLOW_PRIVATE_ADDRESSES": "true",
    }
    items = {discord.sku(name, price=price).id: pays_in for name, (price, pays_in) in SHOP.items()}
    settings["TOPUP_SKUS"] = ",".join(f"{sku_id}={pays_in}" for sku_id, pays_in in items.items())
    (folder / OVERRIDE_FILE).write_text(json.dumps({"prices": PRICES}), encoding="utf-8")
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TZ") if name in os.environ}
    with log.open("wb") as output:
        # Its working directory is the temporary one: a developer's own `.env` must not reach the demo.
        bot = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "bot",
            cwd=folder,
            env=kept | settings | {"PYTHONPATH": str(PROJECT), "PYTHONUNBUFFERED": "1"},
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C is for the demo, which then ends the bot in an orderly way
        )
    try:
        yield bot
    finally:
        if bot.returncode is None:
            bot.terminate()
            try:
                async with asyncio.timeout(STOP_SECONDS):
                    await bot.wait()
            except TimeoutError:
                bot.kill()
        await bot.wait()


async def _until_ready(discord: LocalDiscord, bot: asyncio.subprocess.Process, log: Path) -> None:
    ready = asyncio.create_task(discord.bot_ready(timeout_seconds=START_SECONDS), name="bot is ready")
    ended = asyncio.create_task(bot.wait(), name="bot has ended")
    try:
        await asyncio.wait([ready, ended], return_when=asyncio.FIRST_COMPLETED)
        if ended.done():
            raise BotEnded(log)
        await ready
    finally:
        ready.cancel()
        ended.cancel()
        await asyncio.wait([ready, ended])


class BotEnded(Exception):
    """The bot stopped by itself. `str()` is the end of its log."""

    def __init__(self, log: Path) -> None:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        super().__init__("\n".join(["The bot stopped. Its last words:", "", *lines[-KEPT_LOG_LINES:]]))


async def _main(port: int) -> int:
    stop = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    print("Starting the demo …", flush=True)
    try:
        async with running_demo(port=port) as demo:
            print(f"\n    {demo.url}\n\nOpen it in a browser. Ctrl-C ends the demo. Log: {demo.log}", flush=True)
            waits = [asyncio.create_task(stop.wait(), name="stop"), asyncio.create_task(demo.bot.wait(), name="bot")]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()
            await asyncio.wait(waits)
            if not stop.is_set():
                raise BotEnded(demo.log)
    except (BotEnded, TimeoutError) as error:
        print(error, file=sys.stderr)
        return 1
    print("\nThe demo has ended.")
    return 0


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m sandbox.demo", description="Try the bot in a browser page.")
    parser.add_argument("--port", type=int, default=0, help="port of the page on 127.0.0.1; any free one if not given")
    arguments = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(asyncio.run(_main(arguments.port)))


if __name__ == "__main__":
    main()
