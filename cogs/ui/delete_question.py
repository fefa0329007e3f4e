"""Delete question: asked once before an order is erased, and the custom ids of its answers."""

from __future__ import annotations

import re

from cogs.text import job_card, member_pages
from cogs.ui import card, components
from cogs.ui.components import Component, Layout

ASK, YES, NO = "ask", "yes", "no"

SEPARATE, HISTORY, HISTORY_OF_MODEL = "c", "h", "o"
"""Where the question stands: in a message of its own, or in place of a page of /history, of all or of one model."""

CUSTOM_ID = re.compile(r"delete:(?P<choice>ask|yes|no):(?P<job_id>[0-9a-f]{24}):(?P<place>[cho])")


def custom_id(choice: str, job_id: str, place: str) -> str:
    """Return `delete:<ask, yes or no>:<first job of the order>:<where the question stands>`."""
    return f"delete:{choice}:{job_id}:{place}"


def ask_button(job_id: str, *, one_model: bool) -> Component:
    """Return the button of a page of /history that asks."""
    place = HISTORY_OF_MODEL if one_model else HISTORY
    return components.button(job_card.DELETE(), custom_id(ASK, job_id, place), style=components.RED)


def question(job_id: str, place: str = SEPARATE, *, is_direct: bool = False) -> Layout:
    """Lay out the question with its two answers; `is_direct` says that the order concerns no server."""
    text = job_card.DELETE_ASK_DIRECT() if is_direct else job_card.DELETE_ASK()
    delete = components.button(job_card.DELETE(), custom_id(YES, job_id, place), style=components.RED)
    keep = components.button(member_pages.ERASE_NOT(), custom_id(NO, job_id, place))
    return card.question(text, delete, keep)
