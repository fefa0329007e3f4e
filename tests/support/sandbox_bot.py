"""A small bot, run as a program of its own, that uses the same parts of Discord as an image bot."""

from __future__ import annotations

import asyncio
import io
import os
import re
from typing import Any

import discord
from discord import app_commands
from discord.ext import commands
from discord.gateway import DiscordWebSocket
from discord.http import Route
from PIL import Image
from yarl import URL


def an_image(colour: str, size: tuple[int, int] = (320, 240)) -> io.BytesIO:
    data = io.BytesIO()
    Image.new("RGB", size, colour).save(data, "PNG")
    data.seek(0)
    return data


class Again(discord.ui.DynamicItem[discord.ui.Button[Any]], template=r"again:(?P<colour>\w+)"):
    """A button that any process of the bot can handle: its custom id holds the action."""

    def __init__(self, colour: str) -> None:
        super().__init__(discord.ui.Button(label="Again", custom_id=f"again:{colour}"))
        self.colour = colour

    @classmethod
    async def from_custom_id(
        cls, interaction: discord.Interaction, item: discord.ui.Item[Any], match: re.Match[str], /
    ) -> Again:
        return cls(match["colour"])

    async def callback(self, interaction: discord.Interaction) -> None:
        await interaction.response.send_message(f"Again in {self.colour}", ephemeral=True)


class Card(discord.ui.LayoutView):
    def __init__(self, state: str, colour: str, *, image: bool) -> None:
        super().__init__(timeout=None)
        box = discord.ui.Container[Any](accent_colour=0x5B8DEF)
        box.add_item(discord.ui.TextDisplay(f"**{state}**\n```\n{colour}\n```"))
        if image:
            gallery = discord.ui.MediaGallery[Any]()
            gallery.add_item(media="attachment://result.png", description=f"all {colour}")
            box.add_item(gallery)
            box.add_item(discord.ui.ActionRow[Any](Again(colour)))
        self.add_item(box)


class EditModal(discord.ui.Modal, title="Edit this image"):
    prompt = discord.ui.Label[Any](text="Prompt", component=discord.ui.TextInput(custom_id="prompt"))
    file = discord.ui.Label[Any](
        text="Another image", component=discord.ui.FileUpload(custom_id="file", required=False)
    )

    async def on_submit(self, interaction: discord.Interaction) -> None:
        assert isinstance(self.prompt.component, discord.ui.TextInput)
        assert isinstance(self.file.component, discord.ui.FileUpload)
        sizes = [len(await attachment.read()) for attachment in self.file.component.values]
        await interaction.response.send_message(f"{self.prompt.component.value} {sizes}", ephemeral=True)


class TestBot(commands.Bot):
    def __init__(self) -> None:
        intents = discord.Intents(guilds=True, members=True, guild_messages=True)
        super().__init__("!", intents=intents, allowed_mentions=discord.AllowedMentions.none())

    async def setup_hook(self) -> None:
        self.add_dynamic_items(Again)
        self.tree.add_command(paint)
        self.tree.add_command(measure)
        self.tree.add_command(quota)
        self.tree.add_command(silence)
        self.tree.add_command(edit_image)
        self.tree.add_command(own)
        await self.tree.sync()


@app_commands.command(description="Paint a picture")
@app_commands.describe(colour="What colour", count="How many")
async def paint(
    interaction: discord.Interaction, colour: str, count: app_commands.Range[int, 1, 4] = 1, private: bool = False
) -> None:
    callback = await interaction.response.send_message(view=Card("Queued", colour, image=False), ephemeral=private)
    assert isinstance(callback.resource, discord.InteractionMessage)
    await asyncio.sleep(0.3)
    await interaction.edit_original_response(view=Card("Processing", colour, image=False))
    await asyncio.sleep(0.3)
    await interaction.edit_original_response(
        view=Card("Completed", colour, image=True),
        attachments=[discord.File(an_image(colour), "result.png", description=f"all {colour}")],
    )


@paint.autocomplete("colour")
async def colours(interaction: discord.Interaction, current: str) -> list[app_commands.Choice[str]]:
    known = ("red", "green", "blue")
    return [app_commands.Choice(name=one.title(), value=one) for one in known if one.startswith(current)]


@app_commands.command(description="Measure a file")
async def measure(interaction: discord.Interaction, file: discord.Attachment) -> None:
    await interaction.response.defer(ephemeral=True)
    data = await file.read()
    await interaction.followup.send(f"{file.filename}: {len(data)} bytes, {file.width} by {file.height}")


@app_commands.command(description="Says nothing at all")
async def silence(interaction: discord.Interaction) -> None:
    await asyncio.sleep(0.1)


@app_commands.context_menu(name="Edit this image")
async def edit_image(interaction: discord.Interaction, message: discord.Message) -> None:
    await interaction.response.send_modal(EditModal())


@app_commands.command(description="Says who installed it")
@app_commands.allowed_installs(guilds=True, users=True)
@app_commands.allowed_contexts(guilds=True, dms=True, private_channels=True)
async def own(interaction: discord.Interaction) -> None:
    view = Card(str(interaction._integration_owners), "navy", image=False)
    view.add_item(discord.ui.ActionRow[Any](Again("navy")))
    await interaction.response.send_message(view=view)
    knows = interaction.guild_id is not None and interaction.client.get_guild(interaction.guild_id) is not None
    if knows:
        channel = "200"
    else:
        try:
            await interaction.client.http.get_channel(interaction.channel_id or 0)
            channel = "200"
        except discord.HTTPException as error:
            channel = str(error.status)
    sent, refused = 0, 0
    try:
        while not refused and sent < 6:
            await interaction.followup.send("more")
            sent += 1
    except discord.HTTPException as error:
        refused = error.code
    said = f"{interaction._integration_owners}\nknows the server: {knows}\nthe channel: {channel}\n"
    final = Card(f"{said}follow-ups: {sent} then {refused}", "navy", image=False)
    final.add_item(discord.ui.ActionRow[Any](Again("navy")))
    await interaction.edit_original_response(view=final)


class Quota(app_commands.Group, name="quota", description="Limits"):
    @app_commands.command(description="Set a limit")
    async def set(self, interaction: discord.Interaction, member: discord.Member, amount: str) -> None:
        assert isinstance(interaction.user, discord.Member)
        may = interaction.permissions.manage_guild
        await interaction.response.send_message(f"{member.mention} {amount} {may}", ephemeral=True)


quota = Quota(default_permissions=discord.Permissions(manage_guild=True))


async def main() -> None:
    base = os.environ["DISCORD_API_BASE"]
    Route.BASE = base
    async with TestBot() as bot:
        await bot.login(os.environ["DISCORD_TOKEN"])
        _, gateway, _ = await bot.http.get_bot_gateway()
        DiscordWebSocket.DEFAULT_GATEWAY = URL(gateway)
        await bot.connect()


if __name__ == "__main__":
    discord.utils.setup_logging(level=30)
    asyncio.run(main())
