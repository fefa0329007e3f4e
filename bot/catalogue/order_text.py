"""Order text: what members type about an order besides its options, and how one order results from all of it.

`more` is a text such as `steps=28, guidance_scale=5`; flags end a prompt: `a fox --ar 16:9 --seed 5`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from bot.catalogue import parameters
from bot.catalogue.models import Model
from bot.domain.constraints import Assignments, Text
from bot.domain.errors import BadOption
from bot.domain.jobs import JobKind, JobRequest

MAX_MORE_CHARACTERS = 2_000

OptionValue = str | int | float | bool
Options = Mapping[str, OptionValue]

SHORT_FLAGS: Mapping[str, str] = {"ar": "aspect_ratio", "res": "resolution", "no": "negative_prompt", "q": "quality"}
"""Flags that are short for the name of an option."""

_SHAPES: Mapping[str, tuple[str, ...]] = {
    "aspect_ratio": ("width", "height"),
    "width": ("aspect_ratio",),
    "height": ("aspect_ratio",),
}
"""Options that say the same in different words: the higher layer wins over all of a lower one."""

NOTE = " \N{MIDDLE DOT} "
"""What follows this in an unquoted value is a note of autocomplete, which stays when the member types on."""

_QUOTED = r'"(?:[^"\\]|\\.)*"'
# The names of options are translated, so a name may have letters of any script.
_NAME = r"[^\W\d_][\w-]*"
# Keyboards for Japanese type full-width characters, and the ideographic comma.
_EQUALS = "=\uff1d"
_SEPARATORS = ",;\uff0c\uff1b\u3001"
_HALF_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
_ASSIGNMENT = re.compile(rf"{_QUOTED}|(?<![^{_SEPARATORS}\s])({_NAME})\s*[{_EQUALS}](?![{_EQUALS}])")
# Keyboards turn two hyphens into one dash, and programs copy hyphens as other characters: \u2013 to \u2015 are dashes.
_FLAG = re.compile(rf"(?<!\S)(?:[-\u2010-\u2013\u2212\uff0d]{{2}}|[\u2013-\u2015])({_NAME})(?=[{_EQUALS}\s]|$)")
_NEEDS_QUOTES = re.compile(rf'["{_EQUALS}{_SEPARATORS}\uff01-\uff5e]|^\s|\s$|{NOTE}')
# A plus in front of a number is its sign.
_JOINT = re.compile(r"(?<!:)\+")
_STRENGTH = re.compile(r"[+-]?(\d{1,6}(\.\d{0,9})?|\.\d{1,9})")


@dataclass(frozen=True, kw_only=True, slots=True)
class Template:
    """What a preset adds to an order: options, and words before and after the prompt."""

    options: Options = field(default_factory=dict[str, OptionValue])
    before: str = ""
    after: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class TranslatedNames:
    """The names of options in another language, each with the one that models know."""

    names: Mapping[str, str]
    image_options: Collection[str]
    """The options whose values are names of attached images, such as `mask=image2`."""

    @classmethod
    def of(cls, models: Iterable[Model], translate: Callable[[str], str]) -> TranslatedNames:
        """Return the translated names of what the models take. A name that an option has itself keeps its meaning."""
        models = list(models)
        known = flag_names(models).union(
            SHORT_FLAGS,
            *(parameters.attachment_names(kind) for kind in JobKind),
            *(model.option_names for model in models),
        )

        def said(name: str) -> str:
            before, _, part = name.rpartition("_")
            whole = translate(name)
            return f"{translate(before)}_{part}" if whole == name and before in known else whole

        fields = (field for model in models for field in model.fields.values() if field.is_for_images)
        return cls(
            names={key: name for name in known if (key := _name(said(name))) not in known},
            image_options={name for field in fields for name in (field.name, *field.purposes)},
        )

    def more(self, text: str) -> str:
        """Return a text for `more` in the names that models know."""
        return self._renamed(text, [match for match in _ASSIGNMENT.finditer(text) if match[1]])

    def prompt(self, text: str) -> str:
        """Return a prompt with its flags in the names that models know."""
        return self._renamed(text, list(_FLAG.finditer(text)))

    def _renamed(self, text: str, found: list[re.Match[str]]) -> str:
        parts = [text[: found[0].start(1)]] if found else [text]
        ends = [*(match.start(1) for match in found), len(text)][1:]
        for match, end in zip(found, ends, strict=True):
            name = self.names.get(_name(match[1]), match[1])
            value = text[match.end(1) : end]
            if _name(name) in self.image_options:
                value = re.sub(r"\w+", lambda word: self.names.get(_name(word[0]), word[0]), value)
            parts += (name, value)
        return "".join(parts)


def expand(
    model: Model,
    request: JobRequest,
    *,
    more: str = "",
    flag_names: Collection[str] = (),
    template: Template | None = None,
    defaults: Options | None = None,
    style_id: Callable[[str], str] = str,
) -> JobRequest:
    """Return the order that results from a command: its options, `more`, the flags of its prompt, a preset, defaults.

    The first of these that sets an option wins. `flag_names` are the names that count as flags; other flags stay in the
    prompt. Values are read but not checked: the quote does that. `defaults` are a member's own and are left out where
    the model does not take them. `style_id` finds the id of a style by its title. Raises BadOption if `more` is not
    made of names and values.
    """
    template = template or Template()
    prompt, flags = split_flags(request.prompt, flag_names)
    layers = (
        request.options,
        _read(model, request, parse_more(model, more)),
        _read(model, request, flags),
        template.options,
        {name: value for name, value in (defaults or {}).items() if _takes(model, request, name, value)},
    )
    options: dict[str, OptionValue] = {}
    for layer in layers:
        taken = {model.option_name(name): value for name, value in layer.items()}
        blocked = {name for given in options for name in (given, *_SHAPES.get(given, ()))}
        options |= {name: value for name, value in taken.items() if name not in blocked}
    if (style := options.get("style")) is not None:
        options["style"] = _style_ids(model, str(style), style_id)
    words = (template.before, prompt, template.after)
    return replace(request, prompt=" ".join(filter(None, (word.strip() for word in words))), options=options)


def for_model(model: Model, request: JobRequest) -> JobRequest:
    """Return the same order for another model, which reads the typed values that the first one had no field for."""
    texts = {name: value for name, value in request.options.items() if isinstance(value, str)}
    return replace(request, model_id=model.id, options={**request.options, **_read(model, request, texts)})


def parse_more(model: Model, text: str) -> dict[str, str]:
    """Read names and values; the last value of a name counts. Raises BadOption for a text that has anything else."""
    if len(text) > MAX_MORE_CHARACTERS:
        raise BadOption(
            option="more",
            model_label=model.label,
            reason="wrong_length",
            constraint=Text(max_characters=MAX_MORE_CHARACTERS),
            length=len(text),
        )
    starts = [match for match in _ASSIGNMENT.finditer(text) if match[1]]
    before = text[: starts[0].start()] if starts else text
    if before.strip(f"{_SEPARATORS} \n\t"):
        raise BadOption(option="more", model_label=model.label, reason="invalid", constraint=Assignments())
    ends = [*(match.start() for match in starts), len(text)][1:]
    return {_name(match[1]): _value(text[match.end() : end]) for match, end in zip(starts, ends, strict=True)}


def has_names(text: str) -> bool:
    """Return whether a text for `more` has a name with an equals sign."""
    return any(match[1] for match in _ASSIGNMENT.finditer(text[:MAX_MORE_CHARACTERS]))


def split_flags(prompt: str, names: Collection[str]) -> tuple[str, dict[str, str]]:
    """Return the prompt without the flags at its end, and their values; the last value of a name counts."""
    found = list(_FLAG.finditer(prompt))
    if not found:
        return prompt, {}
    flags: dict[str, str] = {}
    kept = [prompt[: found[0].start()].rstrip()]
    ends = [*(match.start() for match in found), len(prompt)][1:]
    for match, end in zip(found, ends, strict=True):
        name = _name(match[1])
        if name in SHORT_FLAGS or name in names:
            flags[SHORT_FLAGS.get(name, name)] = _value(prompt[match.end() : end].lstrip(_EQUALS))
        else:
            kept.append(prompt[match.start() : end].rstrip())
    return (" ".join(filter(None, kept)), flags) if flags else (prompt, {})


def more_text(options: Options) -> str:
    """Return the text from which `parse_more` reads these options."""
    return ", ".join(f"{name}={_written(value)}" for name, value in options.items())


def _read(model: Model, request: JobRequest, texts: Mapping[str, str]) -> dict[str, OptionValue]:
    """Turn typed texts into values of the types that the model's parameters have."""
    values: dict[str, OptionValue] = {}
    for name, text in texts.items():
        found = parameters.parameter(model, request.kind, name)
        # A flag without a value switches on.
        is_switch = found is not None and found.field.type == "boolean" and not text
        values[name] = True if is_switch else (found.field.parse(text) if found is not None else text)
    return values


def _takes(model: Model, request: JobRequest, name: str, value: OptionValue) -> bool:
    if name == "aspect_ratio" and model.uses_width_and_height:
        return value in model.choices(name)
    found = parameters.parameter(model, request.kind, name)
    if found is None or found.field.is_for_images:
        return False
    try:
        found.field.check(value)
    except ValueError:
        return False
    return True


def _style_ids(model: Model, text: str, style_id: Callable[[str], str]) -> str:
    """Replace titles of styles by their ids."""
    field = model.field_for("style")
    if field is None or field.type != "array":
        return text
    if (whole := style_id(text)) != text:
        return whole
    return joined((style_id(key), strength) for key, strength in weighted(text))


def _name(text: str) -> str:
    return text.lower().replace("-", "_")


def _value(text: str) -> str:
    text = text.strip(f"{_SEPARATORS} \n\t")
    if len(text) > 1 and text[0] == text[-1] == '"':
        return re.sub(r"\\(.)", r"\1", text[1:-1])
    text = text.partition(NOTE)[0].strip()
    half_width = text.translate(_HALF_WIDTH)
    return half_width if half_width.isascii() else text


def _written(value: OptionValue) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    if isinstance(value, str) and (not text or _NEEDS_QUOTES.search(text)):
        escaped = text.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    return text


def flag_names(models: Iterable[Model]) -> frozenset[str]:
    """Return the names that count as flags: of everything that one of the models has and a command can set."""
    kinds = (JobKind.IMAGINE, JobKind.EDIT)
    orderable = [model for model in models if any(model.supports(kind) for kind in kinds)]
    parts = {
        part for model in orderable for field in model.fields.values() if field.is_for_images for part in field.parts
    }
    attachments = [name for kind in kinds for name in parameters.attachment_names(kind)]
    names = {f"{attachment}_{part}" for attachment in attachments for part in parts}
    return frozenset(names.union(*(model.option_names for model in orderable)))


# -- ids with strengths: `a:0.8+b:-0.3` ------------------------------------------------------------------


def weighted(text: str) -> list[tuple[str, float | None]]:
    """Split a list into ids with their strengths; None where an id has none."""
    return [_id_and_strength(part.strip()) for part in _JOINT.split(text)]


def joined(pairs: Iterable[tuple[str, float | None]]) -> str:
    """Return the text from which `weighted` reads these pairs."""
    return "+".join(key if strength is None else f"{key}:{_plain(strength)}" for key, strength in pairs)


def _plain(number: float) -> str:
    """Write a number without an exponent and without zeros at its end."""
    return f"{number:.9f}".rstrip("0").rstrip(".")


def _id_and_strength(text: str) -> tuple[str, float | None]:
    key, colon, tail = text.rpartition(":")
    if colon and _STRENGTH.fullmatch(tail.strip()):
        return key.strip(), float(tail)
    return text, None
