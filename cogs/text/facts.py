"""Words for facts: what an option takes, what a price is for, and how large an image may be."""

from __future__ import annotations

from collections.abc import Iterable

from bot.catalogue.models import IMAGE_COUNT, PRESENT, PriceCondition
from bot.domain.constraints import (
    MAX_ID_CHARACTERS,
    Assignments,
    AtLeastImages,
    AtMostImages,
    AttachedImages,
    Constraint,
    Identifiers,
    Number,
    OneOf,
    Pattern,
    Text,
    TrueOrFalse,
    Uuid,
)
from bot.domain.errors import UnusableImage
from bot.domain.jobs import Failure, FailureReason
from cogs.text import formatting
from cogs.text.locale import Phrase, Plural, grouped, option_name

# -- what an option takes, said after a colon ------------------------------------------------------------------

TRUE_OR_FALSE = Phrase("true or false")
WHOLE_NUMBER = Phrase("a whole number")
WHOLE_NUMBER_AT_LEAST = Phrase("a whole number of at least {minimum}")
WHOLE_NUMBER_AT_MOST = Phrase("a whole number of at most {maximum}")
WHOLE_NUMBER_BETWEEN = Phrase("a whole number from {minimum} to {maximum}")
NUMBER = Phrase("a number")
NUMBER_AT_LEAST = Phrase("a number of at least {minimum}")
NUMBER_AT_MOST = Phrase("a number of at most {maximum}")
NUMBER_BETWEEN = Phrase("a number from {minimum} to {maximum}")
TEXT = Phrase("a text")
TEXT_AT_LEAST = Plural("at least {count} character", "at least {count} characters")
TEXT_BETWEEN = Plural("{shortest} to {count} character", "{shortest} to {count} characters")
PATTERN = Phrase("{text}, matching the pattern `{pattern}`")
UUID = Phrase("a UUID such as {example}")
IDENTIFIERS = Phrase("ids without spaces, each of at most {characters} characters, joined by `+`")
IDENTIFIERS_AT_MOST = Plural(
    "one id without spaces, of at most {characters} characters",
    "at most {count} ids without spaces, each of at most {characters} characters, joined by `+`",
)
WITH_STRENGTH = Phrase("{ids}; after a colon each may have its strength, {strength}: `{example}`")
ATTACHED_IMAGES = Phrase("one or more of the attached images, joined by `+`: {names}")
ATTACHED_IMAGES_AT_MOST = Plural(
    "one of the attached images: {names}", "at most {count} of the attached images, joined by `+`: {names}"
)
ASSIGNMENTS = Phrase("names and values, such as `{example}`")
DEFAULT_IS = Phrase("default {value}")
PICTURES_AT_LEAST = Plural("at least {count} image", "at least {count} images")
PICTURES_AT_MOST = Plural("at most {count} image", "at most {count} images")

_EXAMPLE_UUID = "123e4567-e89b-12d3-a456-426614174000"
_EXAMPLE_IDENTIFIERS = "first:0.8+second:0.3"
_EXAMPLE_ASSIGNMENTS = "seed=5, aspect_ratio=16:9"


def accepted(fact: Constraint) -> str:
    """Return the text for what an option accepts."""
    match fact:
        case OneOf(values=values):
            return ", ".join(values)
        case TrueOrFalse():
            return TRUE_OR_FALSE()
        case Number():
            return _number(fact)
        case Text():
            return _text(fact)
        case Pattern(pattern=pattern):
            return PATTERN(
                text=_text(Text(min_characters=fact.min_characters, max_characters=fact.max_characters)),
                pattern=pattern,
            )
        case Uuid():
            return UUID(example=_EXAMPLE_UUID)
        case AtLeastImages(count=count):
            return PICTURES_AT_LEAST(count)
        case AtMostImages(count=count):
            return PICTURES_AT_MOST(count)
        case Identifiers():
            return _identifiers(fact)
        case AttachedImages(names=names, max_count=max_count):
            shown = [f"`{option_name(name)}`" for name in names]
            listed = ", ".join(shown) if len(shown) <= _MAX_NAMES else f"{shown[0]}, {shown[1]} … {shown[-1]}"
            many = ATTACHED_IMAGES(names=listed)
            return many if max_count is None else ATTACHED_IMAGES_AT_MOST(max_count, names=listed)
        case Assignments(example=example):
            return ASSIGNMENTS(example=example or _EXAMPLE_ASSIGNMENTS)


_MAX_NAMES = 4
"""Most names of attached images that are listed one by one."""


def _identifiers(fact: Identifiers) -> str:
    if fact.max_count is None:
        ids = IDENTIFIERS(characters=MAX_ID_CHARACTERS)
    else:
        ids = IDENTIFIERS_AT_MOST(fact.max_count, characters=MAX_ID_CHARACTERS)
    if fact.strength is None:
        return ids
    return WITH_STRENGTH(ids=ids, strength=_number(fact.strength), example=_EXAMPLE_IDENTIFIERS)


def _text(fact: Text) -> str:
    if fact.max_characters is not None:
        return TEXT_BETWEEN(fact.max_characters, shortest=grouped(fact.min_characters))
    return TEXT() if fact.min_characters == 1 else TEXT_AT_LEAST(fact.min_characters)


def _number(fact: Number) -> str:
    match fact.minimum, fact.maximum:
        case None, None:
            return WHOLE_NUMBER() if fact.whole else NUMBER()
        case minimum, None:
            said = WHOLE_NUMBER_AT_LEAST if fact.whole else NUMBER_AT_LEAST
            return said(minimum=grouped(minimum))
        case None, maximum:
            said = WHOLE_NUMBER_AT_MOST if fact.whole else NUMBER_AT_MOST
            return said(maximum=grouped(maximum))
        case minimum, maximum:
            said = WHOLE_NUMBER_BETWEEN if fact.whole else NUMBER_BETWEEN
            return said(minimum=grouped(minimum), maximum=grouped(maximum))


# -- what a price is for ----------------------------------------------------------------------------------------

NO_PICTURE = Phrase("no image")
WITH_OPTION = Phrase("with {option}")
OPTION_IS = Phrase("{option} {value}")


def price_for(conditions: Iterable[PriceCondition]) -> str:
    """Return the text for the conditions of a price."""
    return ", ".join(_condition(condition) for condition in conditions)


def _condition(condition: PriceCondition) -> str:
    option = option_name(condition.option).replace("_", " ")
    if condition.option == IMAGE_COUNT:
        return formatting.PICTURES(condition.value) if condition.value else NO_PICTURE()
    if condition.value == PRESENT:
        return WITH_OPTION(option=option)
    # 1K, 2K and 4K need no name of the option
    return str(condition.value) if condition.option == "resolution" else OPTION_IS(option=option, value=condition.value)


# -- attached images -------------------------------------------------------------------------------------------

UNUSABLE = {
    "not_an_image": Phrase("`{file}` is not an image. Attach a PNG, JPEG, WebP, HEIC, AVIF, GIF, BMP or TIFF file."),
    "unsupported_type": Phrase(
        "`{file}`: I can't use this file type. Attach a PNG, JPEG, WebP, HEIC, AVIF, GIF, BMP or TIFF file."
    ),
    "broken": Phrase("`{file}` is damaged or cut short. Save it again and attach the new file."),
    "animated": Phrase("`{file}` is animated. Attach a still image (PNG, JPEG, WebP, HEIC …)."),
    "too_many_bytes": Phrase("`{file}` is too large. Attach a smaller file."),
    "too_many_pixels": Phrase("`{file}` has too many pixels. Attach a smaller image."),
    "too_small": Phrase("`{file}` is too small. Attach a larger image."),
    "unreachable": Phrase("`{file}` could not be fetched from Discord. Please attach it again."),
    "foreign_host": Phrase("`{file}` does not come from Discord. Attach the image itself."),
}
BYTES_AT_MOST = Phrase("`{file}` is too large: at most {megabytes} MB.")
PIXELS_AT_MOST = Phrase("`{file}` has too many pixels: at most {megapixels} megapixels.")
SIDES_AT_LEAST = Phrase("`{file}` is too small: at least {pixels} × {pixels} pixels.")


def unusable(error: UnusableImage) -> str:
    """Return what is wrong with an attached file, and what would be accepted."""
    file = formatting.inline(error.filename)
    match error:
        case UnusableImage(limit_bytes=int(limit)):
            return BYTES_AT_MOST(file=file, megabytes=limit // 1_000_000)
        case UnusableImage(limit_pixels=int(limit)):
            return PIXELS_AT_MOST(file=file, megapixels=limit // 1_000_000)
        case UnusableImage(side_pixels=int(pixels)):
            return SIDES_AT_LEAST(file=file, pixels=pixels)
        case _:
            return UNUSABLE[error.reason](file=file)


# -- what a provider says of a failure ----------------------------------------------------------------------------

SUGGESTED_MODEL = Phrase("The image service suggests `{model}` instead.")


def hint(failure: Failure) -> str:
    """Return the provider's hint as a small line below the reason."""
    said = formatting.inline(failure.hint)
    if failure.reason is FailureReason.MODEL_RETIRED:
        return f"-# {SUGGESTED_MODEL(model=said)}"
    return f"-# `{said}`"
