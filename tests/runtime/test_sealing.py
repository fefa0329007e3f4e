"""Sealer: what it seals can be read with the same bot token alone."""

from __future__ import annotations

import pytest

from bot.runtime.sealing import Sealer

pytestmark = pytest.mark.hostile("G-19")


def test_what_was_sealed_is_opened_by_the_same_bot_token_alone() -> None:
    sealed = Sealer("a bot token").seal("an interaction token")
    assert "interaction" not in sealed
    assert Sealer("a bot token").open(sealed) == "an interaction token"
    assert Sealer("another bot token").open(sealed) is None


def test_the_same_text_is_never_sealed_twice_alike_and_never_twice() -> None:
    sealer = Sealer("a bot token")
    first = sealer.seal("text")
    assert first != sealer.seal("text")
    assert sealer.seal(first) == first


@pytest.mark.parametrize("damage", ["", "A", "!!", "\N{SNOWMAN}"])
def test_what_was_damaged_is_unreadable_and_no_error(damage: str) -> None:
    sealer = Sealer("a bot token")
    assert sealer.open(f"{sealer.sealed_prefix}{damage}") is None


def test_a_text_of_an_older_version_is_read_as_it_is() -> None:
    assert Sealer("a bot token").open("aW50ZXJhY3Rpb24") == "aW50ZXJhY3Rpb24"


def test_a_digest_depends_on_the_text_and_the_bot_token_and_opens_no_path_itself() -> None:
    sealer = Sealer("a bot token")
    digest = sealer.digest("a path")
    assert digest == Sealer("a bot token").digest("a path")
    assert len({digest, sealer.digest("another path"), Sealer("b").digest("a path"), sealer.digest(digest)}) == 4
