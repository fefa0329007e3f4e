"""Words about money: what was spent and what may be, in /usage, /models and /quota."""

from __future__ import annotations

from bot.domain.quota import Period, Quota, format_usd
from cogs.text.locale import Phrase, Plural
from cogs.text.words import BUTTON

# -- limits -----------------------------------------------------------------------------------------------------

PER_PERIOD = {
    Period.DAY: Phrase("{amount} per day"),
    Period.WEEK: Phrase("{amount} per week"),
    Period.MONTH: Phrase("{amount} per month"),
}
UNLIMITED = Phrase("unlimited")
NOT_SET = Phrase("not set")


def quota(value: Quota | None) -> str:
    """'$5.00 per day', 'unlimited', 'not set'."""
    if value is None:
        return NOT_SET()
    if value.amount_usd_micros is None:
        return UNLIMITED()
    return PER_PERIOD[value.period](amount=format_usd(value.amount_usd_micros))


# -- usage ------------------------------------------------------------------------------------------------------

TITLE = Phrase("Your usage")
PREVIOUS_TITLE = Phrase("Your usage, previous period")
BALANCE = Phrase("**{spent}** spent · **{set_aside}** set aside · **{left}** left")
BALANCE_UNLIMITED = Phrase("**{spent}** spent · **{set_aside}** set aside · **no limit** left")
QUOTA = Phrase("Quota: **{quota}** ({source})")
GRANTED_NOW = Phrase("Extra this period: **{amount}**")
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
MODELS_HINT = Phrase("`/models model:` tells more about one of them.")
MODEL_NO_PRICE = Phrase("not available: no price set")
MODEL_MODES = {
    "generate": Phrase("makes pictures from text"),
    "edit": Phrase("edits pictures"),
    "reference": Phrase("follows a reference picture"),
    "upscale": Phrase("enlarges pictures"),
}
MODELS = Plural("{count} model", "{count} models")

# -- changing limits --------------------------------------------------------------------------------------------

AMOUNT_HELP = Phrase(
    "`{amount}` is not an amount. Give dollars such as `5`, `2.50` or `$0.065` (at most 7 digits and 6 decimals), "
    "`0` for no spending, or `unlimited`."
)
GRANT_HELP = Phrase("`{amount}` is not an amount. Give dollars such as `5`, `2.50` or `$0.065`, more than zero.")
LIMIT_SET = Phrase("{subject}: **{new}** (was {old}).")
LIMIT_CLEARED = Phrase("{subject}: limit removed (was {old}).")
LIMIT_NONE = Phrase("{subject} had no limit of their own.")
CLEAR_ONE = Phrase("Name a `member` or a `role`, one of them.")
GRANTED = Phrase("{subject} gets **{amount}** extra for this period and has **{left}** left.")
GRANTED_UNLIMITED = Phrase("{subject} gets **{amount}** extra for this period and has **no limit** left.")
RESET_DONE = Phrase("{subject}: spending counts from zero again. **{left}** left.")
RESET_DONE_UNLIMITED = Phrase("{subject}: spending counts from zero again. **no limit** left.")
BLOCKED = Phrase("{subject} gets no new jobs.")
UNBLOCKED = Phrase("{subject} may order again.")
BLOCKED_ALREADY = Phrase("{subject} was already blocked.")
UNBLOCKED_ALREADY = Phrase("{subject} was not blocked.")
BOT_HAS_NO_QUOTA = Phrase("{subject} is a bot and orders no pictures.")
THE_DEFAULT = Phrase("Everybody else")
THE_SERVER = Phrase("The whole server")

QUOTA_OF = Phrase("Quota of {subject}")
SERVER_CAP = Phrase("Server: {used} used of {cap}")

# -- the report -------------------------------------------------------------------------------------------------

REPORT_TITLES = {
    Period.DAY: Phrase("Spending today"),
    Period.WEEK: Phrase("Spending this week"),
    Period.MONTH: Phrase("Spending this month"),
}
REPORT_EMPTY = Phrase("Nothing was spent.")
REPORT_TOTAL = Plural(
    "**{amount}** for {count} picture, from {start} to {end}",
    "**{amount}** for {count} pictures, from {start} to {end}",
)
REPORT_MEMBERS = Phrase("By member")
REPORT_MODELS = Phrase("By model")
REPORT_MORE = Plural("… and {count} more, all in the CSV file.", "… and {count} more, all in the CSV file.")
FORMER_MEMBER = Phrase("a former member")
REPORT_COLUMNS = (Phrase("member_id"), Phrase("model"), Phrase("pictures"), Phrase("spent_usd"))
"""Titles of the columns of the CSV file."""
REPORT_DAY, REPORT_HOUR = Phrase("day"), Phrase("hour")
"""Titles of the first column of the other one."""
REPORT_POST = Phrase("Post here", longest=BUTTON)
REPORT_NO_CHART = Phrase("The chart could not be drawn this time. Try again in a minute.")
REPORT_CHART = Phrase("Chart: {amount} by time and by model, and the members who spent most.")
"""For who cannot see it."""

# What stands in the chart has little room.
CHART_HOURS = Phrase("By hour")
CHART_DAYS = Phrase("By day")
CHART_MEMBERS = Phrase("Top members")
CHART_OTHER_MODELS = Phrase("Other models")
CHART_SOMEBODY = Phrase("Member …{digits}")
"""The last digits of the id, when Discord tells no name."""
CHART_WEEKDAYS = (
    Phrase("Mon {day}"),
    Phrase("Tue {day}"),
    Phrase("Wed {day}"),
    Phrase("Thu {day}"),
    Phrase("Fri {day}"),
    Phrase("Sat {day}"),
    Phrase("Sun {day}"),
)
"""With the day of the month: 'Mon 5'."""

# -- the record of changes --------------------------------------------------------------------------------------

AUDIT_TITLE = Phrase("Record of changes")
AUDIT_EMPTY = Phrase("No changes on record.")
AUDIT_ACTIONS = {
    "set": Phrase("{who} set the limit of {subject}"),
    "set default": Phrase("{who} set the limit of everybody else"),
    "set server": Phrase("{who} set the cap of the whole server"),
    "clear": Phrase("{who} removed the limit of {subject}"),
    "grant": Phrase("{who} granted an extra to {subject}"),
    "reset": Phrase("{who} reset the spending of {subject}"),
    "block": Phrase("{who} blocked {subject}"),
    "unblock": Phrase("{who} unblocked {subject}"),
    "cancel": Phrase("{who} wanted a picture of {subject} cancelled"),
    "time_zone": Phrase("{who} changed the time zone"),
    "channels": Phrase("{who} changed where pictures are made"),
    "models": Phrase("{who} changed which models may be used"),
    "age_restricted": Phrase("{who} changed which models need an age-restricted channel"),
    "words": Phrase("{who} changed the word list"),
    "default_model": Phrase("{who} changed the default model"),
    "log_channel": Phrase("{who} changed the log channel"),
    "language": Phrase("{who} changed the language"),
}
