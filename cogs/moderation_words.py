"""What moderators read in /settings, /jobs and their log, and everybody in /help and in warnings. Words only."""

from __future__ import annotations

from bot.policy import Layer, Verdict
from bot.quota import Balance, Cap, format_usd
from cogs import words

# -- settings ---------------------------------------------------------------------------------------------------

TITLE = "Settings of this server"
SET_BY_MODERATORS = "Set by moderators"
BOT_DEFAULT = "The bot's defaults"
NOT_SET = "not set"

FIRST_TITLE = "**What to decide first**"
FIRST_NOTE = "Everything works already, with safe defaults. Worth a minute:"
FIRST_STEPS = (
    "1. How much may a member spend? `/quota default`",
    "2. How much may the whole server spend? `/quota server`",
    "3. In which channels are pictures made? `/settings channels`",
    "4. See every picture in one place? `/settings log-channel`",
    "5. When does a new day begin? `/settings time-zone`",
)

CHANNELS = "Channels"
MODELS = "Models"
DEFAULT_MODEL = "Default model"
LOG_CHANNEL = "Log channel"
TIME_ZONE = "Time zone"
WORDS = "Word list"
AGE_RESTRICTED = "Age-restricted only"
NO_MODELS = "no model"
NO_WORDS = "empty"
QUOTA = "Quota"
QUOTA_NOW = "{quota}, next reset {when}"
CAP = "Cap of the server"

EVERYWHERE = "everywhere"
ONLY_IN = "only in {channels}"
NOT_IN = "not in {channels}"
ALL_MODELS = "all {total}"
SOME_MODELS = "{allowed} of {total} for everybody, {rules}"
LINE = "**{name}:** {value} · `{command}`"

ASKED_FOR = "**{member} in {channel}**"
MAY_ORDER = "✅ May order here: {why}"
MAY_NOT_ORDER = "🚫 May not order here: {why}"
MAY_USE = "✅ May use {model}: {why}"
MAY_NOT_USE = "🚫 May not use {model}: {why}"
NEEDS_AGE_RESTRICTED = "🚫 {model} works only in age-restricted channels, and this is none"

CHANNEL_LAYERS = {
    Layer.NOTHING_SET: "nothing is set that would forbid it",
    Layer.CHANNEL: "there is a rule for {channel}",
    Layer.AROUND: "there is a rule for {channel}, which it lies in",
    Layer.NOT_LISTED: "only the allowed channels count, and it is none of them",
}
MODEL_LAYERS = {
    Layer.NOTHING_SET: "nothing is set that would forbid it",
    Layer.ROLE: "there is a rule `{pattern}` for {role}",
    Layer.EVERYBODY: "there is a rule `{pattern}` for everybody",
    Layer.OTHER_ROLES: "it is allowed for other roles only",
    Layer.NOT_LISTED: "only the allowed models count, and it is none of them",
}

ALLOWED = "✅ {name}"
DENIED = "🚫 {name}"
FOR_ROLE = "{name} for {role}"
MORE = "… and {count} more"

CHANNELS_NOW = "Pictures are made {where}."
CHANNELS_EMPTY = (
    "No rules: pictures are made in every channel. Allow one, and they are made in allowed ones only; "
    "deny one, and they are made in all others."
)
CHANNELS_HINT = "-# A category counts for its channels, a channel for its threads; the closest rule wins."
MODELS_EMPTY = (
    "No rules: everybody may use every model. Allow one, and only allowed ones can be used; deny one, and all others "
    "can. With a `role` the rule is about its members."
)
MODELS_HINT = "-# A rule for a role beats one for everybody; an exact id beats a pattern such as `krea/openai/*`."
WORDS_EMPTY = "The word list is empty."
WORDS_HINT = "-# Whole words, in any case. `*` stands for any letters, `?` for one: `blood*`. Several: `a, b, c`."
AGE_EMPTY = "Every model works in every channel. Discord's own rules for adult content apply all the same."

ACTION_FIRST = "Say what to do with it: choose an `action`."
NAME_CHANNEL = "Name the `channel`."
NAME_MODEL = "Name the `model`: one that is offered while you type, or a pattern such as `krea/openai/*`."
NAME_WORDS = "Write the `words`, with commas between them: `gore, blood*`."
NOT_A_WORD = "`{word}` cannot go on the list: an entry needs a letter or digit, and at most 60 characters."
NO_MODEL_MATCHES = (
    "No model matches `{pattern}`. Patterns look like `krea/openai/*`; pick one of those offered while you type."
)
UNCHANGED = "Nothing changed; this was in force already:"
CHANGED = "Done. In force now:"
DEFAULT_NOT_ALLOWED = (
    "⚠️ Commands that name no model use **{model}**, which not everybody may use now. "
    "Choose another with `/settings default-model`."
)

DEFAULT_MODEL_IS = "Commands that name no model use **{model}** ({layer})."
DEFAULT_SET = "set by moderators"
DEFAULT_OF_BOT = "the bot's default"
DEFAULT_MODEL_UNAVAILABLE = "{model} cannot be the default here. Pick one that is offered while you type."
DEFAULT_MODEL_FORBIDDEN = (
    "Not everybody may use {model} everywhere here, so it cannot be the default. Allow it first with `/settings "
    "models` or `/settings age-restricted`, or pick another one."
)
EITHER = "Give a new value or `clear`, not both."

LOG_IS = "Every finished order is posted in {channel}. Private ones without prompt and picture."
LOG_IS_OFF = "Finished orders are not logged. Name a `channel` to see each with picture, member, prompt and price."
LOG_UNKNOWN_CHANNEL = "I cannot see {channel}. Let me view it, or name another channel."
LOG_PERMISSIONS = "In {channel} I lack: **{permissions}**. Give me that there, then use this command again."
LOG_REFUSED = "Discord did not let me post in {channel}, so the log stays as it was. Check my permissions there."
LOG_HELLO = "From now on every finished order of this server is posted here. Change it with `/settings log-channel`."
LOG_WARNING = "⚠️ I lack {permissions} there"
LOG_PRIVATE = "private, so without prompt and picture"
PERMISSIONS = {
    "view_channel": "View Channel",
    "send_messages": "Send Messages",
    "send_messages_in_threads": "Send Messages in Threads",
    "attach_files": "Attach Files",
}

ZONE_IS = "Days, weeks and months begin at midnight in **{zone}**. The next {period} begins {when} ({exactly})."
ZONE_UNKNOWN = "There is no time zone `{zone}`. Type a city such as `Berlin` and pick one that is offered."

# -- warnings ---------------------------------------------------------------------------------------------------


def member_warning(balance: Balance) -> str:
    """For a member, once in a window."""
    limit = balance.limit_usd_micros or 0
    left = format_usd(balance.available_usd_micros or 0)
    return (
        f"You have used {_percent(balance.used_usd_micros, limit)} of your quota: {left} of {format_usd(limit)} left. "
        f"It resets {words.moment(balance.window.end)}."
    )


def server_warning(cap: Cap) -> str:
    """For the moderators' log, once in a window."""
    limit = cap.quota.amount_usd_micros or 0
    left = format_usd(cap.available_usd_micros or 0)
    return (
        f"This server has used {_percent(cap.used_usd_micros, limit)} of its cap: {left} of "
        f"{words.quota(cap.quota)} left. It resets {words.moment(cap.window.end)}. Change it with `/quota server`."
    )


def operator_warning(cap: Cap) -> str:
    """For the operator, once a day. Plain text."""
    limit = cap.quota.amount_usd_micros or 0
    return (
        f"All servers together have used {_percent(cap.used_usd_micros, limit)} of today's cap of {format_usd(limit)} "
        "(OPERATOR_DAILY_CAP_USD). At the cap no new orders are taken until midnight UTC."
    )


def _percent(used: int, limit: int) -> str:
    return f"{used * 100 // limit} %" if limit else "all"


# -- jobs -------------------------------------------------------------------------------------------------------

JOBS_TITLE = "Jobs of this server"
JOBS_RUNNING = "**Under way**"
JOBS_RECENT = "**Recent**"
JOBS_NONE = "Nothing yet."
JOBS_NONE_RUNNING = "Nothing is under way."
JOBS_PRIVATE = "private"
JOBS_MORE_RUNNING = "More under way"
JOBS_COUNT = "{count} ×"
CANCEL_CHOICE = "Cancel one of these …"
CANCEL_TITLE = "Cancel a job"
CANCEL_REASON = "Why? The member reads this."
NO_REASON = "no reason given"
CANCEL_GONE = "That job has ended in the meantime."
CANCELLED_FOR_MEMBER = "Cancelled. The member is not charged and reads your reason."
CANCEL_UNDER_WAY = "I asked the image service to stop. If it does, the member is not charged and reads your reason."

# -- help -------------------------------------------------------------------------------------------------------

HELP_TITLE = "What I can do for you"
HELP_LINE = "`/{name}` — {description}"
HELP_MENU = "`{name}` — right-click or hold a message, then Apps"
HELP_MODERATORS = "**For moderators**"
HELP_NOT_HERE = "Pictures are not made in this channel{where}."
HELP_WHERE = ", but in {channels}"
HELP_DIRECT = "Pictures are made in servers, not in direct messages."


def rules_counted(count: int) -> str:
    """'1 rule', '3 rules'."""
    return words.counted(count, "rule")


def channel_layer(verdict: Verdict) -> str:
    """Why a channel is allowed or not."""
    return CHANNEL_LAYERS[verdict.layer].format(channel=f"<#{verdict.channel_id}>")


def model_layer(verdict: Verdict) -> str:
    """Why a model is allowed or not."""
    rule = verdict.rule
    pattern = words.inline(rule.pattern) if rule else ""
    return MODEL_LAYERS[verdict.layer].format(pattern=pattern, role=f"<@&{rule.role_id}>" if rule else "")
