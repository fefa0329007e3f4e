"""The translations: complete, with every fact of the English text, and within Discord's limits.

For one language alone: `pytest tests/cogs/test_translations.py -k '[de]'`.
"""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass
from gettext import GNUTranslations
from pathlib import Path
from typing import Any

import languages
import pytest
from babel.messages.catalog import Message
from babel.messages.pofile import read_po
from discord import Locale

from cogs.text.command_translations import CHOICE, MENU, CommandTranslator, described
from cogs.text.locale import ENGLISH, FOLDER, LANGUAGES, OPTION, language_for, translations_of, use_locale
from sandbox.discord.rules import ApiError, check_command
from tests.support.discord_core import opened_core
from tests.support.kept_processes import KeepingImagePool
from tests.support.translation_rules import Entry, Key, complaints, filled, names

TAGS = [tag for tag in LANGUAGES if tag != ENGLISH]
TEXTS = list(languages.texts())
TEMPLATE = languages.template()


def read(path: Path) -> dict[Key, Message]:
    with path.open("rb") as file:
        return {entry_of(text).key: text for text in read_po(file, abort_invalid=True) if text.id}


def forms_of(message: Message | None) -> list[str]:
    """Return the translation in each plural form; nothing if a form is missing or marked as fuzzy."""
    if message is None or message.fuzzy or not message.string:
        return []
    found = [message.string] if isinstance(message.string, str) else list(message.string)
    return found if all(found) else []


def option_names(there: dict[Key, Message]) -> dict[str, str]:
    """Return the translated names of options by their English names, where there are any."""
    options = [(str(id_), forms_of(message)) for (context, id_), message in there.items() if context == OPTION]
    return {name: said[0] for name, said in options if said}


def entry_of(message: Message) -> Entry:
    """Return a text as translators see it, with the lowest limit of those in its comments."""
    text, plural = (message.id, None) if isinstance(message.id, str) else (message.id[0], message.id[1])
    limits = re.findall(r"^At most (\d+) characters$", "\n".join(message.auto_comments), re.MULTILINE)
    limit = min(map(int, limits), default=None)
    return Entry(text=text, plural=plural, context=message.context, limit=limit)


SAID = {entry.key: entry for entry in map(entry_of, (message for message in TEMPLATE if message.id))}
"""Every text of the source."""

SUBCOMMAND, GROUP, MESSAGE_MENU = 1, 2, 3
LOCALES = {"de": ["de"], "fr": ["fr"], "es": ["es-ES", "es-419"], "pt": ["pt-BR"], "ja": ["ja"]}
"""Discord's locales for each of our languages."""

every_language = pytest.mark.parametrize("tag", TAGS)


def shown(found: dict[str, list[str]]) -> str:
    """Format findings for the message of a failed assertion."""
    return "".join(f"\n{text!r}: {'; '.join(wrong)}" for text, wrong in found.items())


def forms(tag: str) -> dict[Key, list[str]]:
    return {key: forms_of(message) for key, message in read(FOLDER / f"{tag}.po").items()}


# -- completeness ------------------------------------------------------------------------------------------------


@every_language
def test_no_phrase_is_missing(tag: str) -> None:
    translated = forms(tag)
    assert [entry.text for key, entry in SAID.items() if not translated.get(key)] == []


@every_language
def test_every_translated_text_is_in_the_source(tag: str) -> None:
    assert [text for context, text in read(FOLDER / f"{tag}.po").keys() - SAID.keys()] == []


@every_language
def test_every_form_of_a_number_is_there(tag: str) -> None:
    with (FOLDER / f"{tag}.po").open("rb") as file:
        count = read_po(file).num_plurals
    assert count == (1 if tag == "ja" else 2)
    found = {key: said for key, said in forms(tag).items() if isinstance(key[1], tuple)}
    assert [key for key, said in found.items() if said and len(said) != count] == []


@pytest.mark.parametrize(
    ("tag", "one"), [("de", [1]), ("fr", [0, 1]), ("es", [1]), ("pt", [0, 1]), ("ja", [0, 1, 2, 5, 1_000_000])]
)
def test_numbers_take_the_form_of_the_language(tag: str, one: list[int]) -> None:
    words = translations_of(tag)
    assert isinstance(words, GNUTranslations)
    assert [count for count in (0, 1, 2, 5, 1_000_000) if words.plural(count) == 0] == one  # type: ignore[attr-defined]


def test_no_text_is_both_counted_and_not_counted_which_gettext_cannot_tell_apart() -> None:
    ids = {(context, text) for text, context, *_ in TEXTS}
    firsts = Counter((context, text if isinstance(text, str) else text[0]) for context, text in ids)
    assert [text for (_, text), count in firsts.items() if count > 1] == []


# -- faithfulness ------------------------------------------------------------------------------------------------


@every_language
def test_facts_code_links_commands_emoji_and_lengths_are_right(tag: str) -> None:
    translated = read(FOLDER / f"{tag}.po")
    options = option_names(translated)
    found = {
        str(key[1]): complaints(entry, said, options)
        for key, entry in SAID.items()
        if (said := forms_of(translated.get(key)))
    }
    wrong = {text: wrong for text, wrong in found.items() if wrong}
    assert not wrong, shown(wrong)


def test_the_english_fits_as_well() -> None:
    tight = [entry for entry in SAID.values() if entry.limit is not None]
    assert tight
    for entry in tight:
        assert len(filled(entry.text)) <= (entry.limit or 0), (
            f"{entry.text!r} does not fit, or needs FACTS in translation_rules.py"
        )


def test_every_fact_of_a_phrase_has_a_name() -> None:
    named = {entry.text: names(entry.text) for entry in SAID.values()}
    unnamed = [
        text for text, facts in named.items() if not all(fact.partition(":")[0].isidentifier() for fact in facts)
    ]
    assert unnamed == []


def an_entry(text: str, **more: Any) -> Entry:
    return Entry(text=text, **more)


@pytest.mark.parametrize(
    ("entry", "said", "wrong"),
    [
        (an_entry("{count} of {total} done"), ["{count} fertig"], "has {count} where the English has {count}, {total}"),
        (an_entry("Queued"), ["Wartet {place}"], "has {place} where the English has no facts"),
        (an_entry("Queued"), ["Wartet {place"], "has {a brace that is not closed} where the English has no facts"),
        (an_entry("{amount:,}"), ["{amount}"], "has {amount} where the English has {amount:,}"),
        (an_entry("Use `/edit`."), ["Nimm `/bearbeiten`."], "lacks `/edit`"),
        (an_entry("Use `/edit`."), ["Nimm `/edit` oder `/imagine`."], "has `/imagine`, which the English has not"),
        (an_entry("Use /edit."), ["Nimm /bearbeiten."], "lacks /edit"),
        (an_entry("See [them]({url})"), ["Siehe [sie]( {url})"], "lacks ]({url})"),
        (an_entry("✅ allowed"), ["erlaubt"], "lacks ✅"),
        (an_entry("**Now** or never"), ["Jetzt oder nie"], "lacks **"),
        (an_entry("-# Small\n-# print"), ["-# Klein\ngedruckt"], "has lines that begin with ['-# ', ''], not"),
        (an_entry("Cancel", limit=6), ["Abbrechen"], "is 9 characters long; 6 fit"),
        (an_entry("Again · {amount}", limit=25), ["Noch mal · {amount}"], "is 28 characters long; 25 fit"),
        (an_entry("Name the `channel`."), ["Nenne den `channel`."], "lacks `kanal`"),
        (an_entry("`/models model:` helps"), ["`/models model:` hilft"], "lacks `/models modell:`"),
        (an_entry("count", context=OPTION), ["wie viele"], "is no name for an option"),
        (an_entry("count", context=OPTION), ["Anzahl"], "is no name for an option"),
        (an_entry("{count} job", plural="{count} jobs"), ["ein Auftrag", "{count} Aufträge"], "has no facts where"),
        (an_entry("{count} job", plural="{count} jobs"), ["{count} Auftrag", ""], "is empty"),
        (an_entry("Pictures are made in every channel"), ["Pictures are made in every channel"], "is still English"),
        (an_entry("Cancelled"), [" Abgebrochen"], "begins or ends with a blank"),
        (an_entry("Style"), ["Schlu\u0308ssel"], "has letters put together from parts"),
    ],
)
def test_a_translation_that_loses_something_is_refused(entry: Entry, said: list[str], wrong: str) -> None:
    found = complaints(entry, said, {"channel": "kanal", "model": "modell"})
    assert any(error_body.startswith(wrong) for error_body in found), found


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (an_entry("{done} of {total}"), ["{total} のうち {done}"]),
        (an_entry("Name the `channel` with `/settings channels`."), ["`/settings channels`: nenne den `kanal`."]),
        (an_entry("A picture", plural="{count} pictures"), ["Ein Bild", "{count} Bilder"]),
        (an_entry("A picture", plural="{count} pictures"), ["画像{count}枚"]),
        (an_entry("aspect_ratio", context=OPTION), ["seitenverhältnis"]),
        (an_entry("seed", context=OPTION), ["シード"]),
        (an_entry("Audio · Video"), ["Audio · Video"]),
    ],
)
def test_a_translation_may_say_it_its_own_way(entry: Entry, said: list[str]) -> None:
    assert complaints(entry, said, {"channel": "kanal"}) == []


# -- what translators work with --------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Replace the catalogues by empty ones of a small bot."""
    say(
        monkeypatch,
        ("Queued", None, "cogs/text/job_card.py", ["QUEUED"], 80),
        (("{count} picture", "{count} pictures"), None, "cogs/text/job_card.py", [], None),
        ("Name the `model`.", None, "cogs/text/job_card.py", [], None),
        ("`/models model:` helps", None, "cogs/text/job_card.py", [], None),
        ("model", OPTION, "cogs/generate/imagine.py", [], 32),
    )
    monkeypatch.setattr(languages, "FOLDER", tmp_path)
    for tag in TAGS:
        (tmp_path / f"{tag}.po").touch()
    languages.main()
    return tmp_path


def say(monkeypatch: pytest.MonkeyPatch, *texts: languages.Text) -> None:
    monkeypatch.setattr(languages, "texts", lambda: texts)


def translate(folder: Path, text: str, *said: str, fuzzy: bool = False) -> None:
    """Write a translation into the catalogue, as an editor does."""
    path = folder / "de.po"
    forms = [f'msgstr "{said[0]}"'] if len(said) == 1 else [f'msgstr[{n}] "{form}"' for n, form in enumerate(said)]
    blank = r'msgstr ""' if len(said) == 1 else r'msgstr\[0\] ""\nmsgstr\[1\] ""'
    mark = "#, fuzzy\n" if fuzzy else ""
    found, count = re.subn(
        rf'^(msgid "{re.escape(text)}"\n(?:msgid_plural .*\n)?){blank}$',
        lambda match: mark + match[1] + "\n".join(forms),
        path.read_text(),
        flags=re.MULTILINE,
    )
    assert count == 1
    path.write_text(found)


def test_a_translator_reads_what_to_mind(folder: Path) -> None:
    comments = {key[1]: text.auto_comments for key, text in read(folder / "de.po").items()}
    assert comments == {
        "Queued": ["QUEUED", "At most 80 characters"],
        ("{count} picture", "{count} pictures"): [],
        "Name the `model`.": ["`model` is an option: call it as you translate its name"],
        "`/models model:` helps": ["`model` is an option: call it as you translate its name"],
        "model": ["At most 32 characters"],
    }


def test_what_a_translator_writes_is_compiled_and_the_rest_is_said_to_be_missing(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    languages.main()
    assert "de: 5 of 5 missing" in capsys.readouterr().out
    translate(folder, "Queued", "Wartet")
    translate(folder, "{count} picture", "{count} Bild", "{count} Bilder")
    translate(folder, "model", "modell")
    languages.main()
    assert "de: 2 of 5 missing" in capsys.readouterr().out
    with (folder / "de.mo").open("rb") as file:
        words = GNUTranslations(file)
    assert words.gettext("Queued") == "Wartet"
    assert words.ngettext("{count} picture", "{count} pictures", 2) == "{count} Bilder"
    assert words.pgettext(OPTION, "model") == "modell"
    translate(folder, "Name the `model`.", "Nenne das `modell`.")
    translate(folder, "`/models model:` helps", "`/models modell:` hilft")
    languages.main()
    assert "de: all 5 there" in capsys.readouterr().out


def test_what_changed_in_the_source_is_missing_again_and_nothing_is_guessed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    translate(folder, "Queued", "Wartet")
    translate(folder, "{count} picture", "{count} Bild", "{count} Bilder")
    translate(folder, "model", "modell")
    say(
        monkeypatch,
        ("Queued up", None, "a.py", [], None),
        (("{count} picture", "{count} images"), None, "a.py", [], None),
        ("model", OPTION, "a.py", [], None),
    )
    languages.main()
    assert {key: forms_of(message) for key, message in read(folder / "de.po").items()} == {
        (None, "Queued up"): [],
        (None, ("{count} picture", "{count} images")): [],
        (OPTION, "model"): ["modell"],
    }


def test_a_translation_marked_as_unsure_is_kept_but_missing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    translate(folder, "Queued", "Wartet", fuzzy=True)
    capsys.readouterr()
    languages.main()
    assert "de: 5 of 5 missing" in capsys.readouterr().out
    assert '#, fuzzy\nmsgid "Queued"\nmsgstr "Wartet"' in (folder / "de.po").read_text()
    with (folder / "de.mo").open("rb") as file:
        assert GNUTranslations(file).gettext("Queued") == "Queued"


# -- the files ------------------------------------------------------------------------------------------------


def test_the_catalogues_are_what_the_source_says_and_what_is_compiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(FOLDER, tmp_path, dirs_exist_ok=True)
    monkeypatch.setattr(languages, "FOLDER", tmp_path)
    languages.main()
    changed = [
        file.name for file in sorted(FOLDER.iterdir()) if file.read_bytes() != (tmp_path / file.name).read_bytes()
    ]
    assert changed == [], "make languages"


# -- commands ------------------------------------------------------------------------------------------------


@pytest.fixture
async def registered(tmp_path: Path) -> AsyncGenerator[list[dict[str, Any]]]:
    """Return all commands of the real bot, as sent to Discord."""
    image_pool = KeepingImagePool()
    async with opened_core(tmp_path, image_pool, slots=1) as core:
        tree = core.bot.tree
        await core.bot._add_commands()
        yield [await command.get_translated_payload(tree, CommandTranslator()) for command in tree.get_commands()]
    await image_pool.close()


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One text of a command: its place, the English text, and the translations by locale."""

    where: str
    context: str | None
    english: str
    localized: dict[str, str]


def texts(command: dict[str, Any], where: str = "") -> Iterator[Shown]:
    """Yield every text of a command that users read."""
    kind = command.get("type", 1)
    context = (OPTION if kind > GROUP else None) if where else MENU if kind == MESSAGE_MENU else None
    where = f"{where} {command['name']}".strip()

    def text(item: dict[str, Any], field: str, context: str | None) -> Shown:
        localized = item.get(f"{field}_localizations") or {}
        return Shown(where=where, context=context, english=item[field], localized=localized)

    if context is not None:
        yield text(command, "name", context)
    else:
        assert not command["name_localizations"], f"/{where} is called the same in every language"
    if command.get("description"):
        yield text(command, "description", None)
    for choice in command.get("choices", ()):
        yield text(choice, "name", CHOICE)
    for option in command.get("options", ()):
        yield from texts(option, where)


async def test_every_text_of_a_command_can_be_translated(registered: list[dict[str, Any]]) -> None:
    found = [text for command in registered for text in texts(command)]
    assert {text.context for text in found} == {None, OPTION, CHOICE, MENU}
    assert [text for text in found if (text.context, text.english) not in SAID] == []


@every_language
async def test_commands_are_described_in_the_readers_language(registered: list[dict[str, Any]], tag: str) -> None:
    translated = forms(tag)
    for text in (text for command in registered for text in texts(command)):
        said = translated.get((text.context, text.english)) or [text.english]
        seen = {text.localized.get(locale, text.english) for locale in LOCALES[tag]}
        assert seen == set(said), text


async def test_who_speaks_none_of_our_languages_reads_english(registered: list[dict[str, Any]]) -> None:
    found = {locale for command in registered for text in texts(command) for locale in text.localized}
    assert found <= {locale for locales in LOCALES.values() for locale in locales}


@every_language
async def test_no_two_options_of_a_command_have_the_same_name(registered: list[dict[str, Any]], tag: str) -> None:
    for command in registered:
        for part in (command, *command.get("options", ())):
            options = [option for option in part.get("options", ()) if option["type"] > SUBCOMMAND]
            names_localized = [option.get("name_localizations", {}) for option in options]
            called = Counter(
                localized.get(LOCALES[tag][0], option["name"])
                for option, localized in zip(options, names_localized, strict=True)
            )
            assert all(count == 1 for count in called.values()), (command["name"], part["name"], called)


async def test_discord_takes_the_commands_in_all_languages(registered: list[dict[str, Any]]) -> None:
    for command in registered:
        check_command(command)


def a_command(**more: Any) -> dict[str, Any]:
    options = [
        {"type": 3, "name": "prompt", "description": "What", "name_localizations": {"de": "text"}},
        {"type": 3, "name": "style", "description": "How"},
    ]
    return {"name": "imagine", "description": "Make a picture", "options": options, **more}


@pytest.mark.parametrize(
    "localized",
    [
        {"description_localizations": {"de": "x" * 101}},
        {"description_localizations": {"de": ""}},
        {"description_localizations": {"de-DE": "Mach ein Bild"}},
        {"name_localizations": {"de": "Bild machen"}},
        {"options": [{"type": 3, "name": "p", "description": "W", "name_localizations": {"ja": "プロンプト・二"}}]},
        {"options": [*a_command()["options"], {"type": 3, "name": "text", "description": "W"}]},
        {"options": [{"type": 3, "name": "p", "description": "W", "description_localizations": {"fr": "x" * 101}}]},
        {
            "options": [
                {"type": 3, "name": f"p{n}", "description": "W", "description_localizations": {"fr": "x" * 100},
                 "choices": [{"name": "W", "value": f"{m}", "name_localizations": {"fr": "x" * 100}} for m in range(9)]}
                for n in range(8)
            ]
        },
        {"type": 3, "name": "Edit this image", "name_localizations": {"fr": "x" * 33}},
    ],
)  # fmt: skip
def test_the_local_discord_refuses_what_discord_would_refuse(localized: dict[str, Any]) -> None:
    check_command(a_command())
    with pytest.raises(ApiError):
        check_command(a_command(**localized))


# -- saying it --------------------------------------------------------------------------------------------------


@every_language
def test_help_describes_commands_as_the_menu_of_commands_does(tag: str) -> None:
    said = forms_of(read(FOLDER / f"{tag}.po").get((None, "Make an image from text")))
    with use_locale(tag):
        assert [described("Make an image from text")] == (said or ["Make an image from text"])


def test_each_locale_of_our_languages_gets_its_language() -> None:
    found = {tag: {locale.value for locale in Locale if language_for(locale.value) == tag} for tag in TAGS}
    assert found == {tag: set(locales) for tag, locales in LOCALES.items()}
