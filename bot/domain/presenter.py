"""The port to Discord: what shows replies and reaches the operator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from bot.domain.jobs import Reply, StoredImage


class ReplyPresenter(Protocol):
    """Shows replies and reaches the operator. Calls return at once: showing never delays a job."""

    def reply_changed(self, reply_id: str) -> None:
        """Show the reply as it is now; ask the service for its view when you show it."""
        ...

    def operator_notice(self, matter: str, text: str) -> None:
        """Send the operator a message; at most one for a while about the same matter."""
        ...

    async def ask_operator(self, text: str, change_ids: Sequence[int], *, topic: str) -> bool:
        """Send the operator a message, with buttons that decide about these changes of the catalogue, if there are any.

        Returns whether it arrived. Raises nothing.
        """
        ...

    async def find_message(self, reply: Reply) -> int | None:
        """Return the message id of a reply whose acceptance was not recorded, or None when Discord never showed it.

        Raises nothing: while Discord cannot be asked, this waits and asks again.
        """
        ...

    async def host_images(self, reply_id: str, images: Sequence[StoredImage]) -> list[str]:
        """Attach images to the message of a reply, unseen, and return the addresses at which Discord serves them.

        For providers that fetch input images themselves. Raises ImagesNotHosted.
        """
        ...


class DeferredPresenter:
    """Passes calls on to the presenter that the composition root sets before it starts anything that shows.

    The Discord client needs the service, and the service needs what the Discord client shows: this is the one place
    where the circle is closed.
    """

    def __init__(self) -> None:
        self._presenter: ReplyPresenter | None = None

    def set(self, presenter: ReplyPresenter) -> None:
        """Show replies with `presenter` from now on."""
        self._presenter = presenter

    @property
    def current(self) -> ReplyPresenter:
        """What shows replies. Raises RuntimeError before `set`: what is not shown would be lost without a trace."""
        if self._presenter is None:
            raise RuntimeError("something was to be shown before the presenter was set")
        return self._presenter

    def reply_changed(self, reply_id: str) -> None:
        """Show the reply as it is now."""
        self.current.reply_changed(reply_id)

    def operator_notice(self, matter: str, text: str) -> None:
        """Send the operator a message; at most one for a while about the same matter."""
        self.current.operator_notice(matter, text)

    async def ask_operator(self, text: str, change_ids: Sequence[int], *, topic: str) -> bool:
        """Send the operator a message, with buttons where there is something to decide."""
        return await self.current.ask_operator(text, change_ids, topic=topic)

    async def find_message(self, reply: Reply) -> int | None:
        """Return the message id of a reply whose acceptance was not recorded, or None when Discord never showed it."""
        return await self.current.find_message(reply)

    async def host_images(self, reply_id: str, images: Sequence[StoredImage]) -> list[str]:
        """Attach images to the message of a reply, and return the addresses at which Discord serves them."""
        return await self.current.host_images(reply_id, images)
