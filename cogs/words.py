"""Every sentence a user can read, in one place. Facts come in as arguments; nothing here decides anything.

Short, friendly, exact. Prices always carry a dollar sign, times are Discord timestamps that count by themselves.
"""

from __future__ import annotations

from datetime import datetime

import discord

from bot.errors import (
    BadOption,
    DuplicateCommand,
    ListFull,
    MemberBlocked,
    ModelUnavailable,
    NotAllowedHere,
    OperatorCapReached,
    ProviderPaused,
    QuotaExceeded,
    RequestRefused,
    ServerBusy,
    ServerCapReached,
    StillUnderWay,
    TooFast,
    TooManyRunning,
    UnknownModel,
    UnusableImage,
)
from bot.jobs import FailureReason
from bot.quota import Period, Quota, format_usd

# -- the card -------------------------------------------------------------------------------------------

QUEUED = "Queued"
PROCESSING = "Processing"
SAMPLING = "Sampling"
COMPLETED = "Completed"
FAILED = "Failed"
CANCELLED = "Cancelled"
CHECKING = "Checking"

NOT_CHARGED = "not charged"
PLACE_IN_LINE = "place {place} in line"
PREVIEW = "preview"
STARTED = "started {when}"
EXPECTED = "usually done {when}"
SOME_DONE = "{done} of {total} done"
SOME_FAILED = "{failed} of {total} failed, {NOT_CHARGED}"
LEFT = "{amount} left"
UNLIMITED_LEFT = "no limit"
COSTS = "costs {amount}"
COST = "cost {amount}"
CHECKING_EXPLAINED = (
    "The order went out, but the answer got lost. I am looking for it and never order twice; "
    "if it cannot be found, you are not charged."
)
CANCEL_WANTED_BECAUSE = "A moderator asked to stop this: `{reason}`"
CANCELLED_BECAUSE = "Cancelled by a moderator: `{reason}`"
PROMPT_HIDDEN = "The prompt is not repeated here."
SMALLER_COPY = "Shown smaller than it was made, to fit Discord's limit. {link}"
ORIGINAL = "Original"
READY_FOR = "{mention} your picture is ready."
SEED = "seed {seed}"
IMAGES_IN = {1: "1 picture given", 2: "2 pictures given", 3: "3 pictures given", 4: "4 pictures given"}
ALT_TEXT_EMPTY = "A picture"

FAILURES: dict[FailureReason, str] = {
    FailureReason.REJECTED: "The image service could not take this request. Change it a little and try again.",
    FailureReason.MODERATED: "The image service declined this request under its content rules. Try another wording.",
    FailureReason.PROVIDER_FAILED: "The image service ran into a problem. Trying again often works.",
    FailureReason.PROVIDER_UNAVAILABLE: (
        "The image service is temporarily unavailable. Try again later or pick another model."
    ),
    FailureReason.INPUT_GONE: "The picture to start from is no longer kept here. Attach it again with `/edit`.",
    FailureReason.MODEL_RETIRED: "This model has been retired. Pick another one.",
    FailureReason.NO_USABLE_RESULT: "The image service finished, but its picture could not be fetched. Try again.",
    FailureReason.TIMED_OUT: "The image service did not finish in time. Try again or pick another model.",
    FailureReason.OUTCOME_UNKNOWN: "The answer got lost and the picture could not be found. Try again.",
    FailureReason.NOT_SHOWN: "Discord did not show the answer, so nothing was ordered.",
    FailureReason.INTERNAL: "Something went wrong here. The operator has been told.",
}

# -- buttons ------------------------------------------------------------------------------------------------

CANCEL = "Cancel"
AGAIN_PRICE = "Again · {amount}"
VARY_PRICE = "Vary · {amount}"
EDIT = "Edit"
RECIPE = "Recipe"
DELETE = "Delete"

CANCEL_DONE = "Cancelled. You are not charged."
CANCEL_ASKED = "I asked the image service to stop. The card will say what came of it."
CANCEL_TOO_LATE = "Too late: this job has already finished or cannot be stopped any more."
CANCEL_NOT_POSSIBLE = "This image service cannot stop a job once it has started."
NOT_YOURS = "Only the person who asked for this picture, or a moderator, can do that."
JOB_GONE = "I no longer know this job."
DELETE_NOT_YET = "This job is still running. Cancel it first."

EDIT_MODAL_TITLE = "Edit this image"
EDIT_MODAL_PROMPT = "What should change?"
EDIT_MODAL_CHOICE = "Which pictures (up to 4)?"
NO_PICTURE_IN_MESSAGE = "That message has no attached picture. Choose one that has, or use `/edit`."

# -- refusals -------------------------------------------------------------------------------------------------

SERVER_ONLY = "This works in a server, not in a direct message."
MODERATORS_ONLY = "You need the Manage Server permission for this."
BOOKS_UNAVAILABLE = "I cannot write to my books right now, so I ordered nothing. Please try again in a minute."
UNEXPECTED = "Something went wrong here. Nothing was ordered. The operator has been told."
OPERATOR_NOTICE = "### Your image bot needs you\n{text}"
MEMBER_UNKNOWN = "I cannot find that member or role in this server."
CHANNEL_UNKNOWN = "I cannot find that channel in this server."
COMMAND_CHANGED = "This command has changed since your Discord loaded it. Please reload Discord and try again."
ANSWERED_PRIVATELY = "Answered privately."
SHUTTING_DOWN = "I am restarting. Please try again in a minute."

MENTIONS = 3
"""Channels or roles named in one sentence."""

_UNUSABLE: dict[str, str] = {
    "not_an_image": "`{file}` is not a picture. Attach a PNG, JPEG or WebP file.",
    "unsupported_type": "`{file}` is of a kind I cannot use. Attach a PNG, JPEG or WebP file.",
    "broken": "`{file}` is damaged or cut short. Save it again and attach the new file.",
    "animated": "`{file}` is animated. Attach a still picture (PNG, JPEG or WebP).",
    "too_many_bytes": "`{file}` is too large: {limit}.",
    "too_many_pixels": "`{file}` has too many pixels: {limit}.",
    "too_small": "`{file}` is too small: {limit}.",
    "unreachable": "`{file}` could not be fetched from Discord. Please attach it again.",
    "foreign_host": "`{file}` does not come from Discord. Attach the picture itself.",
    "location_data": (
        "`{file}` says where it was taken, and this model's provider would get the file unchanged. "
        "Remove the location from the picture, or pick a `krea/…` model."
    ),
}

_UNAVAILABLE: dict[str, str] = {
    "no_price": (
        "`{model}` cannot be ordered: its price for these options is not known. Pick another model or other options."
    ),
    "no_key": "`{model}` cannot be ordered here: its provider is not set up. Pick another model.",
    "retired": "`{model}` has been retired. Pick another model.",
    "not_for_this_command": (
        "`{model}` does not fit this command. Pick one of the models that are offered while you type."
    ),
}


_CHEAPER = "\n-# A cheaper model may still fit: `/models` lists them by price."


def refusal(error: RequestRefused) -> str:
    """What is wrong, what it would have cost, and what would work."""
    match error:
        case QuotaExceeded():
            return (
                f"This costs {format_usd(error.asked_usd_micros)} and you have "
                f"{format_usd(error.available_usd_micros)} left. Your quota resets {moment(error.resets_at)}."
                f"{_CHEAPER if error.available_usd_micros > 0 else ''}"
            )
        case ServerCapReached():
            return (
                f"This costs {format_usd(error.asked_usd_micros)} and this server has "
                f"{format_usd(error.available_usd_micros)} left for everybody. "
                f"Its cap resets {moment(error.resets_at)}."
            )
        case OperatorCapReached():
            return f"The bot has reached its spending limit for today. Please try again {moment(error.resets_at)}."
        case TooManyRunning():
            return (
                f"You already have {error.running} running; {error.limit} at a time is the limit. "
                "Wait for one to finish or cancel it."
            )
        case ServerBusy():
            return f"This server already has {error.running:,} pictures under way. Please try again in a while."
        case TooFast():
            return f"That was a lot within a minute. More orders are taken {moment(error.free_at)}."
        case MemberBlocked():
            return "A moderator has paused image orders for you in this server."
        case UnknownModel():
            meant = " or ".join(f"`{suggestion}`" for suggestion in error.suggestions[:3])
            hint = f" Did you mean {meant}?" if meant else " Pick one of the models that are offered while you type."
            return f"There is no model `{inline(error.model_id)}`.{hint}"
        case ModelUnavailable():
            return _UNAVAILABLE[error.reason].format(model=inline(error.model_id))
        case BadOption():
            return _bad_option(error)
        case UnusableImage():
            return _UNUSABLE[error.reason].format(file=inline(error.filename), limit=error.limit)
        case ProviderPaused():
            return "This image service is temporarily unavailable. Try again later or pick a model of another provider."
        case NotAllowedHere():
            return _not_allowed(error)
        case ListFull():
            return f"This list is full: it takes {error.limit} entries. Take one off first."
        case StillUnderWay():
            return (
                f"Something of yours is still under way ({error.commands}). Wait until it is done, or press Cancel on "
                "it, then use `/privacy delete` again."
            )
        case DuplicateCommand():
            return "This command was already taken."
        case _:
            return UNEXPECTED


def _not_allowed(error: NotAllowedHere) -> str:
    match error.reason:
        case "channel":
            channels = ", ".join(f"<#{channel_id}>" for channel_id in error.channel_ids[:MENTIONS])
            where = f"Go to {channels}" if channels else "Go to another one"
            return (
                f"Pictures are not made in this channel. {where}.\n-# A moderator decided that: `/settings channels`."
            )
        case "other_roles":
            roles = ", ".join(f"<@&{role_id}>" for role_id in error.role_ids[:MENTIONS])
            return (
                f"Here, {error.model_label} is only for {roles}. Pick one of the models that are offered while you "
                "type.\n-# A moderator decided that: `/settings models`."
            )
        case "age_restricted":
            return (
                f"Here, {error.model_label} works only in age-restricted channels. Go to one, or pick another model."
                "\n-# A moderator decided that: `/settings age-restricted`."
            )
        case "word":
            return (
                f"Your prompt has something that is not welcome in this server: `{inline(error.word)}`. Leave it out "
                "and try again.\n-# A moderator decided that: `/settings words`."
            )
        case _:
            return (
                f"{error.model_label} may not be used here. Pick one of the models that are offered while you type."
                "\n-# A moderator decided that: `/settings models`."
            )


def _bad_option(error: BadOption) -> str:
    match error.reason:
        case "unknown":
            takes = ", ".join(f"`{option}`" for option in error.takes)
            instead = f" It takes {takes}." if takes else " It takes only a prompt."
            return f"{error.model_label} does not take `{error.option}`.{instead}"
        case "missing":
            return f"{error.model_label} needs `{error.option}`: {error.accepted}."
        case _:
            return f"`{error.option}` does not fit {error.model_label}. It takes {error.accepted}."


# -- usage ----------------------------------------------------------------------------------------------------

USAGE_TITLE = "Your usage"
USAGE_PREVIOUS_TITLE = "Your usage, previous period"
USAGE_LINE = "**{spent}** spent · **{set_aside}** set aside · **{left}** left"
USAGE_QUOTA = "Quota: **{quota}** ({source})"
USAGE_GRANTED = "Extra this period: **{amount}**"
USAGE_RESET = "Resets {when}"
USAGE_ENDED = "Ended {when}"
USAGE_JOBS = "Last jobs"
USAGE_NO_JOBS = "Nothing yet. Try `/imagine`."

SOURCES = {
    "member": "set for you",
    "role": "from the role {role}",
    "default": "this server's default",
    "settings": "the bot's default",
}
SOURCES_FOR_MODERATORS = {
    "member": "own limit",
    "role": "from the role {role}",
    "default": "server default",
    "settings": "the bot's default",
}

# -- models -----------------------------------------------------------------------------------------------------

MODELS_TITLE = "Models"
MODELS_HINT = "`/models model:` tells more about one of them."
MODEL_GENERATE = "makes pictures from text"
MODEL_EDIT = "edits pictures"
MODEL_REFERENCE = "follows a reference picture"
MODEL_UPSCALE = "enlarges pictures"
MODEL_NO_PRICE = "not available: no price set"

# -- moderators ----------------------------------------------------------------------------------------------------

AMOUNT_HELP = (
    "`{amount}` is not an amount. Give dollars such as `5`, `2.50` or `$0.065` (at most 7 digits and 6 decimals), "
    "`0` for no spending, or `unlimited`."
)
GRANT_HELP = "`{amount}` is not an amount. Give dollars such as `5`, `2.50` or `$0.065`, more than zero."
LIMIT_SET = "{subject}: **{new}** (was {old})."
LIMIT_CLEARED = "{subject}: limit removed (was {old})."
LIMIT_NONE = "{subject} had no limit of their own."
CLEAR_ONE = "Name a `member` or a `role`, one of them."
GRANTED = "{subject} gets **{amount}** extra for this period and has **{left}** left."
RESET_DONE = "{subject}: spending counts from zero again. **{left}** left."
BLOCKED = "{subject} gets no new jobs."
UNBLOCKED = "{subject} may order again."
BLOCK_UNCHANGED = "{subject} was already {state}."
STATE_BLOCKED = "blocked"
STATE_UNBLOCKED = "not blocked"
BOT_HAS_NO_QUOTA = "{subject} is a bot and orders no pictures."
THE_DEFAULT = "Everybody else"
THE_SERVER = "The whole server"

QUOTA_OF = "Quota of {subject}"
SERVER_CAP = "Server: {used} used of {cap}"

REPORT_PERIODS = {Period.DAY: "today", Period.WEEK: "this week", Period.MONTH: "this month"}
REPORT_TITLE = "Spending {period}"
REPORT_EMPTY = "Nothing was spent."
REPORT_TOTAL = "**{amount}** for {pictures}, from {start} to {end}"
REPORT_MEMBERS = "By member"
REPORT_MODELS = "By model"
REPORT_MORE = "… and {count} more, all in the CSV file."
FORMER_MEMBER = "a former member"

AUDIT_TITLE = "Record of changes"
AUDIT_EMPTY = "No changes on record."
OLDER = "Older"
NEWEST = "Newest"
AUDIT_ACTIONS = {
    "set": "set the limit of {subject}",
    "clear": "removed the limit of {subject}",
    "grant": "granted an extra to {subject}",
    "reset": "reset the spending of {subject}",
    "block": "blocked {subject}",
    "unblock": "unblocked {subject}",
    "cancel": "wanted a picture of {subject} cancelled",
    "time_zone": "changed the time zone",
    "channels": "changed where pictures are made",
    "models": "changed which models may be used",
    "age_restricted": "changed which models need an age-restricted channel",
    "words": "changed the word list",
    "default_model": "changed the default model",
    "log_channel": "changed the log channel",
}

PERIOD_NAMES = {Period.DAY: "day", Period.WEEK: "week", Period.MONTH: "month"}


# -- privacy -----------------------------------------------------------------------------------------------------------

EXPORT_ABOUT = (
    "Everything this bot keeps about you, from all servers. Times are UTC. Amounts are exact in micro-dollars "
    "(1 USD = 1,000,000) and repeated in dollars. Pictures are named by the SHA-256 of their content; /history shows "
    "them. Left out: credentials, and who else is named in the record of changes."
)
EXPORT_READY = "### Your data\nEverything kept about you, from all servers. Only you can see this message."
EXPORT_TOO_LARGE = "Your data do not fit into one file here. Ask the operator of this bot for them."
ERASE_ASK = (
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
ERASE = "Erase my data"
ERASE_NOT = "Keep it"
ERASE_KEPT = "Nothing was erased."
ERASE_DONE = (
    "Your data are erased. What is posted in Discord is still there; the amounts in the books lose their last link to "
    "you when the month is over."
)
ERASE_STALE = "This question is too old. Nothing was erased; use `/privacy delete` again."
PROMPT_ERASED = "The prompt of this picture is no longer kept, so it cannot be made again from here. Use `/imagine`."

# -- history -----------------------------------------------------------------------------------------------------------

HISTORY_TITLE = "Your pictures"
HISTORY_PAGE = "{number} of {total}"
HISTORY_EMPTY = "You have no pictures here yet. Try `/imagine`."
HISTORY_NONE_OF_MODEL = "You have no pictures made with `{model}` here."
HISTORY_PAGE_GONE = "That page is gone. Use `/history` again."
HISTORY_NOT_YOURS = "These are somebody else's pictures. Use `/history` for your own."
HISTORY_PICTURE_GONE = "This picture is gone: its message was deleted, or I cannot see it, and I no longer have a copy."
HISTORY_UNREACHABLE = "Discord does not hand this picture out just now. Try again in a minute."
HISTORY_MESSAGE = "[message]({link})"
NEWER = "Newer"


# -- building blocks --------------------------------------------------------------------------------------------------


def moment(when: datetime) -> str:
    """A Discord timestamp that counts by itself: 'in 3 hours', '2 minutes ago'."""
    return discord.utils.format_dt(when, "R")


def day(when: datetime) -> str:
    """A Discord timestamp with date and time in the reader's own zone."""
    return discord.utils.format_dt(when, "f")


def counted(number: int, noun: str) -> str:
    """'1 picture', '3 pictures'."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def message_link(guild_id: object, channel_id: object, message_id: object) -> str:
    """Where a message can be looked at."""
    return f"https://discord.com/channels/{guild_id}/{channel_id}/{message_id}"


def amount_left(available_usd_micros: int | None) -> str:
    """'$0.92 left', or 'no limit'."""
    if available_usd_micros is None:
        return UNLIMITED_LEFT
    return LEFT.format(amount=format_usd(available_usd_micros))


def dollars_or_unlimited(amount_usd_micros: int | None) -> str:
    """'$0.92', or 'no limit'."""
    return UNLIMITED_LEFT if amount_usd_micros is None else format_usd(amount_usd_micros)


def quota(value: Quota | None) -> str:
    """'$5.00 per day', 'unlimited', 'not set'."""
    if value is None:
        return "not set"
    if value.amount_usd_micros is None:
        return "unlimited"
    return f"{format_usd(value.amount_usd_micros)} per {PERIOD_NAMES[value.period]}"


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
