"""Components of messages: the same JSON that discord.py makes of its own objects."""

from __future__ import annotations

from typing import Any

import discord
import pytest
from discord import ui

from cogs.ui import components


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (components.text_display("**bold**"), ui.TextDisplay[Any]("**bold**")),
        (components.separator(), ui.Separator[Any]()),
        (components.file("data.json"), ui.File[Any]("attachment://data.json")),
        (
            components.media_gallery(components.media_item(components.attached("a.png"), "a fox")),
            ui.MediaGallery[Any](discord.MediaGalleryItem("attachment://a.png", description="a fox")),
        ),
        (
            components.action_row(
                components.button("Again", "again"),
                components.button("Delete", "delete", style=components.RED),
                components.button("Older", "older", disabled=True),
            ),
            ui.ActionRow[Any](
                ui.Button(label="Again", custom_id="again"),
                ui.Button(label="Delete", custom_id="delete", style=discord.ButtonStyle.danger),
                ui.Button(label="Older", custom_id="older", disabled=True),
            ),
        ),
        (
            components.action_row(
                components.string_select("which", placeholder="Which?", options=[("One", "1"), ("Two", "2")])
            ),
            ui.ActionRow[Any](
                ui.Select(
                    custom_id="which",
                    placeholder="Which?",
                    options=[
                        discord.SelectOption(label="One", value="1"),
                        discord.SelectOption(label="Two", value="2"),
                    ],
                )
            ),
        ),
        (
            components.container([components.text_display("framed")], accent=0x5865F2)[0],
            ui.Container[Any](ui.TextDisplay("framed"), accent_colour=0x5865F2),
        ),
    ],
    ids=["text", "separator", "file", "gallery", "buttons", "choice", "frame"],
)
def test_a_component_is_what_discord_py_makes_of_it(ours: components.Component, theirs: ui.Item[Any]) -> None:
    assert ours == theirs.to_component_dict()


async def test_no_message_waits_for_answers_in_memory() -> None:
    view = components.View(components.container([components.text_display("a card")], accent=1))
    assert view.is_finished()
    assert view.timeout is None
    assert view.has_components_v2()
