"""A small Discord on this machine: REST, gateway and CDN over loopback, for the demo, the tests and the benchmarks.

async with LocalDiscord() as discord:
    server = discord.server("Atelier")
    studio = discord.channel(server, "studio")
    alice = discord.member(server, "Alice")
    ...                                              # start a bot with discord.token and discord.api_base
    interaction = await discord.slash(alice, studio, "imagine", prompt="a cat")
    message = await interaction.wait_for("Completed")
"""

from sandbox.discord.files import Upload
from sandbox.discord.interactions import Interaction
from sandbox.discord.local import LocalDiscord
from sandbox.discord.rules import Limits
from sandbox.discord.world import Channel, Member, Message, Permission, Role, Server

__all__ = [
    "Channel",
    "Interaction",
    "Limits",
    "LocalDiscord",
    "Member",
    "Message",
    "Permission",
    "Role",
    "Server",
    "Upload",
]
