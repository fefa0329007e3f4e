"""Words of /quota audit, the record of changes."""

from __future__ import annotations

from bot.domain.audit import Amount, AuditEntry, Channel, Fact, Language, Limit, Models, Name, Role, Standing
from bot.domain.money.quota import format_usd
from cogs.text.formatting import inline
from cogs.text.locale import LANGUAGES, Phrase
from cogs.text.moderation import FOR_ROLE
from cogs.text.spending import NOT_SET, PER_PERIOD, UNLIMITED

AUDIT_TITLE = Phrase("Audit log")
AUDIT_EMPTY = Phrase("No changes yet.")
AUDIT_ACTIONS = {
    "set": Phrase("{who} set the limit of {subject}"),
    "set default": Phrase("{who} set the limit of everybody else"),
    "set channel": Phrase("{who} set the cap of {subject}"),
    "clear channel": Phrase("{who} removed the cap of {subject}"),
    "set server": Phrase("{who} set the cap of the whole server"),
    "clear": Phrase("{who} removed the limit of {subject}"),
    "grant": Phrase("{who} granted an extra to {subject}"),
    "reset": Phrase("{who} reset the spending of {subject}"),
    "block": Phrase("{who} blocked {subject}"),
    "unblock": Phrase("{who} unblocked {subject}"),
    "cancel": Phrase("{who} cancelled an image of {subject}"),
    "delete": Phrase("{who} deleted an image of {subject}"),
    "time_zone": Phrase("{who} changed the time zone"),
    "channels": Phrase("{who} changed where images can be ordered"),
    "models": Phrase("{who} changed which models can be used"),
    "age_restricted": Phrase("{who} changed which models need an age-restricted channel"),
    "words": Phrase("{who} changed the word list"),
    "presets": Phrase("{who} changed the presets"),
    "default_model": Phrase("{who} changed the default model"),
    "log_channel": Phrase("{who} changed the log channel"),
    "language": Phrase("{who} changed the language"),
    "weekly_report": Phrase("{who} changed where the weekly report is posted"),
    "showcase": Phrase("{who} changed where images are shared"),
    "review_channel": Phrase("{who} changed where moderators review images"),
    "review": Phrase("{who} changed what moderators review"),
    "approve": Phrase("{who} approved an image of {subject}"),
    "refuse": Phrase("{who} refused an image of {subject}"),
    "spoilers": Phrase("{who} changed where images are covered"),
    "showcase_stars": Phrase("{who} changed how many members it takes to share an image"),
    "welcome": Phrase("{who} changed whether I introduce myself"),
}

STANDINGS = {
    Standing.NOT_SET: NOT_SET,
    Standing.LISTED: Phrase("listed"),
    Standing.NOT_LISTED: Phrase("not listed"),
    Standing.ALLOWED: Phrase("allowed"),
    Standing.DENIED: Phrase("denied"),
    Standing.BLOCKED: Phrase("blocked"),
    Standing.NOT_BLOCKED: Phrase("not blocked"),
    Standing.ON: Phrase("on"),
    Standing.OFF: Phrase("off"),
}


def change(entry: AuditEntry) -> str:
    """Return the old and the new value: `$1.00 per day → unlimited`, `<#11> not listed → denied`."""
    values = " → ".join(_value(fact) for fact in (entry.old_value, entry.new_value) if fact is not None)
    return values if entry.topic is None else f"{_value(entry.topic)} {values}"


def _value(fact: Fact) -> str:
    """Return the text of an old or a new value."""
    match fact:
        case Standing():
            return STANDINGS[fact]()
        case Limit():
            return _limit(fact)
        case Amount():
            return format_usd(fact.amount_usd_micros)
        case Channel():
            return f"<#{fact.channel_id}>"
        case Role():
            return f"<@&{fact.role_id}>"
        case Models():
            return _models(fact)
        case Name():
            return f"`{inline(fact.name)}`"
        case Language():
            return LANGUAGES.get(fact.tag, fact.tag)


def _limit(fact: Limit) -> str:
    if fact.amount_usd_micros is None:
        return UNLIMITED()
    return PER_PERIOD[fact.period](amount=format_usd(fact.amount_usd_micros))


def _models(fact: Models) -> str:
    pattern = f"`{inline(fact.pattern)}`"
    return pattern if fact.role_id is None else FOR_ROLE(name=pattern, role=f"<@&{fact.role_id}>")
