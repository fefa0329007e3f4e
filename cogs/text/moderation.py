"""Words that moderators read in /settings, /jobs and their log channel."""

from __future__ import annotations

from bot.domain.money.quota import Period
from bot.domain.policy import Layer, Verdict
from cogs.text import formatting
from cogs.text.locale import (
    MAX_BUTTON_CHARACTERS,
    MAX_CHOICE_CHARACTERS,
    MAX_MODAL_CHARACTERS,
    MAX_PLACEHOLDER_CHARACTERS,
    Phrase,
    Plural,
)

# -- settings ---------------------------------------------------------------------------------------------------

TITLE = Phrase("Server settings")
SET_BY_MODERATORS = Phrase("Set by moderators")
BOT_DEFAULT = Phrase("The bot's defaults")

FIRST_TITLE = Phrase("**What to decide first**")
FIRST_NOTE = Phrase("Everything works already, with safe defaults. Worth a minute:")
FIRST_STEPS = (
    Phrase("1. How much may a member spend? `/quota default`"),
    Phrase("2. How much may the whole server spend? `/quota server`"),
    Phrase("3. Where can images be ordered? `/settings channels`"),
    Phrase("4. See every image in one place? `/settings log-channel`"),
    Phrase("5. When does a new day begin? `/settings time-zone`"),
)

CHANNELS = Phrase("Channels")
MODELS = Phrase("Models")
DEFAULT_MODEL = Phrase("Default model")
LOG_CHANNEL = Phrase("Log channel")
SHOWCASE = Phrase("Showcase")
REVIEW = Phrase("Review")
SPOILERS = Phrase("Spoilers")
LANGUAGE = Phrase("Language")
TIME_ZONE = Phrase("Time zone")
WORDS = Phrase("Word list")
AGE_RESTRICTED = Phrase("Age-restricted only")
NO_MODELS = Phrase("no model")
NO_WORDS = Phrase("empty")
WORDS_COUNTED = Plural("{count} word", "{count} words")
QUOTA = Phrase("Quota")
QUOTA_NOW = Phrase("{quota}, next reset {when}")
CAP = Phrase("Server cap")
ROLE_LIMITS = Phrase("Role limits")
CHANNEL_CAPS = Phrase("Channel caps")
WEEKLY_REPORT = Phrase("Weekly report")
WELCOME_MESSAGE = Phrase("Welcome message")

EVERYWHERE = Phrase("everywhere")
ONLY_IN = Phrase("only in {allowed}")
NOT_IN = Phrase("not in {denied}")
ONLY_IN_NOT_IN = Phrase("only in {allowed}, not in {denied}")
ALL_MODELS = Phrase("all {total}")
SOME_MODELS = Plural(
    "{allowed} of {total} for everybody, {count} rule", "{allowed} of {total} for everybody, {count} rules"
)
LINE = Phrase("**{name}:** {value} · `{command}`")

ASKED_FOR = Phrase("**{member} in {channel}**")
MAY_ORDER = Phrase("✅ Can order here: {why}")
MAY_NOT_ORDER = Phrase("🚫 Can't order here: {why}")
NO_MODEL_HERE = Phrase("no model can be used in this channel")
MAY_USE = Phrase("✅ Can use {model}: {why}")
MAY_NOT_USE = Phrase("🚫 Can't use {model}: {why}")
NEEDS_AGE_RESTRICTED = Phrase("🚫 {model} works only in age-restricted channels, and this one is not")

CHANNEL_LAYERS = {
    Layer.NOTHING_SET: Phrase("no rule forbids it"),
    Layer.CHANNEL: Phrase("there is a rule for {channel}"),
    Layer.PARENT: Phrase("there is a rule for {channel}, which contains it"),
    Layer.NOT_LISTED: Phrase("this channel isn't on the allowed list"),
}
MODEL_LAYERS = {
    Layer.NOTHING_SET: Phrase("no rule forbids it"),
    Layer.ROLE: Phrase("there is a rule `{pattern}` for {role}"),
    Layer.EVERYBODY: Phrase("there is a rule `{pattern}` for everybody"),
    Layer.OTHER_ROLES: Phrase("it is allowed for other roles only"),
    Layer.NOT_LISTED: Phrase("this model isn't on the allowed list"),
}

FOR_ROLE = Phrase("{name} for {role}")
MORE = Plural("… and {count} more", "… and {count} more")

CHANNELS_ONLY_IN = Phrase("Images can be ordered only in {allowed}.")
CHANNELS_NOT_IN = Phrase("Images can be ordered everywhere except in {denied}.")
CHANNELS_ONLY_IN_NOT_IN = Phrase("Images can be ordered only in {allowed}, not in {denied}.")
CHANNELS_EMPTY = Phrase(
    "No rules: images can be ordered in every channel. Allow one, and they can be ordered only in allowed ones; deny "
    "one, and they can be ordered in all others."
)
CHANNELS_HINT = Phrase("-# A category counts for its channels, a channel for its threads; the closest rule wins.")
MODELS_EMPTY = Phrase(
    "No rules: everybody may use every model. Allow one, and only allowed ones can be used; deny one, and all others "
    "can. With a `role` the rule is about its members."
)
MODELS_HINT = Phrase(
    "-# A rule for a role beats one for everybody; an exact id beats a pattern such as `krea/openai/*`."
)
WORDS_EMPTY = Phrase("The word list is empty.")
WORDS_HINT = Phrase(
    "-# Whole words, in any case. `*` stands for any letters, `?` for one: `blood*`. Several: `a, b, c`."
)
AGE_EMPTY = Phrase("Every model works in every channel. Discord's own rules for adult content apply all the same.")

ACTION_FIRST = Phrase("Choose an `action`: what to do with it.")
NAME_CHANNEL = Phrase("Choose the `channel`.")
NAME_MODEL = Phrase(
    "Choose the `model`: one from the list that appears as you type, or a pattern such as `krea/openai/*`."
)
NAME_WORDS = Phrase("Write the `words`, with commas between them: `gore, blood*`.")
NOT_A_WORD = Phrase(
    "`{word}` cannot go on the list: each word of an entry needs a letter or digit. At most {characters} characters, "
    "{words} words and {wildcards} wildcards (`*`, `?`) fit."
)
NO_MODEL_MATCHES = Phrase(
    "No model matches `{pattern}`. Patterns look like `krea/openai/*`; pick one from the list that appears as you type."
)
UNCHANGED = Phrase("Nothing changed. This applies already:")
CHANGED = Phrase("Done. This applies now:")
DEFAULT_NOT_ALLOWED = Phrase(
    "⚠️ Commands that name no model use **{model}**, which not everybody may use now. "
    "Choose another with `/settings default-model`."
)

DEFAULT_MODEL_SET = Phrase("Commands that name no model use **{model}** (set by moderators).")
DEFAULT_MODEL_OF_BOT = Phrase("Commands that name no model use **{model}** (the bot's default).")
DEFAULT_MODEL_UNAVAILABLE = Phrase(
    "{model} cannot be the default here. Pick one from the list that appears as you type."
)
DEFAULT_MODEL_FORBIDDEN = Phrase(
    "Not everybody may use {model} everywhere here, so it cannot be the default. Allow it first with `/settings "
    "models` or `/settings age-restricted`, or pick another one."
)
EITHER = Phrase("Give a new value or `clear`, not both.")

LOG_IS = Phrase("Every finished order is posted in {channel}. Private ones without prompt and image.")
LOG_IS_OFF = Phrase(
    "Finished orders are not logged. Choose a `channel` to see each with image, member, prompt and price."
)
LOG_AUDIENCES = {
    "everybody": Phrase(
        "⚠️ Everybody can read {channel}: they see each member's prompts and images there. Choose a channel that only "
        "moderators see, unless you want that."
    ),
    "members_who_order": Phrase(
        "⚠️ Images are ordered in {channel} too: its members see each other's prompts and images there a second time. "
        "Choose a channel that only moderators see, unless you want that."
    ),
}
LOG_UNKNOWN_CHANNEL = Phrase("I cannot see {channel}. Let me view it, or choose another channel.")
LOG_PERMISSIONS = Phrase("In {channel} I need: **{permissions}**. Grant me that there, then use this command again.")
LOG_REFUSED = Phrase(
    "Discord did not let me post in {channel}, so the log stays as it was. Check my permissions there."
)
LOG_HELLO = Phrase(
    "From now on every finished order of this server is posted here. Change it with `/settings log-channel`."
)
LOG_WARNING = Phrase("⚠️ I need {permissions} there")
TAKES_NO_MESSAGES = Phrase("⚠️ nothing can be posted there: choose another channel")
CHANNEL_NOT_FOUND = Phrase("⚠️ I do not find it: it is deleted, hidden from me or an archived thread")
LOG_PRIVATE = Phrase("private, so without prompt and image")
PERMISSIONS = {
    "view_channel": Phrase("View Channel"),
    "send_messages": Phrase("Send Messages"),
    "send_messages_in_threads": Phrase("Send Messages in Threads"),
    "attach_files": Phrase("Attach Files"),
}

WEEKLY_IS = Phrase(
    "Every week's spending is posted in {channel}, with a chart, when the week ends in the server's time zone."
)
WEEKLY_IS_OFF = Phrase("No weekly report is posted. Choose a `channel` to get one.")
SHOWCASE_IS = Phrase("Members can share finished images in {channel} with the Share button under them.")
SHOWCASE_STARS = Phrase("It takes {needed} members who press Share, or one moderator.")
SHOWCASE_IS_OFF = Phrase("Images cannot be shared here. Choose a `channel` to show them in.")
REVIEW_IS_OFF = Phrase(
    "No images are reviewed. Add a `channel`, `role` or `model` whose images moderators see before everybody else, "
    "and choose the `review_channel`."
)
REVIEW_NAMES_NOTHING = Phrase(
    "Nothing is reviewed yet; the review channel is {channel}. Add a `channel`, `role` or `model` whose images "
    "moderators see before everybody else."
)
REVIEW_IS = Phrase("Moderators see these images in {channel} before everybody else, and approve or refuse them:")
REVIEW_HINT = Phrase(
    "-# For orders from now on. A refused image is charged all the same. Private orders are not reviewed, and cannot "
    "be shared."
)
REVIEW_WAITING = Plural("{count} order waits for a decision.", "{count} orders wait for a decision.")
REVIEW_IN_SHORT = Phrase("in {channel}")
NAME_REVIEW = Phrase("Choose a `channel`, a `role` or a `model`.")
NAME_REVIEW_CHANNEL = Phrase("Choose the `review_channel` too: where moderators see the images first.")
REVIEW_AUDIENCE = Phrase(
    "⚠️ Everybody can read {channel}, so everybody sees the images before they are reviewed. Choose a channel that only "
    "moderators see."
)
SPOILERS_ARE_OFF = Phrase(
    "Images are not covered in any channel. Add a `channel` to cover its images until they are clicked."
)
SPOILERS_HINT = Phrase("-# For orders from now on. A category counts for its channels, a channel for its threads.")
WELCOME_IS_ON = Phrase("When I join this server, I introduce myself once.")
WELCOME_IS_OFF = Phrase("When I join this server, I say nothing.")

WELCOME = Phrase(
    "### Hello, I make images\n"
    "Describe one with `/imagine`, or change an attached one with `/edit`. `/help` shows everything else.\n"
    "**Who pays:** my operator, not the members. Each member may use up to {quota}, and this server up to {cap} a day."
)
WELCOME_FIRST = Phrase("**For moderators to decide first** (`/settings show` lists everything):")
WELCOME_OFF = Phrase("-# `/settings welcome` turns this message off.")
LANGUAGE_NOW = Phrase("{language}, as in Discord")
LANGUAGE_SET = Phrase("Public cards and the log are in **{language}** (set by moderators).")
LANGUAGE_OF_DISCORD = Phrase("Public cards and the log are in **{language}**, like this server in Discord.")
LANGUAGE_HINT = Phrase("-# Private answers are in the language of each member's own Discord.")

ZONE_IS = {
    Period.DAY: Phrase(
        "Days, weeks and months begin at midnight in **{zone}**. The next day begins {when} ({exactly})."
    ),
    Period.WEEK: Phrase(
        "Days, weeks and months begin at midnight in **{zone}**. The next week begins {when} ({exactly})."
    ),
    Period.MONTH: Phrase(
        "Days, weeks and months begin at midnight in **{zone}**. The next month begins {when} ({exactly})."
    ),
}
ZONE_UNKNOWN = Phrase("There is no time zone `{zone}`. Type a city such as `Berlin` and pick one from the list.")
ZONE_NOW = Phrase("{zone} · {time} now", longest=MAX_CHOICE_CHARACTERS)

# -- jobs -------------------------------------------------------------------------------------------------------

JOBS_TITLE = Phrase("Jobs in this server")
JOBS_RUNNING = Phrase("**In progress**")
JOBS_RECENT = Phrase("**Recent**")
JOBS_NONE = Phrase("Nothing yet.")
JOBS_NONE_RUNNING = Phrase("Nothing is in progress.")
JOBS_PRIVATE = Phrase("private")
JOBS_MORE_RUNNING = Phrase("More in progress", longest=MAX_BUTTON_CHARACTERS)
JOBS_DELETED = Phrase("deleted")
DELETE_CHOICE = Phrase("Delete one of these …", longest=MAX_PLACEHOLDER_CHARACTERS)
CANCEL_CHOICE = Phrase("Cancel one of these …", longest=MAX_PLACEHOLDER_CHARACTERS)
CANCEL_TITLE = Phrase("Cancel a job", longest=MAX_MODAL_CHARACTERS)
CANCEL_REASON = Phrase("Why? The member reads this.", longest=MAX_MODAL_CHARACTERS)
NO_REASON = Phrase("no reason given")
CANCEL_GONE = Phrase("That job has ended in the meantime.")
CANCELLED_FOR_MEMBER = Phrase("Cancelled. The member is not charged and reads your reason.")
CANCEL_UNDER_WAY = Phrase(
    "I asked the image service to stop. If it does, the member is not charged and reads your reason."
)


def channel_layer(verdict: Verdict) -> str:
    """Return why a channel is allowed or not."""
    return CHANNEL_LAYERS[verdict.layer](channel=f"<#{verdict.channel_id}>")


def model_layer(verdict: Verdict) -> str:
    """Return why a model is allowed or not."""
    rule = verdict.rule
    pattern = formatting.inline(rule.pattern) if rule else ""
    return MODEL_LAYERS[verdict.layer](pattern=pattern, role=f"<@&{rule.role_id}>" if rule else "")
