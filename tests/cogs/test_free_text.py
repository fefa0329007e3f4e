"""Text that is typed where Discord offers members, roles and channels is answered with a sentence."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from cogs.text import refusals
from cogs.ui.checks import NotAllowed, has_ids, require_ids

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
