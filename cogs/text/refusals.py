"""Words for what is refused or fails: what is wrong, what it would have cost, and what would work."""

from __future__ import annotations

from bot.domain.constraints import AtMostImages, Text
from bot.domain.errors import (
    AskedTooOften,
    BadOption,
    ChannelCapReached,
    DearerThanAgreed,
    DirectBusy,
    DuplicateCommand,
    LimitFacts,
    ListFull,
    ManyAsking,
    MemberBlocked,
    MemberCostReached,
    ModelUnavailable,
    NotAllowedHere,
    OperatorCapReached,
    OperatorCostCapReached,
    OperatorDirectCapReached,
    OperatorServerCapReached,
    ProviderPaused,
    QuotaExceeded,
    RequestRefused,
    SameModelTwice,
    ServerBusy,
    ServerCapReached,
    StillBusyForYou,
    StillUnderWay,
    TooFast,
    TooManyRunning,
    TooMuchAtRisk,
    UnknownModel,
    UnknownPreset,
    UnusableImage,
)
from bot.domain.money.quota import format_usd
from cogs.text.facts import accepted, unusable
from cogs.text.formatting import MAX_MENTIONS, channel, inline, moment
from cogs.text.job_card import CHECKING
from cogs.text.locale import MAX_BUTTON_CHARACTERS, Phrase, Plural, option_name
from cogs.text.presets import UNKNOWN_PRESET

# -- any request -----------------------------------------------------------------------------------------

SERVER_ONLY = Phrase("This works in a server, not in a direct message.")
BOT_NOT_IN_SERVER = Phrase("This works in a server that has added me, and this one has not.")
DIRECT_NOT_INSTALLED = Phrase(
    "Here you order with an account of your own, for which you add me yourself: open my profile, press **Add App**, "
    "and choose **Add to My Apps**."
)
SERVER_ORDER = Phrase("This was ordered in a server. Order it again there, or use a command here.")
DIRECT_ORDER = Phrase("This was ordered with a member's own account, not in this server. Use a command to order here.")
PRIVATE_BOT = Phrase("This bot is private: it only works in the servers that its operator chose.")
MODERATORS_ONLY = Phrase("You need the Manage Server permission for this.")
BOOKS_UNAVAILABLE = Phrase("I cannot save anything right now, so I ordered nothing. Please try again in a minute.")
UNEXPECTED = Phrase("Something went wrong here. Nothing was ordered. The operator has been told.")
MEMBER_UNKNOWN = Phrase(
    "I cannot find that member or role in this server. Pick one from the list that appears as you type."
)
CHANNEL_UNKNOWN = Phrase("I cannot find that channel in this server. Pick one from the list that appears as you type.")
TEXT_IMPOSSIBLE = Phrase("Your text has a character that cannot be stored. Type it again without that character.")
COMMAND_CHANGED = Phrase("This command has changed since your Discord loaded it. Please reload Discord and try again.")
FORM_CLOSED = Phrase("This form is no longer open, so nothing was done. Open it again.")
SHUTTING_DOWN = Phrase("I am restarting. Please try again in a minute.")
DUPLICATE = Phrase("This command was already accepted.")
LIST_FULL = Phrase("This list is full: it holds {limit} entries. Remove one first.")
STILL_UNDER_WAY = Phrase(
    "You still have orders in progress ({commands}). Wait until they are done, or press Cancel under them, then use "
    "`/privacy delete` again."
)
STILL_CHECKED = Phrase(
    "You still have orders in progress ({commands}). Those that say **{checking}** cannot be cancelled and end "
    "{when} at the latest. Press Cancel under the others, wait until then, then use `/privacy delete` again."
)

# -- what a refusal gives back ----------------------------------------------------------------------------

COPY_PROMPT = Phrase("Copy prompt", longest=MAX_BUTTON_CHARACTERS)
TRY_AGAIN = Phrase("Try again", longest=MAX_BUTTON_CHARACTERS)
ORDER = Phrase("Order", longest=MAX_BUTTON_CHARACTERS)
ORDER_WITHOUT = Phrase("Order without {option}", longest=MAX_BUTTON_CHARACTERS)
ORDER_WITH_MODEL = Phrase("Order with {model}", longest=MAX_BUTTON_CHARACTERS)
ORDER_FEWER = Plural("Order {count} image", "Order {count} images")
ORDER_WITH_INPUTS = Plural("Order with the first image", "Order with the first {count} images")
"""Buttons below a refusal; the price follows each order."""

NOT_KEPT = Phrase("I no longer keep this command. It is in the message above: copy it from there.")

# -- limits -----------------------------------------------------------------------------------------------------

QUOTA_EXCEEDED = Phrase("This costs {asked} and you have {left} left. Your quota resets {when}.")
QUOTA_AND_WALLET_EXCEEDED = Phrase(
    "This costs {asked} and you have {left} left, {wallet} of it in your wallet. You get more {when}."
)
QUOTA_IS_ZERO = Phrase(
    "This costs {asked} and you have {left} left. Your quota here is zero, so waiting does not help."
)
QUOTA_IS_ZERO_WITH_WALLET = Phrase(
    "This costs {asked} and you have {left} left, all of it in your wallet: your quota here is zero."
)
CHEAPER = Phrase("A cheaper model may still fit: `/models` lists them by price.")
SERVER_CAP_REACHED = Phrase("This costs {asked} and this server has {left} left for everybody. Its cap resets {when}.")
CHANNEL_CAP_REACHED = Phrase(
    "This costs {asked} and {channel} has {left} left for everybody. Its cap resets {when}. "
    "Another channel may have more."
)
SERVER_CAP_IS_ZERO = Phrase(
    "This costs {asked} and this server has {left} left for everybody. Its cap is zero, so waiting does not help."
)
CHANNEL_CAP_IS_ZERO = Phrase(
    "This costs {asked} and {channel} has {left} left for everybody: its cap is zero. Another channel may have more."
)
OPERATOR_CAP_REACHED = Phrase("The bot has reached its spending limit for today. Please try again {when}.")
OPERATOR_SERVER_CAP_REACHED = Phrase(
    "This costs {asked} and the bot has {left} left for this server today. More can be ordered {when}."
)
OPERATOR_DIRECT_CAP_REACHED = Phrase(
    "This costs {asked} and the bot has {left} left today for everybody who orders outside servers. "
    "More can be ordered {when}."
)
MEMBER_COST_REACHED = Phrase(
    "Orders of yours failed today, and the bot's operator paid for them instead of you. You can order again {when}."
)
OPERATOR_COST_CAP_REACHED = Phrase(
    "Failed orders, some of them yours, have cost the bot's operator as much as they may today. "
    "You can order again {when}."
)
TOO_MUCH_AT_RISK = Phrase(
    "Some of your orders failed today or are still being checked, so fewer of your images may be in progress at a "
    "time. "
    "Wait until one of them is done, or order fewer at once. This ends {when}."
)
DEARER_THAN_AGREED = Phrase("This costs {amount}, more than was shown before. Nothing has been ordered yet.")
TOO_MANY_RUNNING = Plural(
    "You have {count} image in progress; you can start another once fewer than {limit} are left. Wait or cancel it.",
    "You have {count} images in progress; you can start another once fewer than {limit} are left. Wait or cancel one.",
)
SERVER_BUSY = Plural(
    "This server already has {count} image in progress. Please try again in a while.",
    "This server already has {count} images in progress. Please try again in a while.",
)
DIRECT_BUSY = Plural(
    "Outside servers, {count} image is already in progress. Please try again in a while.",
    "Outside servers, {count} images are already in progress. Please try again in a while.",
)
TOO_FAST = Phrase("That was a lot in one minute. You can order again {when}.")
STILL_BUSY_FOR_YOU = Phrase("I am still working on what you asked for before. Try again when that is done.")
ASKED_TOO_OFTEN = Phrase("That was a lot in a short time. This works again {when}.")
MANY_ASKING = Phrase("Many people are asking for this right now. Please try again {when}.")
MEMBER_BLOCKED = Phrase("A moderator has paused image orders for you in this server.")
PROVIDER_PAUSED = Phrase(
    "This image service is temporarily unavailable. Try again later or pick a model of another one."
)

# -- models and options -----------------------------------------------------------------------------------------

UNKNOWN_MODEL = Phrase("There is no model `{model}`. Pick one from the list that appears as you type.")
DID_YOU_MEAN = {
    1: Phrase("There is no model `{model}`. Did you mean `{first}`?"),
    2: Phrase("There is no model `{model}`. Did you mean `{first}` or `{second}`?"),
    3: Phrase("There is no model `{model}`. Did you mean `{first}`, `{second}` or `{third}`?"),
}
_ORDINALS = ("first", "second", "third")

UNAVAILABLE = {
    "no_price": Phrase(
        "`{model}` cannot be ordered: its price for these options is not known. Pick another model or other options."
    ),
    "no_key": Phrase("`{model}` cannot be ordered here: its image service is not set up. Pick another model."),
    "retired": Phrase("`{model}` has been retired. Pick another model."),
    "gone": Phrase("`{model}` is no longer offered by its image service. Pick another model."),
    "held": Phrase(
        "`{model}` takes no orders for now: its price or its options changed and are being checked. "
        "Pick another model, or try again later."
    ),
    "not_for_this_command": Phrase(
        "`{model}` does not work with this command. Pick one from the list that appears as you type."
    ),
}

HEIR = Phrase("`{model}` cannot be ordered any more. `{heir}` takes its place.")

SAME_MODEL_TWICE = Phrase("{model} is named twice. Choose different models to compare.")
OPTION_UNKNOWN = Phrase("{model} does not take `{option}`. It takes {takes}.")
OPTION_UNKNOWN_NO_OTHER = Phrase("{model} does not take `{option}`. It takes only a prompt.")
OPTION_MISSING = Phrase("{model} needs `{option}`: {accepted}.")
OPTION_INVALID = Phrase("`{option}` does not fit {model}. It takes: {accepted}.")
PROMPT_TOO_SHORT = Plural(
    "Describe the image in at least {count} character.", "Describe the image in at least {count} characters."
)
TAKES_FEWER_IMAGES = Plural(
    "{model} takes only {count} image. Remove `{option}` or pick another model.",
    "{model} takes only {count} images. Remove `{option}` or pick another model.",
)
OTHER_USES = Phrase("Or say in `more` what else it is for: {examples}.")
TAKES_NO_IMAGES = Phrase("{model} takes no images. Remove `{option}` or pick another model.")
FORM_FEWER_IMAGES = Plural(
    "{model} takes only {count} image. Choose just one, or pick another model.",
    "{model} takes only {count} images. Choose fewer, or pick another model.",
)
FORM_NO_IMAGES = Phrase("{model} takes no images. Pick another model.")
OPTION_WRONG_LENGTH = Plural(
    "`{option}` has {count} character. {model} takes: {accepted}.",
    "`{option}` has {count} characters. {model} takes: {accepted}.",
)
OPTION_NOT_WITH = Phrase("{model} takes either `{option}` or `{other}`, not both. Leave one of them out.")

# -- what moderators do not allow -------------------------------------------------------------------------------

CHANNEL_NOT_ALLOWED = Phrase("Images can't be ordered in this channel. Use another one.")
CHANNEL_ALLOWED_ELSEWHERE = Phrase("Images can't be ordered in this channel. Use {channels}.")
MODEL_NOT_ALLOWED = Phrase("{model} may not be used here. Pick one from the list that appears as you type.")
MODEL_FOR_ROLES = Phrase("Here, {model} is only for {roles}. Pick one from the list that appears as you type.")
MODEL_AGE_RESTRICTED = Phrase("Here, {model} works only in age-restricted channels. Go to one, or pick another model.")
MODEL_AGE_RESTRICTED_EVERYWHERE = Phrase(
    "{model} works only in age-restricted channels. Go to one, or pick another model."
)
MODEL_NOT_DIRECT = Phrase(
    "{model} works only in age-restricted channels of servers that have added me. Pick another model."
)
WORD_NOT_WELCOME = Phrase("This server's word list does not allow `{word}`. Leave it out and try again.")
DECIDED_BY_MODERATOR = Phrase("A moderator decided that: `{command}`.")


def refusal(error: RequestRefused, *, is_of_form: bool = False) -> str:
    """Return what is wrong, what it would have cost, and what would work.

    `is_of_form` says that it was typed into a form, where images have no names.
    """
    match error:
        case QuotaExceeded():
            return _quota_exceeded(error)
        case ServerCapReached():
            says = SERVER_CAP_REACHED if error.limit_usd_micros else SERVER_CAP_IS_ZERO
            return says(**_facts(error))
        case ChannelCapReached():
            says = CHANNEL_CAP_REACHED if error.limit_usd_micros else CHANNEL_CAP_IS_ZERO
            return says(channel=channel(error.channel_id), **_facts(error))
        case OperatorCapReached():
            return OPERATOR_CAP_REACHED(when=moment(error.resets_at))
        case OperatorServerCapReached(wallet_usd_micros=wallet) if wallet:
            return QUOTA_AND_WALLET_EXCEEDED(wallet=format_usd(wallet), **_facts(error))
        case OperatorDirectCapReached():
            return OPERATOR_DIRECT_CAP_REACHED(**_facts(error))
        case OperatorServerCapReached():
            return OPERATOR_SERVER_CAP_REACHED(**_facts(error))
        case MemberCostReached():
            return MEMBER_COST_REACHED(when=moment(error.resets_at))
        case OperatorCostCapReached():
            return OPERATOR_COST_CAP_REACHED(when=moment(error.resets_at))
        case TooMuchAtRisk():
            return TOO_MUCH_AT_RISK(when=moment(error.resets_at))
        case DearerThanAgreed():
            return DEARER_THAN_AGREED(amount=format_usd(error.amount_usd_micros))
        case TooManyRunning():
            return TOO_MANY_RUNNING(error.running, limit=error.limit)
        case DirectBusy():
            return DIRECT_BUSY(error.running)
        case ServerBusy():
            return SERVER_BUSY(error.running)
        case TooFast():
            return TOO_FAST(when=moment(error.free_at))
        case StillBusyForYou():
            return STILL_BUSY_FOR_YOU()
        case AskedTooOften():
            return ASKED_TOO_OFTEN(when=moment(error.free_at))
        case ManyAsking():
            return MANY_ASKING(when=moment(error.free_at))
        case MemberBlocked():
            return MEMBER_BLOCKED()
        case UnknownModel():
            return _unknown_model(error)
        case SameModelTwice():
            return SAME_MODEL_TWICE(model=error.model_label)
        case UnknownPreset():
            return UNKNOWN_PRESET(name=inline(error.name))
        case ModelUnavailable():
            if error.heir:
                return HEIR(model=inline(error.model_label), heir=inline(error.heir))
            return UNAVAILABLE[error.reason](model=inline(error.model_label))
        case BadOption(constraint=AtMostImages(count=most)) if is_of_form:
            model = error.model_label
            return FORM_FEWER_IMAGES(most, model=model) if most else FORM_NO_IMAGES(model=model)
        case BadOption():
            return _bad_option(error)
        case UnusableImage():
            return unusable(error)
        case ProviderPaused():
            return PROVIDER_PAUSED()
        case NotAllowedHere():
            return _not_allowed(error)
        case ListFull():
            return LIST_FULL(limit=error.limit)
        case StillUnderWay():
            return _still_under_way(error)
        case DuplicateCommand():
            return DUPLICATE()
        case _:
            return UNEXPECTED()


def _facts(error: LimitFacts) -> dict[str, str]:
    return {
        "asked": format_usd(error.asked_usd_micros),
        "left": format_usd(error.available_usd_micros),
        "when": moment(error.resets_at),
    }


def _quota_exceeded(error: QuotaExceeded) -> str:
    if error.limit_usd_micros:
        says = QUOTA_AND_WALLET_EXCEEDED if error.wallet_usd_micros else QUOTA_EXCEEDED
    else:
        says = QUOTA_IS_ZERO_WITH_WALLET if error.wallet_usd_micros else QUOTA_IS_ZERO
    said = says(wallet=format_usd(error.wallet_usd_micros), **_facts(error))
    return f"{said}\n-# {CHEAPER()}" if error.available_usd_micros > 0 else said


def _still_under_way(error: StillUnderWay) -> str:
    if error.checked_until is None:
        return STILL_UNDER_WAY(commands=error.commands)
    return STILL_CHECKED(commands=error.commands, checking=CHECKING(), when=moment(error.checked_until))


def _unknown_model(error: UnknownModel) -> str:
    typed = inline(error.model_id)
    meant = dict(zip(_ORDINALS, error.suggestions, strict=False))
    return DID_YOU_MEAN[len(meant)](model=typed, **meant) if meant else UNKNOWN_MODEL(model=typed)


def _bad_option(error: BadOption) -> str:
    model, option = error.model_label, option_name(error.option)
    right = "" if error.constraint is None else accepted(error.constraint)
    match error.constraint:
        case Text(min_characters=shortest) if error.option == "prompt" and (error.length or 0) < shortest:
            return PROMPT_TOO_SHORT(shortest)
        case AtMostImages(count=0):
            return TAKES_NO_IMAGES(model=model, option=option)
        case AtMostImages(count=most, other_uses=uses):
            said = TAKES_FEWER_IMAGES(most, model=model, option=option)
            examples = ", ".join(f"`{use}={error.option}`" for use in uses)
            return f"{said} {OTHER_USES(examples=examples)}" if uses else said
        case _:
            pass
    match error.reason:
        case "unknown":
            takes = ", ".join(f"`{option_name(name)}`" for name in error.supported_options)
            if not takes:
                return OPTION_UNKNOWN_NO_OTHER(model=model, option=option)
            return OPTION_UNKNOWN(model=model, option=option, takes=takes)
        case "missing":
            return OPTION_MISSING(model=model, option=option, accepted=right)
        case "not_without":
            return OPTION_MISSING(model=f"`{option}`", option=option_name(error.other), accepted=right)
        case "not_with":
            return OPTION_NOT_WITH(model=model, option=option, other=option_name(error.other))
        case "wrong_length":
            return OPTION_WRONG_LENGTH(error.length or 0, model=model, option=option, accepted=right)
        case _:
            return OPTION_INVALID(model=model, option=option, accepted=right)


def _not_allowed(error: NotAllowedHere) -> str:
    model = error.model_label
    match error.reason:
        case "channel":
            channels = ", ".join(f"<#{channel_id}>" for channel_id in error.channel_ids[:MAX_MENTIONS])
            said = CHANNEL_ALLOWED_ELSEWHERE(channels=channels) if channels else CHANNEL_NOT_ALLOWED()
            command = "/settings channels"
        case "other_roles":
            said = MODEL_FOR_ROLES(
                model=model, roles=", ".join(f"<@&{role_id}>" for role_id in error.role_ids[:MAX_MENTIONS])
            )
            command = "/settings models"
        case "age_restricted":
            said, command = MODEL_AGE_RESTRICTED(model=model), "/settings age-restricted"
        case "age_restricted_model":
            return MODEL_AGE_RESTRICTED_EVERYWHERE(model=model)
        case "direct":
            return MODEL_NOT_DIRECT(model=model)
        case "word":
            said, command = WORD_NOT_WELCOME(word=inline(error.word)), "/settings words"
        case _:
            said, command = MODEL_NOT_ALLOWED(model=model), "/settings models"
    return f"{said}\n-# {DECIDED_BY_MODERATOR(command=command)}"
