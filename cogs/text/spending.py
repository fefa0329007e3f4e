"""Words about money: what was spent and what may be, in /usage, /models and /quota."""

from __future__ import annotations

from bot.domain.money.quota import Period, Quota, format_usd
from cogs.text.locale import Phrase, Plural

# -- limits -----------------------------------------------------------------------------------------------------

PER_PERIOD = {
    Period.DAY: Phrase("{amount} per day"),
    Period.WEEK: Phrase("{amount} per week"),
    Period.MONTH: Phrase("{amount} per month"),
}
UNLIMITED = Phrase("unlimited")
NOT_SET = Phrase("not set")


def quota(value: Quota | None) -> str:
    """Return '$5.00 per day', 'unlimited' or 'not set'."""
    if value is None:
        return NOT_SET()
    if value.amount_usd_micros is None:
        return UNLIMITED()
    return PER_PERIOD[value.period](amount=format_usd(value.amount_usd_micros))


# -- usage ------------------------------------------------------------------------------------------------------

TITLE = Phrase("Your usage")
PREVIOUS_TITLE = Phrase("Your usage, previous period")
BALANCE = Phrase("**{spent}** spent · **{set_aside}** set aside · **{left}** left")
BALANCE_UNLIMITED = Phrase("**{spent}** spent · **{set_aside}** set aside · **no limit**")
QUOTA = Phrase("Quota: **{quota}** ({source})")
GRANTED_NOW = Phrase("Extra this period: **{amount}**")
TOP_UP = Phrase("Credit for your own wallet works wherever this bot is, is used after your quota, and never expires:")
"""Above the buttons that buy at Discord, which show what it is and its price."""
WALLET = Phrase("Wallet: **{left}** left · **{set_aside}** set aside")
RESETS = Phrase("Resets {when}")
ENDED = Phrase("Ended {when}")
JOBS = Phrase("Last jobs")
NO_JOBS = Phrase("Nothing yet. Try `/imagine`.")

SOURCES = {
    "member": Phrase("set for you"),
    "role": Phrase("from the role {role}"),
    "default": Phrase("this server's default"),
    "settings": Phrase("the bot's default"),
}
SOURCES_FOR_MODERATORS = {
    "member": Phrase("own limit"),
    "role": Phrase("from the role {role}"),
    "default": Phrase("server default"),
    "settings": Phrase("the bot's default"),
}

# -- models -----------------------------------------------------------------------------------------------------

MODELS_TITLE = Phrase("Models")
DEFAULT = Phrase("default")
"""Marks the model that is used when a member names none."""

MODELS_HINT = Phrase("`/models model:` tells you more about one of them.")
MODEL_NO_PRICE = Phrase("not available: no price set")
MODEL_ENDS = Phrase("withdrawn by its image service on {when}")
"""Stands beside a model that still takes orders."""
MODEL_MODES = {
    "generate": Phrase("makes images from text"),
    "edit": Phrase("edits images"),
    "reference": Phrase("follows a reference image"),
    "upscale": Phrase("enlarges images"),
}
MODELS = Plural("{count} model", "{count} models")
OVER_WHAT_IS_LEFT = Phrase("over your {amount} left", longest=60)
"""Behind the price of a model that costs more than the member has left."""

# -- changing limits --------------------------------------------------------------------------------------------

AMOUNT_HELP = Phrase(
    "`{amount}` is not an amount. Give dollars such as `5`, `2.50` or `$0.065` (at most 7 digits and 6 decimals), "
    "`0` for no spending, or `unlimited`."
)
GRANT_HELP = Phrase("`{amount}` is not an amount. Give dollars such as `5`, `2.50` or `$0.065`, more than zero.")
LIMIT_SET = Phrase("{subject}: **{new}** (was {old}).")
LIMIT_SAME = Phrase("{subject}: **{new}** already. Nothing changed.")
ABOVE_BOT_CAP = Phrase("⚠️ That is above the bot's own daily cap of {cap} for this server, which applies too.")
BOT_CAP_BINDS = Phrase("The bot's own daily cap of {cap} for this server still applies.")
ZERO_MEANS = Phrase("⚠️ Zero means that nothing can be ordered under this limit from now on.")
STOPS_NOW = Phrase("⚠️ {used} is spent or set aside already: ordering stops now until {when}.")
BINDS = Phrase("⚠️ What limits this now: {why}.")
LIMIT_CLEARED = Phrase("{subject}: limit removed (was {old}).")
LIMIT_NONE = Phrase("No limit is set for {subject}.")
CLEAR_ONE = Phrase("Choose either a `member`, a `role` or a `channel`.")
THREAD_HAS_NO_CAP = Phrase("{thread} is a thread. What is ordered in it counts for {channel}: set the cap there.")
GRANTED = Phrase("{subject} gets **{amount}** extra for this period and has **{left}** left.")
GRANTED_UNLIMITED = Phrase("{subject} gets **{amount}** extra for this period and has **no limit**.")
RESET_DONE = Phrase("{subject}: spending counts from zero again. **{left}** left.")
RESET_DONE_UNLIMITED = Phrase("{subject}: spending counts from zero again. There is **no limit**.")
RESET_NOTHING = Phrase("{subject} has spent nothing in this period. Nothing changed.")
BLOCKED = Phrase("{subject} can no longer order images here.")
UNBLOCKED = Phrase("{subject} can order images again.")
BLOCKED_ALREADY = Phrase("{subject} was already blocked.")
UNBLOCKED_ALREADY = Phrase("{subject} was not blocked.")
BOT_HAS_NO_QUOTA = Phrase("{subject} is a bot and cannot order images.")
THE_DEFAULT = Phrase("Everybody else")
THE_SERVER = Phrase("The whole server")

QUOTA_OF = Phrase("Quota of {subject}")
SERVER_CAP = Phrase("Server: {used} used of {cap}")
CHANNEL_CAP = Phrase("{channel}: {used} used of {cap}")
MORE_CHANNEL_CAPS = Plural("… and {count} more channel with a cap", "… and {count} more channels with a cap")

# -- the report -------------------------------------------------------------------------------------------------

FORMER_MEMBER = Phrase("a former member")
