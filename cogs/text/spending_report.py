"""Words of /quota report: its page, its CSV files and its chart."""

from __future__ import annotations

from bot.domain.money.quota import Period
from cogs.text.locale import MAX_BUTTON_CHARACTERS, Phrase, Plural

REPORT_TITLES = {
    Period.DAY: Phrase("Spending today"),
    Period.WEEK: Phrase("Spending this week"),
    Period.MONTH: Phrase("Spending this month"),
}
WEEK_TITLE = Phrase("Spending in the week from {start}")
REPORT_EMPTY = Phrase("Nothing was spent.")
REPORT_TOTAL = Plural(
    "**{amount}** for {count} image, from {start} to {end}",
    "**{amount}** for {count} images, from {start} to {end}",
)
REPORT_FROM_WALLETS = Phrase("Members paid **{amount}** of it from their own wallets.")
REPORT_MEMBERS = Phrase("By member")
REPORT_MODELS = Phrase("By model")
REPORT_CHANNELS = Phrase("By channel")
REPORT_NO_CHANNEL = Phrase("channel not recorded")
"""Of orders from before channels were recorded."""
REPORT_MORE = Plural("… and {count} more, all in the CSV file.", "… and {count} more, all in the CSV file.")
REPORT_WHO_AND_WHERE = (Phrase("member_id"), Phrase("member"), Phrase("channel_id"), Phrase("channel"))
REPORT_COLUMNS = (Phrase("model"), Phrase("images"), Phrase("spent_usd"))
"""Titles of the columns of the CSV file."""
REPORT_WALLET_COLUMN = Phrase("from_wallet_usd")
"""Title of the last column: what of the amount the member's own wallet paid."""
REPORT_DAY, REPORT_HOUR = Phrase("day"), Phrase("hour")
"""Titles of the first column of the other one."""
REPORT_POST = Phrase("Post here", longest=MAX_BUTTON_CHARACTERS)
REPORT_NO_CHART = Phrase("The chart could not be drawn this time. Try again in a minute.")
REPORT_CHART = Phrase("Chart: {amount} by time and by model, and the members who spent most.")
"""For who cannot see it."""

# Texts in the chart, where space is small.
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
