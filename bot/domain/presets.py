"""Presets and defaults: what an order begins with before its own options. Values only, no I/O."""

from __future__ import annotations

from dataclasses import dataclass

from bot.domain.jobs import ImageInput

OptionValue = str | int | float | bool

MAX_PER_SERVER = 100
MAX_PER_MEMBER = 25
MAX_NAME_CHARACTERS = 50
MAX_WORDS_CHARACTERS = 1_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Preset:
    """A named beginning of an order: a server's (`user_id` None) or a member's own, for every server."""

    id: str
    guild_id: int | None
    user_id: int | None
    name: str
    model_id: str | None = None
    more: str = ""
    """Options as the text of `more`, read for the model of each order."""
    words_before: str = ""
    words_after: str = ""
    reference: ImageInput | None = None
    """An image that goes with the attached ones of each order."""

    @property
    def is_own(self) -> bool:
        """Whether it is a member's own."""
        return self.user_id is not None


@dataclass(frozen=True, kw_only=True, slots=True)
class MemberDefaults:
    """What a member's orders in one server begin with; None where nothing is set."""

    model_id: str | None = None
    aspect_ratio: str | None = None
    resolution: str | None = None
    private: bool | None = None
    preset_name: str | None = None

    @property
    def options(self) -> dict[str, OptionValue]:
        """The options among them."""
        named = {"aspect_ratio": self.aspect_ratio, "resolution": self.resolution}
        return {name: value for name, value in named.items() if value is not None}


@dataclass(frozen=True, kw_only=True, slots=True)
class MemberProfile:
    """What is read of a member before an order of theirs is answered."""

    is_blocked: bool
    """Whether the server's moderators have blocked the member."""
    defaults: MemberDefaults


def name_key(name: str) -> str:
    """Return a name as it is compared: without case, outer and repeated space."""
    return " ".join(name.split()).casefold()[: MAX_NAME_CHARACTERS * 2]
