"""How replies look at a moment, and who is told when that changes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from bot.domain.jobs import Job, Progress, Reply
from bot.domain.quota import Balance


@dataclass(frozen=True, kw_only=True, slots=True)
class JobView:
    """A job as its card shows it: `place_in_line` is 1 for the next, `expected_at` a guess from the model's past."""

    job: Job
    model_label: str
    progress: Progress | None = None
    preview_url: str | None = None
    queue_position: int | None = None
    expected_at: datetime | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplyView:
    """A reply as it should look now."""

    reply: Reply
    jobs: tuple[JobView, ...]
    balance: Balance
    upscale_usd_micros: int | None = None
    """What it costs at least to have one of its pictures made larger; None where that cannot be had."""


class ReplyPresenter(Protocol):
    """Who shows replies and reaches the operator. Calls return at once: showing never delays a job."""

    def reply_changed(self, reply_id: str) -> None:
        """Something about the reply is new; ask the service how it looks when you show it."""
        ...

    def operator_notice(self, matter: str, text: str) -> None:
        """Tell the operator what only they can mend, once for a while about the same matter."""
        ...

    async def find_message(self, reply: Reply) -> int | None:
        """The message of a reply whose acceptance was not recorded, or None when Discord never showed it.

        Raises nothing: while Discord cannot be asked, this waits and asks again.
        """
        ...
