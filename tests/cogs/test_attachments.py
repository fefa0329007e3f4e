"""An image that a card shows is found, although Discord leaves it out of the message's attachments."""

from __future__ import annotations

from typing import Any

from cogs.ui.attachments import ids_of

ADDRESS = "https://cdn.discordapp.com/attachments/1/7/a-red-fox.png?ex=1&is=2&hm=3"


def gallery(*media: dict[str, Any]) -> dict[str, Any]:
    return {"type": 17, "components": [{"type": 12, "items": [{"media": one} for one in media]}]}


def test_a_file_shown_in_a_gallery_is_known_by_its_name() -> None:
    card = {"attachments": [], "components": [gallery({"url": ADDRESS, "attachment_id": "7"})]}
    assert ids_of(card) == {"a-red-fox.png": 7}


def test_an_attached_file_is_known_too() -> None:
    assert ids_of({"attachments": [{"filename": "a.png", "id": "5"}]}) == {"a.png": 5}


def test_an_image_from_elsewhere_is_no_file_of_the_message() -> None:
    assert ids_of({"attachments": [], "components": [gallery({"url": "https://example.com/preview.png"})]}) == {}
