"""The language of each message. The tests use small catalogues, so that they do not depend on real translations."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import discord
import pytest
from babel.messages.catalog import Catalog
from babel.messages.mofile import write_mo
from simcord import interactions
from simcord.actors import MemberActor

from bot.domain.money.quota import Period
from cogs.text import audit_entries, formatting, job_card, limit_warnings, moderation, refusals, spending
from cogs.text import locale as language
from cogs.text.locale import Phrase, Plural
from tests.support.discord_stage import Card, Stage

SAID: dict[str, dict[Phrase | Plural, str | tuple[str, ...]]] = {
    "de": {
        job_card.COMPLETED: "Fertig",
        job_card.COST: "kostete {amount}",
        job_card.CANCEL: "Abbrechen",
        job_card.EDIT_MODAL_TITLE: "Bild ändern",
        refusals.UNKNOWN_MODEL: "Es gibt kein Modell `{model}`.",
        refusals.SERVER_ONLY: "Das geht nur auf einem Server.",
        spending.MODELS: ("{count} Modell", "{count} Modelle"),
        spending.NOT_SET: "nicht gesetzt",
        spending.PER_PERIOD[Period.WEEK]: "{amount} pro Woche",
        audit_entries.AUDIT_ACTIONS["set"]: "{who} hat ein Limit gesetzt: {subject}",
        moderation.FOR_ROLE: "{name} für {role}",
        Phrase("not listed"): "nicht gelistet",
        Phrase("listed"): "gelistet",
        Phrase("denied"): "verboten",
        limit_warnings.MEMBER_WARNING: "Du hast {percent} % deines Kontingents verbraucht.",
    },
    "fr": {
        job_card.PROCESSING: "En cours",
        job_card.COMPLETED: "Terminé",
        job_card.NOT_YOURS: "Ce n'est pas à vous.",
        job_card.CANCELLED_BECAUSE: "Annulé par la modération : `{reason}`",
        moderation.NO_REASON: "sans raison",
        moderation.LOG_HELLO: "Chaque commande sera affichée ici.",
        limit_warnings.SERVER_WARNING: "Ce serveur a utilisé {percent} % de son plafond.",
    },
    "es": {job_card.NOT_YOURS: "No es tuya.", moderation.CANCEL_CHOICE: "Cancela uno…"},
    "pt": {},
    "ja": {job_card.COMPLETED: "完成", refusals.WORD_NOT_WELCOME: "`{word}`は使えません。"},
}


@pytest.fixture(autouse=True)
def catalogues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    """Replace the catalogues by ones with only these phrases."""
    folder = tmp_path / "languages"
    folder.mkdir()
    for tag, phrases in SAID.items():
        catalogue = Catalog(locale=tag)
        for phrase, said in phrases.items():
            catalogue.add(phrase.text if isinstance(phrase, Phrase) else (phrase.singular, phrase.plural), said)
        with (folder / f"{tag}.mo").open("wb") as file:
            write_mo(file, catalogue)
    monkeypatch.setattr(language, "FOLDER", folder)
    language.translations_of.cache_clear()
    yield
    language.translations_of.cache_clear()


@pytest.fixture(autouse=True)
def locales(monkeypatch: pytest.MonkeyPatch) -> dict[int, str]:
    """Return the members' locales at Discord by user id, which a test may change; English by default."""
    found: dict[int, str] = {}
    base_payload = interactions.base_payload

    def localised(backend: Any, *, guild_id: int | None, user_id: int, **more: Any) -> Any:
        record, payload = base_payload(backend, guild_id=guild_id, user_id=user_id, **more)
        payload["locale"] = found.get(user_id, "en-US")
        if guild_id is not None:
            payload["guild_locale"] = backend.get_guild(guild_id).preferred_locale
        return record, payload

    monkeypatch.setattr(interactions, "base_payload", localised)
    return found


class Place:
    """A server whose Discord is French, with Zoé who is a member and Max who moderates."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.guild = stage.env.create_guild("Atelier", preferred_locale="fr")
        self.channel = self.guild.create_text_channel("images")
        self.zoe = self.guild.add_member(stage.env.create_user("zoe"))
        keepers = self.guild.create_role("Keepers", permissions=discord.Permissions(manage_guild=True))
        self.max = self.guild.add_member(stage.env.create_user("max"), roles=[keepers])

    async def said_to(self, who: MemberActor, command: str, **options: Any) -> Card:
        return self._stage.said(await who.slash(self.channel, command, **options))

    async def imagine(self, **options: Any) -> Card:
        return self._stage.ordered(await self.zoe.slash(self.channel, "imagine", prompt="a red fox", **options))

    async def log(self) -> Any:
        channel = self.guild.create_text_channel("journal")
        await self.said_to(self.max, "settings log-channel", channel=channel)
        return channel


@pytest.fixture
def paris(stage: Stage) -> Place:
    return Place(stage)


# -- members ---------------------------------------------------------------------------------------------------


async def test_a_refusal_speaks_the_members_language_and_the_card_the_servers(
    stage: Stage, locales: dict[int, str]
) -> None:
    locales[stage.ada.id] = "de"
    refusal = await stage.imagine(model="nothing like it at all")
    # What was typed is given back below.
    sentence = refusal.text.split("\n```")[0]
    assert (sentence, refusal.private) == ("Es gibt kein Modell `nothing like it at all`.", True)
    card = await stage.imagine()
    text = await stage.until_says(card, "Completed")
    assert "cost **$0.08**" in text
    assert (await stage.imagine(stage.bob, model="nothing like it at all")).text.startswith("There is no model")


async def test_a_private_card_speaks_the_members_language_to_the_end(stage: Stage, locales: dict[int, str]) -> None:
    locales[stage.ada.id] = "de"
    stage.core.krea.waits = True
    card = await stage.imagine(private=True)
    assert "Abbrechen" in card.buttons
    await stage.until(lambda: stage.core.krea.accepted == 1)
    await stage.restart()
    stage.core.krea.finishes()
    assert "kostete **$0.08**" in await stage.until_says(card, "Fertig")


async def test_what_is_not_translated_and_who_speaks_another_language_gets_english(
    stage: Stage, locales: dict[int, str]
) -> None:
    locales[stage.ada.id] = "pt-BR"
    locales[stage.bob.id] = "sv-SE"
    for who in (stage.ada, stage.bob):
        assert (await stage.imagine(who, model="nothing like it at all")).text.startswith("There is no model")


async def test_suggestions_and_failures_of_commands_speak_the_members_language(
    stage: Stage, locales: dict[int, str]
) -> None:
    locales[stage.mo.id] = "de"
    choices = await stage.mo.autocomplete(stage.channel, "settings models", "model", "krea/google/*")
    assert any(choice["name"].startswith("krea/google/* · ") and " Modelle" in choice["name"] for choice in choices)
    command = next(found for (name, _), found in stage.env.backend.commands[None].items() if name == "usage")
    command |= {"dm_permission": True, "contexts": None}
    stage.env.backend.get_dm_channel(stage.mo.id)
    assert stage.said(await stage.mo.user.slash("usage")).text == "Das geht nur auf einem Server."
    assert len(stage.env.errors) == 1


async def test_a_warning_about_the_quota_speaks_the_members_language(stage: Stage, locales: dict[int, str]) -> None:
    locales[stage.ada.id] = "de"
    await stage.quota("set", member=stage.ada, amount="0.10")
    result = await stage.ada.slash(stage.channel, "imagine", prompt="a red fox")
    assert stage.said(result).text == "Du hast 80 % deines Kontingents verbraucht."
    await stage.until_says(stage.ordered(result), "Completed")


# -- buttons, choices and forms --------------------------------------------------------------------------------


async def test_a_button_answers_in_the_language_of_who_presses_it(
    stage: Stage, locales: dict[int, str], paris: Place
) -> None:
    pablo = paris.guild.add_member(stage.env.create_user("pablo"))
    locales[pablo.id], locales[paris.zoe.id] = "es-419", "fr"
    card = await paris.imagine()
    await stage.until_says(card, "Terminé")
    assert stage.said(await stage.press(pablo, card, "Delete")).text == "No es tuya."
    locales[pablo.id] = "fr"
    assert stage.said(await stage.press(pablo, card, "Delete")).text == "Ce n'est pas à vous."


async def test_a_form_asks_and_answers_in_the_language_of_who_opened_it(
    stage: Stage, locales: dict[int, str], paris: Place
) -> None:
    locales[paris.zoe.id] = "de"
    card = await paris.imagine()
    await stage.until_says(card, "Terminé")
    form = await stage.press(paris.zoe, card, "Edit")
    assert form.modal is not None
    assert form.modal["title"] == "Bild ändern"
    await stage.core.store.change_policy(
        paris.guild.id,
        lambda policy: replace(policy, words=("blue",)),
        actor_id=paris.max.id,
        reason=None,
        now=datetime.now(UTC),
    )
    locales[paris.zoe.id] = "ja"  # a locale changed in between applies to the response
    refused = stage.said(await paris.zoe.submit_modal(form, {"prompt": "make it blue"}))
    assert refused.text.startswith("`blue`は使えません。")


async def test_a_moderator_who_gives_no_reason_says_so_in_the_language_of_the_card(
    stage: Stage, locales: dict[int, str], paris: Place
) -> None:
    locales[paris.max.id] = "es-ES"
    stage.core.krea.waits = True
    card = await paris.imagine()
    await stage.until_says(card, "En cours")
    page = await paris.said_to(paris.max, "jobs")
    choice = next(part for part in page.components if part.get("custom_id") == "jobs:cancel")
    assert choice["placeholder"] == "Cancela uno…"
    form = await paris.max.select(page.message, [choice["options"][0]["value"]], custom_id="jobs:cancel")
    await paris.max.submit_modal(form, {"reason": " "})
    await stage.until_says(card, "Annulé par la modération : `sans raison`")


# -- servers ---------------------------------------------------------------------------------------------------


async def test_a_card_speaks_the_servers_language_also_after_a_restart(
    stage: Stage, locales: dict[int, str], paris: Place
) -> None:
    locales[paris.zoe.id] = "de"
    stage.core.krea.waits = True
    card = await paris.imagine()
    await stage.until_says(card, "En cours")
    await paris.said_to(paris.max, "settings language", language="ja")  # existing cards keep their language
    await stage.restart()
    stage.core.krea.finishes()
    await stage.until_says(card, "Terminé")


async def test_what_moderators_choose_comes_before_what_the_server_speaks_in_discord(
    stage: Stage, paris: Place
) -> None:
    assert "**Language:** Français, as in Discord · " in (await paris.said_to(paris.max, "settings show")).text
    said = await paris.said_to(paris.max, "settings language", language="ja", reason="we moved")
    assert "Public cards and the log are in **日本語** (set by moderators)." in said.text
    await stage.until_says(await paris.imagine(), "完成")
    assert "**Language:** 日本語 · " in (await paris.said_to(paris.max, "settings show")).text
    record = (await paris.said_to(paris.max, "quota audit")).text
    assert f"<@{paris.max.id}> changed the language: not set → 日本語 · `we moved`" in record

    said = await paris.said_to(paris.max, "settings language", clear=True)
    assert "are in **Français**, like this server in Discord." in said.text
    assert (await paris.said_to(paris.max, "settings language")).text in said.text
    await stage.until_says(await paris.imagine(), "Terminé")


async def test_the_log_and_its_warnings_speak_the_servers_language(
    stage: Stage, locales: dict[int, str], paris: Place
) -> None:
    locales[paris.zoe.id] = locales[paris.max.id] = "de"
    log = await paris.log()
    assert [card.text for card in stage.cards(log)] == ["Chaque commande sera affichée ici."]
    await paris.said_to(paris.max, "quota server", amount="0.10", period="month")
    card = await paris.imagine(private=True)
    await stage.until_says(card, "Fertig")
    await stage.until(lambda: len(stage.cards(log)) == 3)
    texts = [card.text for card in stage.cards(log)[1:]]
    assert "Ce serveur a utilisé 80 % de son plafond." in texts
    assert any("Terminé" in text for text in texts)

    await paris.said_to(paris.max, "settings language", language="de")
    await paris.said_to(paris.max, "quota server", amount="100", period="month")
    await stage.until_says(await paris.imagine(), "Fertig")
    await stage.until(lambda: len(stage.cards(log)) == 4)
    assert "Fertig" in stage.cards(log)[-1].text


async def test_the_record_of_changes_is_shown_in_the_readers_language(stage: Stage, locales: dict[int, str]) -> None:
    await stage.quota("set", member=stage.ada, amount="5", period="week")
    await stage.settings("words", action="add", words="not listed")
    await stage.settings("models", action="deny", model="krea/google/*", role=stage.artists)
    english = (await stage.quota("audit")).text
    locales[stage.mo.id] = "de"
    german = (await stage.quota("audit")).text
    assert f"hat ein Limit gesetzt: <@{stage.ada.id}>: nicht gesetzt → $5.00 pro Woche" in german
    assert ": `not listed` nicht gelistet → gelistet" in german
    assert f": `krea/google/*` für <@&{stage.artists.id}> nicht gelistet → verboten" in german
    locales[stage.mo.id] = "pt-BR"
    assert (await stage.quota("audit")).text == english


async def test_alerts_to_the_operator_are_in_english_for_orders_in_any_language(
    stage: Stage, locales: dict[int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(stage.core.bot.operator_alerts, "send", lambda matter, text: told.append(text))
    capped = replace(stage.core.service.limits, operator_daily_cap_usd_micros=90_000)
    monkeypatch.setattr(stage.core.service, "limits", capped)
    locales[stage.ada.id] = "de"
    await stage.until_says(await stage.imagine(), "Completed")
    await stage.until(lambda: told)
    assert [text.split(":")[0][:45] for text in told] == ["All servers together have used 88% of today's"]


# -- phrases ---------------------------------------------------------------------------------------------------


def test_a_phrase_that_was_not_called_is_no_text() -> None:
    for phrase in (job_card.QUEUED, formatting.PICTURES):
        with pytest.raises(TypeError, match="was not said"):
            str(phrase)
        with pytest.raises(TypeError, match="was not said"):
            f"{phrase}"


def test_numbers_take_the_form_of_the_language() -> None:
    with language.use_locale("de"):
        assert (spending.MODELS(1), spending.MODELS(2_000)) == ("1 Modell", "2\u202f000 Modelle")
    assert (spending.MODELS(1), spending.MODELS(2_000)) == ("1 model", "2,000 models")


def test_a_language_is_spoken_for_a_while_and_then_the_one_before() -> None:
    with language.use_locale("de"):
        with language.use_locale("fr"):
            assert job_card.COMPLETED() == "Terminé"
        assert job_card.COMPLETED() == "Fertig"
    assert job_card.COMPLETED() == "Completed"


@pytest.mark.parametrize(
    ("locale", "tag"), [("es-419", "es"), ("pt-BR", "pt"), ("en-GB", "en"), ("zh-CN", "en"), ("", "en"), (None, "en")]
)
def test_every_locale_of_discord_has_a_language(locale: str | None, tag: str) -> None:
    assert language.language_for(locale) == tag
