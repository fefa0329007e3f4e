"""Words of /help, /history and /privacy."""

from __future__ import annotations

from cogs.text.locale import MAX_BUTTON_CHARACTERS, Phrase

# -- help ---------------------------------------------------------------------------------------------------

HELP_TITLE = Phrase("What I can do for you")
HELP_MENU = Phrase("`{name}` — right-click or hold a message, then Apps")
HELP_MODERATORS = Phrase("**For moderators**")
HELP_FIRST = Phrase("Start with `/settings show`: it lists what to decide first.")
HELP_BOOSTERS = Phrase(
    "Server boosters are a role: `/quota role role:@Server Booster` gives them a limit of their own."
)
HELP_NOT_HERE = Phrase("Images can't be ordered in this channel.")
HELP_ELSEWHERE = Phrase("Images can't be ordered in this channel, only in {channels}.")
HELP_DIRECT = Phrase("Images can be ordered in servers, not in direct messages.")
HELP_OWN_ACCOUNT = Phrase(
    "Here you order with an account of your own: {quota}, wherever you are. Only you see the answers unless you ask "
    "otherwise, and no server's rules or money count."
)
HELP_ADD_APP = Phrase(
    "To order images here, add me yourself: open my profile, press **Add App**, and choose **Add to My Apps**."
)

# -- history ------------------------------------------------------------------------------------------------

HISTORY_TITLE = Phrase("🖼️ Your images · {number} of {total}")
HISTORY_TITLE_OF_MANY = Phrase("🖼️ Your images · {number} of many")
HISTORY_TITLE_FAR_BACK = Phrase("🖼️ Your images · far back")
HISTORY_EMPTY = Phrase("You have no images here yet. Try `/imagine`.")
HISTORY_NONE_OF_MODEL = Phrase("You have no images made with `{model}` here.")
HISTORY_NONE_WITH_WORDS = Phrase(
    "You have no images here with `{words}` in their prompt. Prompts are kept for 30 days."
)
HISTORY_NO_FAVOURITES = Phrase("You have no favourites here yet. Press ☆ Favourite under an image in `/history`.")
HISTORY_PAGE_GONE = Phrase("That page is gone. Use `/history` again.")
HISTORY_NOT_YOURS = Phrase("These are somebody else's images. Use `/history` for your own.")
HISTORY_PICTURE_GONE = Phrase(
    "This image is gone: its message was deleted, or I cannot see it, and I no longer have a copy."
)
HISTORY_UNREACHABLE = Phrase("Discord is not giving out this image right now. Try again in a minute.")

# -- privacy ------------------------------------------------------------------------------------------------

EXPORT_ABOUT = Phrase(
    "Everything this bot keeps about you, from all servers, as it was at the time in exported_at; what was erased "
    "while this file was written is left out. Times are UTC. Amounts are exact in micro-dollars "
    "(1 USD = 1,000,000) and repeated in dollars. Images are named by the SHA-256 of their content; /history shows "
    "them. Left out: credentials, and who else is named in the audit log."
)
EXPORT_READY = Phrase("### Your data\nEverything kept about you, from all servers. Only you can see this message.")
EXPORT_TOO_LARGE = Phrase("Your data does not fit into one file here. Ask the operator of this bot for it.")
OUTSIDE_SERVERS_ONLY = Phrase("outside servers only")
ERASE_ASK = Phrase(
    "### Erase your data?\n"
    "**This goes**, from all servers and for good: your prompts and options, the images kept for you, the copies "
    "in other channels, and that it was you who asked ({commands}, {images}, {servers}).\n"
    "**This stays:**\n"
    "- Your messages in Discord. If an image should go, press Delete under it first; afterwards its buttons "
    "stop working.\n"
    "- The amounts in the ledger, without your name. What you spent stays linked to you until the month is over, so "
    "that your quota does not start over.\n"
    "- Limits and blocks that moderators set for you.\n"
    "- Who changed what and why, where you acted as a moderator or it was about you, until it is 90 days old.\n"
    "-# `/privacy export` gives you a copy first."
)
ERASE = Phrase("Erase my data", longest=MAX_BUTTON_CHARACTERS)
ERASE_NOT = Phrase("Keep it", longest=MAX_BUTTON_CHARACTERS)
ERASE_KEPT = Phrase("Nothing was erased.")
ERASE_DONE = Phrase(
    "Your data has been erased. Your messages in Discord are still there, their copies in other channels are being "
    "deleted; the amounts in the ledger lose their last link to you when the month is over."
)
ERASE_STALE = Phrase("This question is too old. Nothing was erased; use `/privacy delete` again.")
