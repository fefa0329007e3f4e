"""Text that is typed where Discord offers a choice gets a sentence, and no typed text is more than text."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest

from cogs.text import formatting, refusals
from cogs.ui.card import option_facts
from cogs.ui.checks import NotAllowed, has_ids, require_ids
from tests.support.discord_stage import Card, Stage
from tests.support.store_samples import a_command

SUBCOMMAND, TEXT, USER, CHANNEL, ROLE, MENTIONABLE, ATTACHMENT = 1, 3, 6, 7, 8, 9, 11


def an_interaction(kind: int, value: object) -> Any:
    options = [{"name": "reason", "type": TEXT, "value": "why"}, {"name": "whom", "type": kind, "value": value}]
    return SimpleNamespace(data={"name": "quota", "options": [{"name": "set", "type": SUBCOMMAND, "options": options}]})


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (USER, refusals.MEMBER_UNKNOWN),
        (ROLE, refusals.MEMBER_UNKNOWN),
        (MENTIONABLE, refusals.MEMBER_UNKNOWN),
        (CHANNEL, refusals.CHANNEL_UNKNOWN),
        (ATTACHMENT, refusals.COMMAND_CHANGED),
    ],
)
@pytest.mark.parametrize("typed", ["Server Booster", "", "@ada", "-1", "1.5", "٣", None])
def test_free_text_is_refused_before_any_command_runs(kind: int, said: Any, typed: object) -> None:
    with pytest.raises(NotAllowed) as refusal:
        require_ids(an_interaction(kind, typed))
    assert str(refusal.value) == said()
    assert not has_ids(an_interaction(kind, typed))


def test_ids_and_other_texts_pass() -> None:
    for kind in (USER, ROLE, CHANNEL):
        require_ids(an_interaction(kind, "1576557401979617283"))
    require_ids(an_interaction(TEXT, "Server Booster"))
    require_ids(SimpleNamespace(data=None))  # type: ignore[arg-type]


LINK = "[free](https://example.com)"
MORE_THAN_TEXT = (
    *(LINK, "https://example.com", "@everyone", "<@1>", "<#1>", "</help:1>", "<t:1:R>", "<:a:1>"),
    *("**b**", "~~c~~", "__d__"),
)


def outside_code(card: Card) -> str:
    return re.sub(r"`[^`]*`", "", re.sub(r"```.*?```", "", card.text, flags=re.DOTALL))


@pytest.mark.hostile("G-43")
@pytest.mark.parametrize("option", ["negative_prompt", "style", "resolution"])
def test_an_option_whose_text_is_not_ours_is_no_link_on_a_public_card(option: str) -> None:
    """Styles have titles that people chose at the provider."""
    [job] = a_command().jobs
    facts = option_facts(job, {option: f"{LINK} @everyone"})
    assert f"`{LINK} @everyone`" in " · ".join(facts)


@pytest.mark.hostile("G-43")
async def test_the_name_of_a_preset_is_no_link(stage: Stage) -> None:
    for command in ("preset add", "preset add", "preset remove"):
        options = {} if command == "preset remove" else {"before": "a film"}
        said = stage.said(await stage.ada.slash(stage.channel, command, name=LINK, **options))
        assert LINK in said.text
        assert "example.com" not in outside_code(said)


@pytest.mark.hostile("G-43")
@pytest.mark.parametrize("text", MORE_THAN_TEXT)
def test_text_in_the_middle_of_a_line_is_code_when_it_could_be_more(text: str) -> None:
    assert formatting.quoted(text) == f"`{text}`"


@pytest.mark.parametrize("text", ["28", "16:9", "1024 × 768", "raw_photo", "0.35", "true", "Film Noir", "-3"])
def test_plain_words_in_the_middle_of_a_line_stay_as_they_are(text: str) -> None:
    assert formatting.quoted(text) == text
