"""Words of the card that shows a job: its states, prices, failures and buttons.

Phrases are written in English and translated when they are called, see locale.py. Facts are passed as arguments.
"""

from __future__ import annotations

from bot.domain.jobs import FailureReason
from cogs.text.locale import (
    MAX_BUTTON_CHARACTERS,
    MAX_CHOICE_CHARACTERS,
    MAX_MODAL_CHARACTERS,
    MAX_PLACEHOLDER_CHARACTERS,
    Phrase,
    Plural,
)

# -- the card -------------------------------------------------------------------------------------------

QUEUED = Phrase("Queued")
PROCESSING = Phrase("Processing")
SAMPLING = Phrase("Sampling")
COMPLETED = Phrase("Completed")
FAILED = Phrase("Failed")
CANCELLED = Phrase("Cancelled")
CHECKING = Phrase("Checking")

WAITING_FOR_REVIEW = Phrase("Waiting for review")
REFUSED = Phrase("Refused")

NOT_CHARGED = Phrase("not charged")
PLACE_IN_LINE = Phrase("place {place} in line")
PREVIEW = Phrase("preview")
STARTED = Phrase("started {when}")
EXPECTED = Phrase("expected {when}")
SOME_DONE = Phrase("{done} of {total} done")
SOME_FAILED = Phrase("{failed} of {total} failed, not charged")
SOME_CANCELLED = Phrase("{cancelled} of {total} cancelled, not charged")
COSTS = Phrase("costs {amount}")
COST = Phrase("cost {amount}")
CHECKING_EXPLAINED = Phrase(
    "The order went out, but the answer got lost. I am looking for it until {when} and never order twice; "
    "if it is not found by then, you are not charged."
)
NOT_FETCHED_YET = Phrase(
    "The image is made, but it cannot be fetched yet. I keep trying until {when}; if that fails, you are not charged."
)
WAITS_FOR_OPERATOR = Phrase(
    "The part of me that makes images is not running. Your order is kept and starts as soon as the operator has "
    "started it again; it costs nothing until there is an image."
)
DIRECT_LATE = Phrase(
    "If this takes longer than 15 minutes, the image comes by direct message. If you accept none from me, it is in "
    "`/history`."
)
STILL_LOOKING = Phrase("If the image still turns up by {when}, it appears here, free of charge.")
CAME_LATE = Plural(
    "{count} image came late, so it is free.",
    "{count} images came late, so they are free.",
)
NOT_FETCHED = Plural(
    "{count} more image could not be fetched from the image service.",
    "{count} more images could not be fetched from the image service.",
)
IMAGES_LOST = Plural(
    "⚠️ {count} image was lost here before it could be shown. The operator has been told.",
    "⚠️ {count} images were lost here before they could be shown. The operator has been told.",
)
CANCEL_WANTED_BECAUSE = Phrase("A moderator asked to stop this: `{reason}`")
CANCELLED_BECAUSE = Phrase("Cancelled by a moderator: `{reason}`")
REVIEW_COMES = Phrase("Moderators review the result before everybody sees it.")
REVIEW_WAITING = Phrase(
    "The result is ready. It appears here once a moderator approves it. Until then, the member who ordered it can see "
    "it in `/history`."
)
REVIEW_REFUSED = Phrase(
    "A moderator refused the result, so it is not shown. What it cost still counts. The member who ordered it can "
    "still see it in `/history`."
)
REVIEW_REFUSED_BECAUSE = Phrase(
    "A moderator refused the result, so it is not shown: `{reason}`\n"
    "What it cost still counts. The member who ordered it can still see it in `/history`."
)
REVIEW_OWN = Phrase("Only you and moderators see this.")
PROMPT_HIDDEN = Phrase("The prompt is not repeated here.")
SMALLER_COPY = Phrase("Shown smaller than it was made, to fit Discord's limit. {link}")
TOO_LARGE_TO_SHOW = Phrase("Too large to be shown here. {link}")
ORIGINAL = Phrase("Original")
IN_HISTORY = Plural(
    "Discord does not accept the image here. You can find it in `/history`.",
    "Discord does not accept the images here. You can find them in `/history`.",
)
READY_FOR = Phrase("{mention} your image is ready.")
ENDED_FOR = Phrase("{mention} your order has ended.")
SEED = Phrase("seed {seed}")
PICTURES_GIVEN = Plural("{count} image given", "{count} images given")
ALT_TEXT_EMPTY = Phrase("An image")

FAILURES: dict[FailureReason, Phrase] = {
    FailureReason.REJECTED: Phrase("The image service could not take this request. Change it a little and try again."),
    FailureReason.MODERATED: Phrase(
        "The image service declined this request under its content rules. Try another wording."
    ),
    FailureReason.PROVIDER_FAILED: Phrase("The image service ran into a problem. Trying again often works."),
    FailureReason.PROVIDER_UNAVAILABLE: Phrase(
        "The image service is temporarily unavailable. Try again later or pick another model."
    ),
    FailureReason.PROVIDER_BUSY: Phrase(
        "The image service is too busy right now. You are not charged. Try again later or pick another model."
    ),
    FailureReason.INPUT_GONE: Phrase("The image to start from is no longer kept here. Attach it again with `/edit`."),
    FailureReason.INPUT_NOT_HOSTED: Phrase(
        "Discord did not accept the image that this model needs. Try again, or pick another model."
    ),
    FailureReason.MODEL_RETIRED: Phrase("This model has been retired. Pick another one."),
    FailureReason.MODEL_CHANGED: Phrase(
        "The price or options of this model changed before its turn, so nothing was ordered. Check them and try again."
    ),
    FailureReason.NO_USABLE_RESULT: Phrase(
        "The image service finished, but its image could not be fetched. Try again."
    ),
    FailureReason.TIMED_OUT: Phrase("The image service did not finish in time. Try again or pick another model."),
    FailureReason.OUTCOME_UNKNOWN: Phrase("The answer got lost and the image was not found in time. Try again."),
    FailureReason.IMAGE_LOST: Phrase(
        "The image was made, but lost here before it could be shown. The operator has been told. Try again."
    ),
    FailureReason.NOT_SHOWN: Phrase("Discord did not show the answer, so nothing was ordered."),
    FailureReason.INTERNAL: Phrase("Something went wrong here. The operator has been told."),
}

CAUSES: dict[FailureReason, Phrase] = {
    FailureReason.REJECTED: Phrase("The image service could not take this request."),
    FailureReason.MODERATED: Phrase("The image service declined this request under its content rules."),
    FailureReason.PROVIDER_FAILED: Phrase("The image service ran into a problem."),
    FailureReason.PROVIDER_UNAVAILABLE: Phrase("The image service is temporarily unavailable."),
    FailureReason.PROVIDER_BUSY: Phrase("The image service is too busy right now."),
    FailureReason.INPUT_GONE: Phrase("The image to start from is no longer kept here."),
    FailureReason.INPUT_NOT_HOSTED: Phrase("Discord did not accept the image that this model needs."),
    FailureReason.MODEL_RETIRED: Phrase("This model has been retired."),
    FailureReason.MODEL_CHANGED: Phrase("The model was different when the order's turn came, so nothing was ordered."),
    FailureReason.NO_USABLE_RESULT: Phrase("The image service finished, but its image could not be fetched."),
    FailureReason.TIMED_OUT: Phrase("The image service did not finish in time."),
    FailureReason.OUTCOME_UNKNOWN: Phrase("The answer got lost and the image was not found in time."),
    FailureReason.IMAGE_LOST: Phrase("The image was made, but lost here before it could be shown."),
    FailureReason.NOT_SHOWN: FAILURES[FailureReason.NOT_SHOWN],
    FailureReason.INTERNAL: FAILURES[FailureReason.INTERNAL],
}
"""The same without an invitation to try again, for a member who can order nothing until the day is over."""

NO_ORDERS_UNTIL = Phrase("Because of failed orders, you can only order again {when}.")

# -- buttons ------------------------------------------------------------------------------------------------

CANCEL = Phrase("Cancel", longest=MAX_BUTTON_CHARACTERS)
AGAIN_PRICE = Phrase("Again · {amount}", longest=MAX_BUTTON_CHARACTERS)
VARY_PRICE = Phrase("Vary · {amount}", longest=MAX_BUTTON_CHARACTERS)
EDIT = Phrase("Edit", longest=MAX_BUTTON_CHARACTERS)
UPSCALE_PRICE = Phrase("Upscale · {amount}", longest=MAX_BUTTON_CHARACTERS)
PICTURE_PRICE = Phrase("Image {number} · {amount}", longest=MAX_BUTTON_CHARACTERS)
RECIPE = Phrase("Recipe", longest=MAX_BUTTON_CHARACTERS)
FAVOURITE = Phrase("☆ Favourite", longest=MAX_BUTTON_CHARACTERS)
NO_FAVOURITE = Phrase("★ Favourite", longest=MAX_BUTTON_CHARACTERS)
VOTE = Phrase("Vote · {votes}", longest=MAX_BUTTON_CHARACTERS)
WINNER = Phrase("winner")
REMIX = Phrase("Remix", longest=MAX_BUTTON_CHARACTERS)
DELETE = Phrase("Delete", longest=MAX_BUTTON_CHARACTERS)
SHARE = Phrase("Share", longest=MAX_BUTTON_CHARACTERS)
UNSHARE = Phrase("Remove", longest=MAX_BUTTON_CHARACTERS)
APPROVE = Phrase("Approve", longest=MAX_BUTTON_CHARACTERS)
REFUSE = Phrase("Refuse", longest=MAX_BUTTON_CHARACTERS)
NEWER = Phrase("Newer", longest=MAX_BUTTON_CHARACTERS)
OLDER = Phrase("Older", longest=MAX_BUTTON_CHARACTERS)
NEWEST = Phrase("Newest", longest=MAX_BUTTON_CHARACTERS)

CANCEL_DONE = Phrase("Cancelled. You are not charged.")
CANCEL_ASKED = Phrase("I asked the image service to stop. The card will say what came of it.")
CANCEL_UNANSWERED = Phrase("The image service gave no answer, so this image may go on. Try again in a moment.")
CANCEL_TOO_LATE = Phrase("Too late: this image is finished already or can no longer be stopped.")
CANCEL_NOT_POSSIBLE = Phrase("This image service cannot stop an image once it has started.")
NOT_YOURS = Phrase("Only the person who asked for this image, or a moderator, can do that.")
JOB_GONE = Phrase("I no longer know this image.")
DELETE_NOT_YET = Phrase("This image is still in progress. Cancel it first.")
DELETE_STILL_LOOKING = Phrase(
    "An image of this order may still turn up, so it cannot be deleted yet. Try again {when}."
)
DELETE_POSTING = Phrase("This image is still being posted. Try again in a minute.")
DELETE_ASK = Phrase(
    "### Delete this for good?\n"
    "This deletes the message, the images and the prompt, also in `/history`, in the bot's storage and in other "
    "channels of this server. **This cannot be undone.** What it cost still counts."
)
DELETE_ASK_DIRECT = Phrase(
    "### Delete this for good?\n"
    "This deletes the message, the images and the prompt, also in `/history` and in the bot's storage. **This cannot "
    "be undone.** What it cost still counts."
)
DELETE_DONE = Phrase("Deleted. The images and the prompt are gone. What it cost still counts.")
DELETE_KEPT = Phrase("Nothing was deleted.")
DELETE_ALREADY = Phrase("This is deleted already.")
DELETE_CARD_REFUSED = Phrase(
    "⚠️ Discord does not let me remove the message in {channel}: I cannot see that channel. Press Delete under the "
    "message once more, or let me see the channel: I keep trying for four days."
)
DELETE_LOG_REFUSED = Phrase(
    "⚠️ Discord does not let me remove the copy in the log channel {channel}: I cannot see that channel. A "
    "moderator can delete it there, or let me see the channel: I keep trying for four days."
)
DELETE_LATER = Phrase("⚠️ Discord did not remove the message in {channel} yet. I keep trying for four days.")
DELETE_LOG_UNKNOWN = Phrase(
    "-# I know of no copy in a log channel. Copies posted before this bot could delete them stay in {channel} until a "
    "moderator deletes them."
)
DELETE_PRIVATE_CARD = Phrase("-# The card that only you see goes when you dismiss it or reload Discord.")
DELETE_CARD_WITHOUT_ACCESS = Phrase(
    "-# The message itself stays: I have no access to the channel that it is in. You can delete it there."
)
PRIVATE_ORDER = Phrase("This was ordered privately: a moderator may cancel or delete it, and nothing else.")
SHARED_BY = Phrase("Made by {member} with **{model}**")
SHARE_DONE = Phrase("Shared in {channel}: {link}.")
SHARE_UNDO = Phrase("Press **Remove** under the image there to take it back.")
SHARE_ALREADY = Phrase("This image is already in {channel}: {link}.")
SHARE_REMOVED = Phrase("This image was shared and taken back. Each image can be shared once.")
SHARE_UNDER_WAY = Phrase("This image is being shared. If it is not there in two minutes, press Share again.")
SHARE_NO_CHANNEL = Phrase("This server has no showcase channel. A moderator can choose one with `/settings showcase`.")
SHARE_DIRECT = Phrase("This image was not ordered in a server, so there is no showcase channel for it.")
SHARE_NO_ACCESS = Phrase(
    "I cannot see the showcase channel {channel}. A moderator can let me view it, or choose another one with "
    "`/settings showcase`."
)
SHARE_PERMISSIONS = Phrase(
    "In the showcase channel {channel} I need: **{permissions}**. A moderator can grant me that there; then press "
    "Share again."
)
SHARE_AGE_RESTRICTED = Phrase(
    "This image is for age-restricted channels, and {channel} is none. A moderator can choose another one with "
    "`/settings showcase`."
)
SHARE_REFUSED = Phrase("Discord did not accept the image in {channel}, so it is not shared. A moderator can check why.")
SHARE_UNKNOWN = Phrase(
    "Discord did not answer, so I do not know whether the image is in {channel}. Press Share again in two minutes: it "
    "is not posted twice."
)
SHARE_STARS = Phrase(
    "★ {stars} of {needed}: this image is shared once {needed} members have pressed Share. Yours counts."
)
SHARE_STARS_PRIVATE = Phrase(
    "Here it takes {needed} members to share an image, and nobody else sees a private one. Order it again without "
    "`private` to share it."
)
SHARE_NOT_REVIEWED = Phrase(
    "Moderators review this kind of image before everybody sees it, and they do not see private ones. Order it again "
    "without `private` to share it."
)
APPROVED_BY = Phrase("✅ Approved by {who}")
REFUSED_BY = Phrase("🚫 Refused by {who}")
REFUSED_BY_BECAUSE = Phrase("🚫 Refused by {who}: `{reason}`")
REFUSE_TITLE = Phrase("Refuse", longest=MAX_MODAL_CHARACTERS)
REFUSE_REASON = Phrase("Why? The member reads this.", longest=MAX_MODAL_CHARACTERS)
REVIEW_ALREADY_APPROVED = Phrase("This was approved already.")
REVIEW_ALREADY_REFUSED = Phrase("This was refused already.")
REVIEW_ELSEWHERE = Phrase("There is nothing to decide here any more: this was decided, deleted or posted again.")
REVIEW_NOT_YET = Phrase("This waits for review. Once a moderator approves it, you can use it.")
REVIEW_NOT_PASSED = Phrase("A moderator refused this, so it cannot be used.")
UNSHARE_DONE = Phrase("Taken back. The image is not shared any more.")
UNSHARE_LATER = Phrase("Taken back. Discord did not remove the message yet, so I keep trying for four days.")
PROMPT_ERASED = Phrase(
    "The prompt of this image is no longer kept, so it cannot be made again from here. Use `/imagine`."
)
DEARER = Phrase("The price has gone up since then. Do you still want to order this?")
"""Above a button with the new price."""

RECIPE_OF = Phrase("Recipe · {model}")

UPSCALE_WHICH = Phrase("Which image should be made larger?")
UPSCALE_NOT_POSSIBLE = Phrase("None of the models that may be used here can make this image larger.")

FORM_MODEL = Phrase("Model and price", longest=MAX_MODAL_CHARACTERS)
FORM_MODEL_HINT = Phrase("You are charged this price when the image is ready.", longest=MAX_CHOICE_CHARACTERS)
FORM_MORE = Phrase("More options", longest=MAX_MODAL_CHARACTERS)
FORM_MORE_HINT = Phrase(
    "For example: aspect_ratio=16:9, seed=5. Options can change the price.", longest=MAX_CHOICE_CHARACTERS
)
NO_MODEL_HERE = Phrase("There is no model that you may use for this in this channel.")
REMIX_TITLE = Phrase("Remix", longest=MAX_MODAL_CHARACTERS)
REMIX_PROMPT = Phrase("Prompt", longest=MAX_MODAL_CHARACTERS)
IMAGE_CHOICE = Phrase("Do something with one image", longest=MAX_PLACEHOLDER_CHARACTERS)
ONE_IMAGE = Phrase("Image {number}")

EDIT_MODAL_TITLE = Phrase("Edit this image", longest=MAX_MODAL_CHARACTERS)
EDIT_MODAL_PROMPT = Phrase("What should change?", longest=MAX_MODAL_CHARACTERS)
EDIT_MODAL_CHOICE = Phrase("Which images (up to 4)?", longest=MAX_MODAL_CHARACTERS)
EDIT_MODAL_UPLOAD = Phrase("Other images to use (up to 3)", longest=MAX_MODAL_CHARACTERS)
EDIT_MODAL_PICTURE = Phrase("Image {number}", longest=MAX_CHOICE_CHARACTERS)
EDIT_TOO_MANY = Plural(
    "That makes {count} image. Choose or attach fewer: at most {most} go into one edit.",
    "That makes {count} images. Choose or attach fewer: at most {most} go into one edit.",
)
NO_PICTURE_IN_MESSAGE = Phrase("That message has no attached image. Choose one that has, or use `/edit`.")

# -- answers ------------------------------------------------------------------------------------------------

ANSWERED_PRIVATELY = Phrase("Answered privately.")
