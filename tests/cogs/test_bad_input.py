"""Bad input, for every option of every command: a private sentence that says what is wrong and what would be right.

`BAD` is what people can really type, pick or attach. `FORGED` is what Discord itself would not let through, sent by a
modified client. What is in neither has its reason in `ALWAYS_RIGHT`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from discord import AppCommandOptionType, app_commands

from bot.domain.policy import Policy
from cogs.moderation.quota import REASON_CHARACTERS
from cogs.text import job_card, refusals
from cogs.ui.error_handler import Form, ReasonForm
from tests.support.catalogue_samples import CATALOGUE, FLUX, KREA_LARGE, MOODBOARD, NANO_BANANA_2, PIXAZO_LARGE, TOPAZ
from tests.support.discord_stage import Card, Stage
from tests.support.image_samples import animated, image, png_of_zeros

PNG = image("PNG")
TEXT = ("notes.txt", b"hello")
LARGEST_INTEGER = 2**53 - 1
"""Discord sends none that is larger."""

SEEDREAM = "krea/bytedance/seedream-4"
ONLY_EDITS = "krea/bytedance/seededit"
NO_REFERENCE = "krea/bfl/flux-1.1-pro"
NO_PRICE = "krea/google/nano-banana-2.1"


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """`value` for `option` among `others` is answered with every one of `says`."""

    command: str
    option: str
    value: Any
    says: tuple[str, ...]
    others: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.command} {self.option}:{str(self.value)[:20]!r}"


def bad(command: str, option: str, value: Any, *says: str, **others: Any) -> Case:
    return Case(command=command, option=option, value=value, says=says, others=others)


def filled(stage: Stage, command: str, options: dict[str, Any]) -> dict[str, Any]:
    """Add the required options, and replace placeholders by members and roles."""
    cast = {
        "@ada": stage.ada,
        "@artists": stage.artists,
        "#studio": stage.channel,
        "@robot": stage.guild.add_member(stage.env.create_user("robot", bot=True)),
    }
    given = {**NEEDED.get(command, {}), **options}
    return {name: cast.get(value, value) if isinstance(value, str) else value for name, value in given.items()}


NEEDED: dict[str, dict[str, Any]] = {
    "imagine": {"prompt": "a red fox"},
    "edit": {"prompt": "make it blue", "image": ("fox.png", PNG)},
    "compare": {"prompt": "a red fox", "model1": NANO_BANANA_2, "model2": FLUX},
    "preset add": {"name": "mine"},
    "preset remove": {"name": "mine"},
    "quota set": {"member": "@ada"},
    "quota grant": {"member": "@ada"},
    "quota role": {"role": "@artists"},
    "quota channel": {"channel": "#studio"},
}
"""The required options of each command."""

A_MODEL = [
    (
        "krea/google/nano-banan",
        ("There is no model `krea/google/nano-banan`", "Did you mean `krea/google/nano-banana`"),
    ),
    ("zzzz", ("There is no model `zzzz`", "the list that appears as you type")),
    ("no`such`model\n", ("There is no model `noˋsuchˋmodel`",)),
    ("m" * 3_000, ("There is no model `mmm",)),
    (NO_PRICE, (f"`{CATALOGUE.get(NO_PRICE).label}` cannot be ordered", "its price", "Pick another model")),
    (TOPAZ, (f"`{CATALOGUE.get(TOPAZ).label}`",)),
]
NO_AMOUNT = [
    "five",
    "-1",
    "+1",
    "1 0",
    "$ 5",
    "5 $",
    "٥",
    "5\u00a00",
    "1,5",
    "1e3",
    "12345678",
    "0.1234567",
    " ",
    "x" * 500,
]
NO_AMOUNT_SAYS = ("is not an amount", "Give dollars such as `5`, `2.50` or `$0.065`")
COMMANDS_WITH_AMOUNT = ("quota set", "quota grant", "quota role", "quota default", "quota server", "quota channel")

BAD = [
    # -- /imagine
    bad("imagine", "prompt", "", "Describe the image in at least 3 characters"),
    bad("imagine", "prompt", " \n ", "Describe the image in at least 3 characters", "characters"),
    bad("imagine", "prompt", "\u200b\u2060", "Describe the image"),
    bad("imagine", "prompt", "\u2800" * 4, "Describe the image in at least 3 characters"),
    bad("imagine", "prompt", "\u3164\u1160\uffa0 \u200f\ufe0f\u0301", "Describe the image in at least 3 characters"),
    bad("edit", "prompt", "\u2800" * 4, "Describe the image in at least 3 characters", image=("a.png", PNG)),
    bad("imagine", "prompt", "ab", "Describe the image in at least 3 characters"),
    bad("imagine", "prompt", "x" * 1_801, "`prompt` has 1,801 characters", "1 to 1,800", model=FLUX),
    *(bad("imagine", "model", value, *says) for value, says in A_MODEL),
    bad(
        "imagine",
        "model",
        ONLY_EDITS,
        "`SeedEdit` does not work with this command",
        "the list that appears as you type",
    ),
    bad("imagine", "aspect_ratio", "7:7", "`aspect_ratio` does not fit Nano Banana 2", "16:9"),
    bad("imagine", "aspect_ratio", "wide", "`aspect_ratio`", "Flux 1 Dev", "21:9", model=FLUX),
    bad("imagine", "aspect_ratio", "x" * 2_000, "`aspect_ratio`", "16:9"),
    bad("imagine", "aspect_ratio", "0:0", "`aspect_ratio`", "1:1", model=SEEDREAM),
    bad("imagine", "resolution", "8K", "`resolution`", "1K, 2K, 4K"),
    bad("imagine", "resolution", "2K", "`resolution` does not fit Krea 2 Large", "1K", model=KREA_LARGE),
    bad("imagine", "resolution", "1K", "Flux 1 Dev does not take `resolution`", "`seed`", model=FLUX),
    bad("imagine", "reference", TEXT, "`notes.txt` is not an image", "Attach a PNG, JPEG, WebP"),
    bad("imagine", "reference", ("a.png", PNG), "Flux 1.1 Pro does not take `reference`", model=NO_REFERENCE),
    bad("imagine", "seed", -1, "`seed`", "a whole number from 0", model=FLUX),
    bad("imagine", "seed", -LARGEST_INTEGER, "`seed`", "a whole number from 0", model=FLUX),
    bad("imagine", "seed", 2**31, "`seed`", "to 2,147,483,647", model=FLUX),
    bad("imagine", "seed", LARGEST_INTEGER, "`seed`", "to 2,147,483,647", model=PIXAZO_LARGE),
    bad("imagine", "seed", 1, "Nano Banana 2 does not take `seed`", "It takes `aspect_ratio`, `resolution`"),
    bad("imagine", "creativity", "wild", "`creativity`", "raw, low, medium, high", model=KREA_LARGE),
    bad("imagine", "creativity", "raw", "does not take `creativity`", "It takes"),
    bad("imagine", "style", "ink", "Nano Banana 2 does not take `style`", "It takes"),
    bad("imagine", "style", "two words", "`style`", "ids without spaces", model=FLUX),
    bad("imagine", "style", "x" * 201, "`style`", "each of at most 200 characters", model=FLUX),
    bad("imagine", "style", " ", "`style`", "ids without spaces", model=FLUX),
    bad("imagine", "moodboard", "mine", "`moodboard`", "a UUID such as", model=KREA_LARGE),
    bad("imagine", "moodboard", MOODBOARD[:-1], "`moodboard`", "a UUID such as", model=KREA_LARGE),
    bad("imagine", "moodboard", MOODBOARD, "Nano Banana 2 does not take `moodboard`", "It takes"),
    *(
        bad("imagine", f"reference{number}", TEXT, "`notes.txt` is not an image", "Attach a PNG, JPEG, WebP")
        for number in range(2, 11)
    ),
    bad("imagine", "preset", "zzzz", "There is no preset `zzzz`", "the list that appears as you type"),
    bad("imagine", "more", "steps=many", "`steps`", "Flux 1 Dev", model=FLUX),
    bad("imagine", "more", "wings=2", "Flux 1 Dev does not take `wings`", "It takes", model=FLUX),
    # -- /edit
    bad("edit", "prompt", " ", "Describe the image in at least 3 characters"),
    bad("edit", "image", TEXT, "`notes.txt` is not an image", "Attach a PNG, JPEG, WebP"),
    bad("edit", "image", ("a.png", PNG[: len(PNG) // 2]), "`a.png` is damaged or cut short"),
    bad("edit", "image", ("a.gif", animated("GIF")), "`a.gif`", "Attach a"),
    bad("edit", "image2", ("a.webp", animated("WEBP")), "`a.webp` is animated", "Attach a still image"),
    bad(
        "edit",
        "image2",
        ("b.png", PNG),
        "Flux 1 Dev takes only 1 image. Remove `image2`",
        "or pick another model",
        model=FLUX,
    ),
    bad("edit", "image3", ("a.png", png_of_zeros(12_000, 12_000)), "`a.png` has too many pixels", "megapixels"),
    bad("edit", "image4", ("a.png", png_of_zeros(1, 1)), "`a.png` is too small"),
    *(bad("edit", "model", value, *says) for value, says in A_MODEL),
    bad("edit", "model", PIXAZO_LARGE, "`Krea 2 Large (Pixazo)` does not work with this command"),
    bad("edit", "aspect_ratio", "7:7", "`aspect_ratio` does not fit Nano Banana 2", "16:9"),
    bad("edit", "resolution", "8K", "`resolution`", "1K, 2K, 4K"),
    bad("edit", "seed", 1, "Nano Banana 2 does not take `seed`", "It takes"),
    bad("edit", "seed", -1, "`seed`", "a whole number from 0", model=FLUX),
    bad("edit", "preset", "zzzz", "There is no preset `zzzz`", "the list that appears as you type"),
    bad("edit", "more", "wings=2", "Nano Banana 2 does not take `wings`", "It takes"),
    # -- /compare
    bad("compare", "prompt", " ", "Describe the image in at least 3 characters"),
    *(
        bad("compare", f"model{number}", "zzzz", "There is no model `zzzz`", "the list that appears as you type")
        for number in (1, 2, 3, 4)
    ),
    bad("compare", "model3", FLUX, "Flux 1 Dev is named twice"),
    bad("compare", "aspect_ratio", "7:7", "`aspect_ratio` does not fit", "16:9"),
    # -- presets and defaults
    bad("preset add", "name", " ", "a name of 1 to 50 characters"),
    bad("preset add", "model", "zzzz", "There is no model `zzzz`", "the list that appears as you type"),
    bad("preset add", "options", "wings=2", "does not take `wings`", "It takes", model=FLUX),
    bad("preset add", "before", " ", "Give the preset something to do"),
    bad("preset add", "after", " ", "Give the preset something to do"),
    bad("preset add", "reference", ("notes.txt", b"no image"), "notes.txt"),
    bad("preset add", "style", "x" * 1_001, "A preset takes at most 1,000 characters of options", model=FLUX),
    bad("preset add", "style", "two words", "`style`", "ids without spaces", model=FLUX),
    bad("preset remove", "name", "zzzz", "There is no preset `zzzz` here that you can remove"),
    bad("defaults set", "model", "zzzz", "There is no model `zzzz`", "the list that appears as you type"),
    bad("defaults set", "aspect_ratio", "7:7", "No model here takes `aspect_ratio: 7:7`"),
    bad("defaults set", "resolution", "9K", "No model here takes `resolution: 9K`"),
    bad("defaults set", "preset", "zzzz", "There is no preset `zzzz`", "the list that appears as you type"),
    # -- commands that look something up
    bad("history", "words", "zzzz", "You have no images here with `zzzz` in their prompt"),
    bad("history", "model", "zzzz", "You have no images made with `zzzz` here"),
    bad("models", "model", "zzzz", "There is no model `zzzz`", "the list that appears as you type"),
    bad("models", "model", "nano-bananna-2", "There is no model", f"Did you mean `{NANO_BANANA_2}`"),
    # -- money
    *(bad(command, "amount", amount, *NO_AMOUNT_SAYS) for command in COMMANDS_WITH_AMOUNT for amount in NO_AMOUNT),
    bad("quota grant", "amount", "0", "more than zero"),
    bad("quota grant", "amount", "unlimited", "more than zero"),
    bad("quota set", "member", "@robot", "is a bot", amount="5"),
    bad("quota grant", "member", "@robot", "is a bot", amount="5"),
    bad("quota clear", "member", "@ada", "member", "role", role="@artists"),
    bad("quota clear", "role", "@artists", "No limit is set for"),
    bad("quota clear", "channel", "#studio", "either a `member`, a `role` or a `channel`", role="@artists"),
    # -- settings
    bad("settings channels", "action", "allow", "`channel`"),
    bad("settings models", "action", "deny", "`model`"),
    bad("settings models", "model", "krea/nobody/*", "No model matches `krea/nobody/*`", action="deny"),
    bad("settings models", "model", "(a+)+*", "No model matches", action="deny"),
    bad("settings models", "model", "nano-bananna-2", "Did you mean", action="deny"),
    bad("settings models", "role", "@artists", "`model`", action="deny"),
    bad("settings default-model", "model", "zzzz", "There is no model `zzzz`"),
    bad("settings default-model", "model", TOPAZ, "cannot be the default"),
    bad("settings default-model", "clear", True, "`clear`", model=FLUX),
    bad("settings age-restricted", "action", "add", "`model`"),
    bad("settings age-restricted", "model", "pixazo/?", "No model matches `pixazo/?`", action="add"),
    bad("settings review", "action", "add", "`channel`, a `role` or a `model`"),
    bad("settings review", "model", "krea/nobody/*", "No model matches `krea/nobody/*`", action="remove"),
    bad("settings review", "role", "@artists", "`review_channel`", action="add"),
    bad("settings review", "channel", "#studio", "`action`"),
    bad("settings spoilers", "action", "add", "`channel`"),
    bad("settings spoilers", "channel", "#studio", "`action`"),
    bad("settings words", "action", "add", "`words`"),
    bad("settings words", "words", " , ,", "`words`", action="add"),
    bad("settings words", "words", "fine, *", "`*` cannot go on the list", action="add"),
    bad("settings words", "words", "x" * 61, "cannot go on the list", action="add"),
    bad("settings language", "clear", True, "`clear`", language="de"),
    bad("settings time-zone", "zone", "Mars/Olympus_Mons", "There is no time zone `Mars/Olympus_Mons`"),
    bad("settings time-zone", "zone", "`../../etc/passwd`", "There is no time zone"),
    bad("settings show", "model", "zzzz", "There is no model `zzzz`"),
]

FORGED = [
    # the right one, as the client believes to send it, and what arrives
    ("usage", {"period": "this"}, "decade"),
    ("quota set", {"period": "day", "amount": "5"}, "decade"),
    ("quota role", {"period": "day", "amount": "5"}, "decade"),
    ("quota default", {"period": "day", "amount": "5"}, ""),
    ("quota server", {"period": "day", "amount": "5"}, "x" * 500),
    ("quota channel", {"period": "day", "amount": "5"}, "decade"),
    ("quota report", {"period": "day"}, "decade"),
    ("preset add", {"for": "own", "name": "mine", "before": "a drawing of"}, "explode"),
    ("preset remove", {"for": "own", "name": "mine"}, "explode"),
    ("settings channels", {"action": "allow"}, "explode"),
    ("settings models", {"action": "deny", "model": FLUX}, "explode"),
    ("settings age-restricted", {"action": "add", "model": FLUX}, "explode"),
    ("settings review", {"action": "clear"}, "explode"),
    ("settings spoilers", {"action": "clear"}, "explode"),
    ("settings words", {"action": "add", "words": "gore"}, "explode"),
    ("settings language", {"language": "de"}, "xx"),
]

ALWAYS_RIGHT = {
    "private": "yes or no, and both are right",
    "reason": "any text",
    "history favourites": "yes or no",
    "edit count": "as that of /imagine",
    "imagine count": "Discord takes 1 to 4 and nothing else; whatever arrives is brought within that",
    "settings log-channel channel": "whatever text channel is picked; whether the bot may post there is tried out",
    "settings log-channel clear": "yes or no",
    "settings weekly-report channel": "whatever text channel is picked",
    "settings weekly-report clear": "yes or no",
    "settings showcase channel": "whatever text channel is picked; whether the bot may post there is in test_share",
    "settings showcase clear": "yes or no",
    "settings showcase stars": "discord.py refuses any other number, as for count",
    "settings review review_channel": "whatever channel is picked; whether the bot may post there is in test_review",
    "settings welcome on": "yes or no",
    "quota channel channel": "whatever channel is picked; a thread is in test_channel_caps",
    "settings channels channel": "whatever channel is picked",
    "settings show channel": "whatever channel is picked",
    "settings show member": "any member",
    "quota show member": "any member has a limit",
    "quota role role": "whatever role is picked; one of another server is in test_rows_moderators",
    "quota block member": "any member",
    "quota unblock member": "any member",
    "quota reset member": "any member",
    "quota audit member": "any member has a record, if an empty one",
}
"""Options, of one command or of all, for which there is nothing wrong to choose."""


# -- nothing is left out ------------------------------------------------------------------------------------------


def options_of(stage: Stage) -> Iterator[tuple[str, str]]:
    """Yield every option of every command, as registered at Discord."""
    for command in stage.core.bot.tree.walk_commands():
        if isinstance(command, app_commands.Command):
            for parameter in command.parameters:
                yield command.qualified_name, str(parameter.display_name)


async def test_every_option_of_every_command_is_in_the_table_or_cannot_be_wrong(stage: Stage) -> None:
    tried = {(case.command, case.option) for case in BAD}
    tried |= {(command, next(iter(right))) for command, right, _ in FORGED}
    known = set(options_of(stage))
    missing = {
        f"{command} {option}"
        for command, option in known - tried
        if not {option, f"{command} {option}"} & ALWAYS_RIGHT.keys()
    }
    assert not missing, ", ".join(sorted(missing))
    assert tried <= known


# -- the table ----------------------------------------------------------------------------------------------------


@pytest.mark.f50
@pytest.mark.parametrize("case", BAD, ids=str)
async def test_bad_input_is_answered_privately_with_what_would_be_right(stage: Stage, case: Case) -> None:
    who = stage.mo if case.command.startswith(("quota", "settings")) else stage.ada
    given = filled(stage, case.command, {**case.others, case.option: case.value})
    card = stage.said(await who.slash(stage.channel, case.command, **given))
    assert [sentence for sentence in case.says if sentence not in card.text] == [], card.text
    await assert_it_did_nothing(stage, card)


@pytest.mark.parametrize(("command", "right", "arrives"), FORGED, ids=[command for command, _, _ in FORGED])
async def test_what_only_a_modified_client_can_send_is_refused_too(
    stage: Stage, forge: Callable[[str, Any], None], command: str, right: dict[str, Any], arrives: str
) -> None:
    forge(next(iter(right)), arrives)
    who = stage.ada if command == "usage" else stage.mo
    card = stage.said(await who.slash(stage.channel, command, **filled(stage, command, right)))
    assert card.reason == refusals.COMMAND_CHANGED()
    await assert_it_did_nothing(stage, card)


@pytest.mark.parametrize(("arrives", "images"), [(0, 1), (-1, 1), (5, 4), (LARGEST_INTEGER, 4)])
async def test_a_number_of_images_that_discord_would_not_let_through_is_brought_within_bounds(
    stage: Stage, forge: Callable[[str, Any], None], arrives: int, images: int
) -> None:
    forge("count", arrives)
    await stage.imagine(model=FLUX, count=2)
    await stage.quiet()
    assert len(stage.core.krea.orders) == images


@pytest.mark.hostile("G-43")
async def test_text_beyond_the_limit_of_its_option_is_refused_in_every_option_that_has_one(
    stage: Stage, forge: Callable[[str, Any], None]
) -> None:
    tried: list[str] = []
    for command in stage.core.bot.tree.walk_commands():
        if not isinstance(command, app_commands.Command):
            continue
        for option in command.parameters:
            if option.type is not AppCommandOptionType.string or option.max_value is None:
                continue
            name = str(option.display_name)
            forge(name, "x" * (int(option.max_value) + 1))
            given = required(stage, command) | {name: "x"}
            card = stage.said(await stage.mo.slash(stage.channel, command.qualified_name, **given))
            assert card.reason == refusals.COMMAND_CHANGED(), f"{command.qualified_name} {name}"
            tried.append(f"{command.qualified_name} {name}")
            await assert_it_did_nothing(stage, card, errors=len(tried))
            forge(name, None)
    assert {"preset add name", "preset add before", "quota set reason", "history words"} < set(tried)


@pytest.mark.hostile("G-43")
async def test_text_beyond_the_limit_of_its_field_is_refused_in_a_form(
    stage: Stage, forge: Callable[[str, Any], None]
) -> None:
    stage.core.krea.waits = True
    card = await stage.imagine()
    await stage.until_says(card, "Processing")
    jobs = stage.said(await stage.mo.slash(stage.channel, "jobs"))
    (choice,) = [part for part in jobs.components if part.get("custom_id") == "jobs:cancel"]
    cancel = await stage.mo.select(jobs.message, [choice["options"][0]["value"]], custom_id="jobs:cancel")
    forge("reason", "x" * (REASON_CHARACTERS + 1))
    said = stage.said(await stage.mo.submit_modal(cancel, {"reason": "right"}))
    assert said.reason == refusals.COMMAND_CHANGED()
    assert len(stage.env.errors) == 1  # shown as that sentence
    stage.core.krea.finishes()
    await stage.until_says(card, "Completed")


@pytest.mark.hostile("G-43")
async def test_a_select_without_a_choice_is_refused(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    card = await stage.imagine(model=FLUX, count=2)
    await stage.until_says(card, "Completed")
    (choice,) = [part for part in card.components if part.get("placeholder") == job_card.IMAGE_CHOICE()]
    emit = stage.env.backend.emit

    def changed(event: str, payload: dict[str, Any]) -> Any:
        if event == "INTERACTION_CREATE":
            payload["data"] = {**payload["data"], "values": []}
        return emit(event, payload)

    monkeypatch.setattr(stage.env.backend, "emit", changed)
    said = stage.said(
        await stage.ada.select(card.message, [choice["options"][0]["value"]], custom_id=choice["custom_id"])
    )
    assert said.reason == refusals.COMMAND_CHANGED()


IMPOSSIBLE = ("a\ud800b", "a\x00b")


def required(stage: Stage, command: app_commands.Command[Any, ..., Any]) -> dict[str, Any]:
    """Return a right value for each option that the command cannot do without."""
    right = {
        AppCommandOptionType.string: "1",
        AppCommandOptionType.user: stage.ada,
        AppCommandOptionType.role: stage.artists,
        AppCommandOptionType.channel: stage.channel,
        AppCommandOptionType.attachment: ("fox.png", PNG),
    }
    return {str(one.display_name): right[one.type] for one in command.parameters if one.required}


@pytest.mark.hostile("G-43")
@pytest.mark.parametrize("text", IMPOSSIBLE, ids=ascii)
async def test_text_that_cannot_be_stored_is_refused_in_every_option_of_every_command(
    stage: Stage, forge: Callable[[str, Any], None], text: str
) -> None:
    tried: list[str] = []
    for command in stage.core.bot.tree.walk_commands():
        if not isinstance(command, app_commands.Command):
            continue
        for option in [str(one.display_name) for one in command.parameters if one.type is AppCommandOptionType.string]:
            forge(option, text)
            card = stage.said(await stage.mo.slash(stage.channel, command.qualified_name, **required(stage, command)))
            assert card.reason == refusals.TEXT_IMPOSSIBLE(), f"{command.qualified_name} {option}"
            tried.append(f"{command.qualified_name} {option}")
            await assert_it_did_nothing(stage, card, errors=len(tried))
            forge(option, None)
    assert {"imagine prompt", "history model", "quota set reason", "settings words words"} < set(tried)


ANOTHER_SERVERS_ID = str(1 << 60)
ODD: dict[AppCommandOptionType, list[Any]] = {
    AppCommandOptionType.string: [
        *(
            "",
            "   \n\t",
            "🦊" * 60,
            "x" * 6_000,
            "`" * 90,
            "\u202e\u200b",
            "-1",
            "9" * 400,
            "a=b=c,,=",
            "--",
            "%s{0}{x}",
        ),
    ],
    AppCommandOptionType.integer: [-1, 0, 2**53, -(2**53), 10**30, 1.5, "abc", "", None],
    AppCommandOptionType.boolean: ["maybe", "", 7, None],
    AppCommandOptionType.user: [ANOTHER_SERVERS_ID, "0", str(2**64), "-1", "@ada", "", None],
    AppCommandOptionType.role: [ANOTHER_SERVERS_ID, "0", str(2**64), "-1", "@artists", "", None],
    AppCommandOptionType.channel: [ANOTHER_SERVERS_ID, "0", str(2**64), "-1", "#studio", "", None],
    AppCommandOptionType.attachment: [ANOTHER_SERVERS_ID, "0", str(2**64), "-1", "fox.png", "", None],
}
"""What a modified client, or a member with a lot of time, can put into an option of each type."""


@pytest.mark.slow
async def test_odd_input_in_any_option_of_any_command_gets_a_sentence(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    emit: Callable[[str, dict[str, Any]], Any] = stage.env.backend.emit
    odd: dict[str, Any] = {}

    def changed(event: str, payload: dict[str, Any]) -> Any:
        if event == "INTERACTION_CREATE":
            _put(payload["data"], odd)
        return emit(event, payload)

    monkeypatch.setattr(stage.env.backend, "emit", changed)
    tried = 0
    for command in stage.core.bot.tree.walk_commands():
        if not isinstance(command, app_commands.Command):
            continue
        for option in command.parameters:
            for value in ODD[option.type]:
                odd.update(name=str(option.display_name), type=option.type.value, value=value)
                card = stage.said(
                    await stage.mo.slash(stage.channel, command.qualified_name, **required(stage, command))
                )
                asked = f"{command.qualified_name} {option.display_name}: {str(value)[:20]!r}"
                assert card.text.strip(), asked
                assert refusals.UNEXPECTED() not in card.text, asked
                assert refusals.BOOKS_UNAVAILABLE() not in card.text, asked
                await stage.quiet()
                tried += 1
    assert tried > 600
    stage.env.errors.clear()  # what commands raised, shown as those sentences
    assert [record.getMessage() for record in caplog.records if "unexpected error" in record.getMessage()] == []


def _put(part: dict[str, Any], odd: dict[str, Any]) -> None:
    """Set an option of a command, or of the subcommand that is used."""
    options: list[dict[str, Any]] = part.setdefault("options", [])
    inner = [option for option in options if option.get("type") in (1, 2)]
    for option in inner:
        _put(option, odd)
    if not inner:
        options[:] = [option for option in options if option["name"] != odd["name"]]
        options.append(dict(odd))


@pytest.mark.hostile("G-43")
@pytest.mark.parametrize("text", IMPOSSIBLE, ids=ascii)
async def test_text_that_cannot_be_stored_is_refused_in_every_form(
    stage: Stage, forge: Callable[[str, Any], None], text: str
) -> None:
    desk = stage.guild.create_text_channel("desk")
    await stage.settings("review", action="add", channel=stage.channel, review_channel=desk)
    await stage.until_says(await stage.imagine(), "Waiting for review")
    await stage.until(lambda: stage.cards(desk))
    refuse = await stage.press(stage.mo, stage.cards(desk)[0], "Refuse")
    stage.core.krea.waits = True
    card = await stage.imagine()
    await stage.until_says(card, "Processing")
    jobs = stage.said(await stage.mo.slash(stage.channel, "jobs"))
    (choice,) = [part for part in jobs.components if part.get("custom_id") == "jobs:cancel"]
    cancel = await stage.mo.select(jobs.message, [choice["options"][0]["value"]], custom_id="jobs:cancel")
    message = await stage.bob.send(stage.channel, "look", attachments=[("fox.png", PNG)])
    edit = await stage.ada.context_menu(stage.channel, "Edit this image", message)
    forms = ((stage.mo, cancel, "reason"), (stage.mo, refuse, "reason"), (stage.ada, edit, "prompt"))
    for who, form, field in forms:
        forge(field, text)
        said = stage.said(await who.submit_modal(form, {field: "right"}))
        assert said.reason == refusals.TEXT_IMPOSSIBLE()
    assert len(stage.env.errors) <= 3
    forms_there_are = {*Form.__subclasses__(), *ReasonForm.__subclasses__()} - {ReasonForm}
    assert len(forms_there_are) == 3, "every form is tried here"
    assert {entry.action for entry in await stage.core.store.audit(stage.guild.id)} == {"review", "review_channel"}
    stage.core.krea.finishes()
    await stage.until_says(card, "Waiting for review")


async def assert_it_did_nothing(stage: Stage, card: Card, *, errors: int = 1) -> None:
    assert card.private
    assert len(card.reason) < 700
    assert card.text.count("`") % 2 == 0
    assert card.text != refusals.UNEXPECTED()
    assert len(stage.env.errors) <= errors  # what a command raised, shown as that sentence
    assert stage.cards() == []
    await stage.assert_nothing_reserved()
    assert stage.core.krea.uploads == []
    assert await stage.core.store.limits_of(stage.guild.id) == []
    assert await stage.core.store.audit(stage.guild.id) == []
    assert await stage.core.store.policy(stage.guild.id) == Policy()


@pytest.fixture
def forge(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Any], None]:
    """Replace a value of the next command by one that the checks of a client would reject."""
    emit: Callable[[str, dict[str, Any]], Any] = stage.env.backend.emit
    lies: dict[str, Any] = {}

    def changed(event: str, payload: dict[str, Any]) -> Any:
        if event == "INTERACTION_CREATE":
            _lie(payload["data"], {name: value for name, value in lies.items() if value is not None})
        return emit(event, payload)

    monkeypatch.setattr(stage.env.backend, "emit", changed)
    return lies.__setitem__


def _lie(part: dict[str, Any], lies: dict[str, Any]) -> None:
    """Replace options of a command and fields of a form; texts that were not given are added."""
    options: list[dict[str, Any]] = part.setdefault("options", []) if "type" in part else part.get("options", [])
    inner = [option for option in options if "options" in option or option.get("type") in (1, 2)]
    for option in inner:
        _lie(option, lies)
    if not inner and "components" not in part and "name" in part:
        given = {option["name"]: option for option in options}
        for name, value in lies.items():
            if name in given:
                given[name]["value"] = value
            elif isinstance(value, str) and value in IMPOSSIBLE:
                options.append({"name": name, "type": 3, "value": value})
    for label in part.get("components", []):
        field = label.get("component", {})
        if field.get("custom_id") in lies:
            field["value"] = lies[field["custom_id"]]
