"""The rules: what Discord accepts in a message, a modal and a command, and the errors it answers with."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from sandbox.discord.files import Json
from sandbox.discord.world import COMPONENTS_V2, EPHEMERAL, fields, rows, walk

ACTION_ROW, BUTTON, TEXT_SELECT, TEXT_INPUT = 1, 2, 3, 4
SELECTS = frozenset({3, 5, 6, 7, 8})
SECTION, TEXT, THUMBNAIL, GALLERY, FILE, SEPARATOR = 9, 10, 11, 12, 13, 14
CONTAINER, LABEL, FILE_UPLOAD = 17, 18, 19
IN_LABEL = SELECTS | {TEXT_INPUT, FILE_UPLOAD, 21, 22, 23}
IN_CONTAINER = frozenset({ACTION_ROW, SECTION, TEXT, GALLERY, FILE, SEPARATOR})
AT_TOP = IN_CONTAINER | {CONTAINER}

COMMAND_NAME = re.compile(r"^[-_'\w]{1,32}$")
LOCALE = re.compile(
    r"en-(US|GB)|zh-(CN|TW)|es-(ES|419)|pt-BR|sv-SE|"
    r"bg|cs|da|de|el|fi|fr|hi|hr|hu|id|it|ja|ko|lt|nl|no|pl|ro|ru|th|tr|uk|vi"
)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The limits that a test can change. The defaults are Discord's, documented or measured."""

    acknowledge_seconds: float = 3.0
    token_seconds: float = 900.0
    file_bytes: int = 10 * 1024 * 1024
    link_seconds: float = 86_400.0
    channel_requests: int = 5
    channel_window_seconds: float = 5.0
    webhook_requests: int = 5
    webhook_window_seconds: float = 2.0
    heartbeat_seconds: float = 41.25


class ApiError(Exception):
    """An answer other than success. `code` is Discord's own number."""

    def __init__(self, status: int, code: int, message: str, *, where: str = "") -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.where = status, code, message, where

    def payload(self) -> Json:
        payload: Json = {"message": self.message, "code": self.code}
        if self.where:
            error: Json = {"_errors": [{"code": "BASE_TYPE_BAD", "message": self.where}]}
            payload["errors"] = {"data": error}
        return payload


def bad_form(where: str) -> ApiError:
    return ApiError(400, 50035, "Invalid Form Body", where=where)


def require(condition: Any, where: str) -> None:
    if not condition:
        raise bad_form(where)


def check_message(body: Json, *, filenames: list[str], flags: int) -> None:
    """Check the message as it would be. `flags` are the message's own, `filenames` all files it would have."""
    components: list[Json] = rows(body, "components")
    if flags & COMPONENTS_V2:
        require(not body.get("content") and not body.get("embeds"), "content and embeds do not go with components v2")
        if not components:
            raise ApiError(400, 50006, "Cannot send an empty message")
        _check_layout(components, filenames)
        return
    content: str = body.get("content") or ""
    embeds: list[Json] = rows(body, "embeds")
    require(len(content) <= 2000, "content: must be 2000 or fewer in length")
    require(len(embeds) <= 10, "embeds: must be 10 or fewer in length")
    for embed in embeds:
        require(len(embed.get("title") or "") <= 256, "embed title: 256 or fewer")
        require(len(embed.get("description") or "") <= 4096, "embed description: 4096 or fewer")
        require(len(rows(embed, "fields")) <= 25, "embed fields: 25 or fewer")
        for item in rows(embed, "fields"):
            require(1 <= len(item["name"]) <= 256 and 1 <= len(item["value"]) <= 1024, "embed field: 256 and 1024")
    require(sum(map(_embed_length, embeds)) <= 6000, "embeds: 6000 characters in all")
    require(len(components) <= 5, "components: 5 or fewer rows")
    require(all(row.get("type") == ACTION_ROW for row in components), "components: only rows without components v2")
    _check_parts(components, filenames)
    if not content and not embeds and not filenames:
        raise ApiError(400, 50006, "Cannot send an empty message")


def _embed_length(embed: Json) -> int:
    texts = [embed.get("title"), embed.get("description"), fields(embed, "footer").get("text")]
    texts.append(fields(embed, "author").get("name"))
    texts += [item[key] for item in rows(embed, "fields") for key in ("name", "value")]
    return sum(len(text or "") for text in texts)


def _check_layout(components: list[Json], filenames: list[str]) -> None:
    parts = list(walk(components))
    require(len(parts) <= 40, f"components: {len(parts)} of at most 40")
    require(all(part.get("type") in AT_TOP for part in components), "components: not allowed at the top level")
    texts = [part["content"] for part in parts if part.get("type") == TEXT]
    require(all(texts), "text display: must not be empty")
    require(sum(map(len, texts)) <= 4000, "text displays: 4000 characters in all")
    _check_parts(components, filenames)


def _check_parts(components: list[Json], filenames: list[str]) -> None:
    custom_ids: list[str] = []
    for part in walk(components):
        kind, children = part.get("type"), rows(part, "components")
        if kind == CONTAINER:
            require(children and all(child.get("type") in IN_CONTAINER for child in children), "container: its parts")
            colour = part.get("accent_color")
            require(colour is None or 0 <= colour <= 0xFFFFFF, "container: accent_color")
        elif kind == ACTION_ROW:
            _check_row(children)
        elif kind == SECTION:
            require(1 <= len(children) <= 3, "section: one to three texts")
            require(all(child.get("type") == TEXT for child in children), "section: only texts")
            require(fields(part, "accessory").get("type") in (BUTTON, THUMBNAIL), "section: accessory")
        elif kind == GALLERY:
            require(1 <= len(rows(part, "items")) <= 10, "gallery: one to ten pictures")
            for item in part["items"]:
                _check_media(item.get("media"), item.get("description"), filenames)
        elif kind == THUMBNAIL:
            _check_media(part.get("media"), part.get("description"), filenames)
        elif kind == FILE:
            _check_media(part.get("file"), None, filenames)
            require(str(part["file"]["url"]).startswith("attachment://"), "file: only attachments")
        if "custom_id" in part:
            require(1 <= len(str(part["custom_id"])) <= 100, "custom_id: between 1 and 100 in length")
            custom_ids.append(str(part["custom_id"]))
    require(len(custom_ids) == len(set(custom_ids)), "custom_id: component custom id cannot be duplicated")


def _check_row(children: list[Json]) -> None:
    kinds = {child.get("type") for child in children}
    if kinds == {BUTTON}:
        require(len(children) <= 5, "action row: five buttons at most")
        for button in children:
            style = button.get("style")
            require(style in (1, 2, 3, 4, 5, 6), "button: style")
            if style == 6:
                require(set(button) <= {"type", "style", "sku_id", "disabled", "id"}, "button: of a purchase, no more")
                require(str(button.get("sku_id", "")).isdigit(), "button: sku_id")
                continue
            require(("url" in button) == (style == 5), "button: a url belongs to a link button and to no other")
            require(("custom_id" in button) == (style != 5), "button: custom_id")
            require(button.get("label") or button.get("emoji"), "button: label or emoji")
            require(len(button.get("label") or "") <= 80, "button: label of 80 or fewer")
        return
    require(len(children) == 1 and kinds <= SELECTS, "action row: buttons or one menu")
    _check_select(children[0])


def _check_select(menu: Json) -> None:
    require(len(menu.get("placeholder") or "") <= 150, "menu: placeholder of 150 or fewer")
    if menu["type"] != TEXT_SELECT:
        return
    options: list[Json] = rows(menu, "options")
    require(1 <= len(options) <= 25, "menu: one to 25 options")
    for option in options:
        require(1 <= len(option["label"]) <= 100 and 1 <= len(option["value"]) <= 100, "option: 100 or fewer")
        require(len(option.get("description") or "") <= 100, "option: description of 100 or fewer")
    require(len({option["value"] for option in options}) == len(options), "menu: values must differ")


def _check_media(media: Json | None, description: Any, filenames: list[str]) -> None:
    url = str(media.get("url") or "") if media else ""
    require(url.startswith(("attachment://", "http://", "https://")), "media: url")
    if url.startswith("attachment://"):
        require(url.removeprefix("attachment://") in filenames, f"media: no attachment {url}")
    require(len(str(description or "")) <= 1024, "media: description of 1024 or fewer")


def check_deferral(flags: int) -> None:
    require(not flags & ~EPHEMERAL, "a deferred response may carry only the EPHEMERAL flag")


def check_modal(modal: Json) -> None:
    require(1 <= len(str(modal.get("title") or "")) <= 45, "modal: title of 45 or fewer")
    require(1 <= len(str(modal.get("custom_id") or "")) <= 100, "modal: custom_id")
    components: list[Json] = rows(modal, "components")
    require(1 <= len(components) <= 5, "modal: one to five components")
    for part in components:
        kind = part.get("type")
        require(kind in (LABEL, TEXT, ACTION_ROW), "modal: labels, texts and rows")
        if kind == LABEL:
            require(1 <= len(part.get("label") or "") <= 45, "label: 45 or fewer")
            require(len(part.get("description") or "") <= 100, "label: description of 100 or fewer")
            require(fields(part, "component").get("type") in IN_LABEL, "label: its component")
        elif kind == ACTION_ROW:
            require([child.get("type") for child in rows(part, "components")] == [TEXT_INPUT], "row: a text input")
    custom_ids = [str(part.get("custom_id")) for part in walk(components) if part.get("type") in IN_LABEL]
    require(len(custom_ids) == len(set(custom_ids)), "modal: custom ids must differ")
    require(all(1 <= len(custom_id) <= 100 for custom_id in custom_ids), "modal: custom_id")
    for part in walk(components):
        if part.get("type") == TEXT_INPUT:
            require(len(part.get("value") or "") <= (part.get("max_length") or 4000), "text input: value too long")
        elif part.get("type") == TEXT_SELECT:
            _check_select(part)


def check_choices(choices: list[Json]) -> None:
    require(len(choices) <= 25, "choices: 25 or fewer")
    for choice in choices:
        for text in (str(choice.get("name") or ""), *_localized(choice, "name")):
            require(1 <= len(text) <= 100, "choice: name between 1 and 100")
        require(len(str(choice.get("value"))) <= 100, "choice: value of 100 or fewer")


def check_command(command: Json) -> None:
    name, kind = str(command.get("name") or ""), command.get("type", 1)
    if kind != 1:
        for text in (name, *_localized(command, "name")):
            require(1 <= len(text) <= 32, "command: name")
        return
    _check_named(command)
    require(_command_length(command) <= 8000, "command: 8000 characters in all, counting the longest localizations")


def _check_named(item: Json) -> None:
    name = str(item.get("name") or "")
    for text in (name, *_localized(item, "name")):
        require(COMMAND_NAME.match(text) and text == text.lower(), f"name: {text!r}")
    for text in (str(item.get("description") or ""), *_localized(item, "description")):
        require(1 <= len(text) <= 100, f"{name}: description between 1 and 100")
    options: list[Json] = rows(item, "options")
    require(len(options) <= 25, f"{name}: 25 options at most")
    for locale in {"en-US"}.union(*(fields(option, "name_localizations") for option in options)):
        shown = {fields(option, "name_localizations").get(locale, option.get("name")) for option in options}
        require(len(shown) == len(options), f"{name}: option names must be unique, in {locale} as well")
    optional_seen = False
    for option in options:
        _check_named(option)
        if option.get("type", 0) > 2:
            require(not (option.get("required") and optional_seen), f"{name}: required options come first")
            optional_seen = optional_seen or not option.get("required")
        choices: list[Json] = rows(option, "choices")
        require(not (choices and option.get("autocomplete")), f"{name}: choices or autocomplete, not both")
        check_choices(choices)


def _localized(item: Json, field: str) -> list[str]:
    texts = fields(item, f"{field}_localizations")
    require(all(LOCALE.fullmatch(locale) for locale in texts), f"{field}_localizations: unknown locale")
    return [str(text) for text in texts.values()]


def _longest(item: Json, field: str) -> int:
    return max(len(text) for text in (str(item.get(field) or ""), *_localized(item, field)))


def _command_length(item: Json) -> int:
    own = _longest(item, "name") + _longest(item, "description")
    own += sum(_longest(choice, "name") + len(str(choice["value"])) for choice in rows(item, "choices"))
    return own + sum(_command_length(option) for option in rows(item, "options"))
