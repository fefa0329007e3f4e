"""Words that everybody reads: the card, its buttons, one's own pictures and data. Facts come in as arguments.

Short, friendly, exact. Prices always carry a dollar sign, times are Discord timestamps that count by themselves.
Phrases stand here in English and are said in the language that is spoken, see language.py; the other families have
files of their own (`*_words.py`).
"""

from __future__ import annotations

from datetime import datetime

import discord

from bot.domain.jobs import FailureReason
from bot.domain.quota import format_usd
from cogs.text.locale import Phrase, Plural

# Discord's limits in characters, for a phrase with its facts filled in.
BUTTON = 80
MODAL = 45
"""The title of a modal, and each label in it."""

PLACEHOLDER = 150
CHOICE = 100

# -- the card -------------------------------------------------------------------------------------------

QUEUED = Phrase("Queued")
PROCESSING = Phrase("Processing")
SAMPLING = Phrase("Sampling")
COMPLETED = Phrase("Completed")
FAILED = Phrase("Failed")
CANCELLED = Phrase("Cancelled")
CHECKING = Phrase("Checking")

NOT_CHARGED = Phrase("not charged")
PLACE_IN_LINE = Phrase("place {place} in line")
PREVIEW = Phrase("preview")
STARTED = Phrase("started {when}")
EXPECTED = Phrase("usually done {when}")
SOME_DONE = Phrase("{done} of {total} done")
SOME_FAILED = Phrase("{failed} of {total} failed, not charged")
SOME_CANCELLED = Phrase("{cancelled} of {total} cancelled, not charged")
LEFT = Phrase("{left} left")
NO_LIMIT = Phrase("no limit")
COSTS = Phrase("costs {amount}")
COST = Phrase("cost {amount}")
CHECKING_EXPLAINED = Phrase(
    "The order went out, but the answer got lost. I am looking for it and never order twice; "
    "if it cannot be found, you are not charged."
)
CANCEL_WANTED_BECAUSE = Phrase("A moderator asked to stop this: `{reason}`")
CANCELLED_BECAUSE = Phrase("Cancelled by a moderator: `{reason}`")
PROMPT_HIDDEN = Phrase("The prompt is not repeated here.")
SMALLER_COPY = Phrase("Shown smaller than it was made, to fit Discord's limit. {link}")
ORIGINAL = Phrase("Original")
READY_FOR = Phrase("{mention} your picture is ready.")
SEED = Phrase("seed {seed}")
PICTURES_GIVEN = Plural("{count} picture given", "{count} pictures given")
ALT_TEXT_EMPTY = Phrase("A picture")

FAILURES: dict[FailureReason, Phrase] = {
    FailureReason.REJECTED: Phrase("The image service could not take this request. Change it a little and try again."),
    FailureReason.MODERATED: Phrase(
        "The image service declined this request under its content rules. Try another wording."
    ),
    FailureReason.PROVIDER_FAILED: Phrase("The image service ran into a problem. Trying again often works."),
    FailureReason.PROVIDER_UNAVAILABLE: Phrase(
        "The image service is temporarily unavailable. Try again later or pick another model."
    ),
    FailureReason.INPUT_GONE: Phrase("The picture to start from is no longer kept here. Attach it again with `/edit`."),
    FailureReason.MODEL_RETIRED: Phrase("This model has been retired. Pick another one."),
    FailureReason.NO_USABLE_RESULT: Phrase(
        "The image service finished, but its picture could not be fetched. Try again."
    ),
    FailureReason.TIMED_OUT: Phrase("The image service did not finish in time. Try again or pick another model."),
    FailureReason.OUTCOME_UNKNOWN: Phrase("The answer got lost and the picture could not be found. Try again."),
    FailureReason.NOT_SHOWN: Phrase("Discord did not show the answer, so nothing was ordered."),
    FailureReason.INTERNAL: Phrase("Something went wrong here. The operator has been told."),
}

# -- buttons ------------------------------------------------------------------------------------------------

CANCEL = Phrase("Cancel", longest=BUTTON)
AGAIN_PRICE = Phrase("Again · {amount}", longest=BUTTON)
VARY_PRICE = Phrase("Vary · {amount}", longest=BUTTON)
EDIT = Phrase("Edit", longest=BUTTON)
UPSCALE_PRICE = Phrase("Upscale · {amount}", longest=BUTTON)
PICTURE_PRICE = Phrase("Picture {number} · {amount}", longest=BUTTON)
RECIPE = Phrase("Recipe", longest=BUTTON)
DELETE = Phrase("Delete", longest=BUTTON)
NEWER = Phrase("Newer", longest=BUTTON)
OLDER = Phrase("Older", longest=BUTTON)
NEWEST = Phrase("Newest", longest=BUTTON)

CANCEL_DONE = Phrase("Cancelled. You are not charged.")
CANCEL_ASKED = Phrase("I asked the image service to stop. The card will say what came of it.")
CANCEL_TOO_LATE = Phrase("Too late: this job has already finished or cannot be stopped any more.")
CANCEL_NOT_POSSIBLE = Phrase("This image service cannot stop a job once it has started.")
NOT_YOURS = Phrase("Only the person who asked for this picture, or a moderator, can do that.")
JOB_GONE = Phrase("I no longer know this job.")
DELETE_NOT_YET = Phrase("This job is still running. Cancel it first.")
PROMPT_ERASED = Phrase(
    "The prompt of this picture is no longer kept, so it cannot be made again from here. Use `/imagine`."
)
DEARER = Phrase("The price has gone up since then. Do you still want to order this?")
"""Above a button with the new price."""

RECIPE_OF = Phrase("Recipe · {model}")
RECIPE_OF_UPSCALE = Phrase("Upscale")
"""Where a recipe else begins with a command."""

UPSCALE_WHICH = Phrase("Which picture should be made larger?")
UPSCALE_NOT_POSSIBLE = Phrase("None of the models that may be used here can make this picture larger.")

EDIT_MODAL_TITLE = Phrase("Edit this image", longest=MODAL)
EDIT_MODAL_PROMPT = Phrase("What should change?", longest=MODAL)
EDIT_MODAL_CHOICE = Phrase("Which pictures (up to 4)?", longest=MODAL)
EDIT_MODAL_UPLOAD = Phrase("Other pictures to use (up to 3)", longest=MODAL)
EDIT_MODAL_PICTURE = Phrase("Picture {number}", longest=CHOICE)
EDIT_TOO_MANY = Plural(
    "That makes {count} picture. Choose or attach fewer: at most {most} go into one edit.",
    "That makes {count} pictures. Choose or attach fewer: at most {most} go into one edit.",
)
NO_PICTURE_IN_MESSAGE = Phrase("That message has no attached picture. Choose one that has, or use `/edit`.")

# -- autocomplete --------------------------------------------------------------------------------------------

OVER_WHAT_IS_LEFT = Phrase("over your {amount} left", longest=60)
"""Behind the price of a model that costs more than the member has left."""

# -- answers ------------------------------------------------------------------------------------------------

ANSWERED_PRIVATELY = Phrase("Answered privately.")
OPERATOR_NOTICE = "### Your image bot needs you\n{text}"
"""To the operator, whose notices are English like the log."""

# -- help ---------------------------------------------------------------------------------------------------

HELP_TITLE = Phrase("What I can do for you")
HELP_MENU = Phrase("`{name}` — right-click or hold a message, then Apps")
HELP_MODERATORS = Phrase("**For moderators**")
HELP_NOT_HERE = Phrase("Pictures are not made in this channel.")
HELP_ELSEWHERE = Phrase("Pictures are not made in this channel, but in {channels}.")
HELP_DIRECT = Phrase("Pictures are made in servers, not in direct messages.")

# -- history ------------------------------------------------------------------------------------------------

HISTORY_TITLE = Phrase("🖼️ Your pictures · {number} of {total}")
HISTORY_EMPTY = Phrase("You have no pictures here yet. Try `/imagine`.")
HISTORY_NONE_OF_MODEL = Phrase("You have no pictures made with `{model}` here.")
HISTORY_PAGE_GONE = Phrase("That page is gone. Use `/history` again.")
HISTORY_NOT_YOURS = Phrase("These are somebody else's pictures. Use `/history` for your own.")
HISTORY_PICTURE_GONE = Phrase(
    "This picture is gone: its message was deleted, or I cannot see it, and I no longer have a copy."
)
HISTORY_UNREACHABLE = Phrase("Discord does not hand this picture out just now. Try again in a minute.")
MESSAGE = Phrase("message")
"""What a link to a message is called."""

# -- privacy ------------------------------------------------------------------------------------------------

EXPORT_ABOUT = Phrase(
    "Everything this bot keeps about you, from all servers. Times are UTC. Amounts are exact in micro-dollars "
    "(1 USD = 1,000,000) and repeated in dollars. Pictures are named by the SHA-256 of their content; /history shows "
    "them. Left out: credentials, and who else is named in the record of changes."
)
EXPORT_READY = Phrase("### Your data\nEverything kept about you, from all servers. Only you can see this message.")
EXPORT_TOO_LARGE = Phrase("Your data do not fit into one file here. Ask the operator of this bot for them.")
ERASE_ASK = Phrase(
    "### Erase your data?\n"
    "**This goes**, from all servers and for good: your prompts and options, the pictures kept for you, and that it "
    "was you who asked ({commands}, {pictures}, {servers}).\n"
    "**This stays:**\n"
    "- What is already posted in Discord. If a picture should go, press Delete under it first; afterwards its "
    "buttons do not know it any more.\n"
    "- The amounts in the books, without your name. What you spent stays linked to you until the month is over, so "
    "that your quota does not start anew.\n"
    "- Limits and blocks that moderators set for you.\n"
    "-# `/privacy export` gives you a copy first."
)
COMMANDS = Plural("{count} command", "{count} commands")
PICTURES = Plural("{count} picture", "{count} pictures")
SERVERS = Plural("{count} server", "{count} servers")
ERASE = Phrase("Erase my data", longest=BUTTON)
ERASE_NOT = Phrase("Keep it", longest=BUTTON)
ERASE_KEPT = Phrase("Nothing was erased.")
ERASE_DONE = Phrase(
    "Your data are erased. What is posted in Discord is still there; the amounts in the books lose their last link to "
    "you when the month is over."
)
ERASE_STALE = Phrase("This question is too old. Nothing was erased; use `/privacy delete` again.")


# -- building blocks --------------------------------------------------------------------------------------------------

MENTIONS = 3
"""Channels or roles named in one sentence."""


def moment(when: datetime) -> str:
    """A Discord timestamp that counts by itself: 'in 3 hours', '2 minutes ago'."""
    return discord.utils.format_dt(when, "R")


def day(when: datetime) -> str:
    """A Discord timestamp with date and time in the reader's own zone."""
    return discord.utils.format_dt(when, "f")


def message_link(guild_id: object, channel_id: object, message_id: object) -> str:
    """Where a message can be looked at."""
    return f"https://discord.com/channels/{guild_id}/{channel_id}/{message_id}"


def link_to_message(guild_id: object, channel_id: object, message_id: object) -> str:
    """The same to click on: '[message](…)'."""
    return f"[{MESSAGE()}]({message_link(guild_id, channel_id, message_id)})"


def amount_left(available_usd_micros: int | None) -> str:
    """'$0.92 left', or 'no limit'."""
    return left(available_usd_micros, LEFT, NO_LIMIT)


def left(available_usd_micros: int | None, some: Phrase, unlimited: Phrase, **facts: object) -> str:
    """What is left of a limit, as a sentence: `some` says the amount, `unlimited` that there is no end to it."""
    if available_usd_micros is None:
        return unlimited(**facts)
    return some(left=format_usd(available_usd_micros), **facts)


# Controls other than tab and line break, soft hyphen, and the marks that change direction or take no room.
_INVISIBLE = dict.fromkeys(
    [
        *range(0x09),
        *range(0x0B, 0x20),
        *range(0x7F, 0xA0),
        *(0xAD, 0x061C, 0xFEFF),
        *range(0x200B, 0x2010),
        *range(0x202A, 0x202F),
        *range(0x2060, 0x2070),
    ]
)


def inline(text: str, limit: int = 100) -> str:
    """User text for the inside of `code`: no backticks, no line breaks, no controls, at most `limit` characters."""
    return shorten(" ".join(text.translate(_INVISIBLE).replace("`", "ˋ").split()), limit) or " "


def block(text: str, limit: int) -> str:
    """User text as a code block: markdown, links, mentions and timestamps in it stay plain text.

    Backticks are replaced, direction marks and other invisible controls removed (they could disguise the text).
    """
    plain = text.translate(_INVISIBLE).replace("`", "ˋ").strip()
    return f"```\n{shorten(plain, limit) or ' '}\n```"


def shorten(text: str, limit: int) -> str:
    """Cut at a word where possible, with an ellipsis."""
    if len(text) <= limit:
        return text
    cut = text[: limit - 1]
    space = cut.rfind(" ")
    return (cut[:space] if space > limit // 2 else cut).rstrip() + "…"
