"""Words of presets and defaults."""

from __future__ import annotations

from cogs.text.locale import Phrase

PRESETS_TITLE = Phrase("### Presets")
PRESETS_OF_SERVER = Phrase("**Of this server**")
PRESETS_OWN = Phrase("**Your own**, in every server")
PRESETS_NONE = Phrase("There are no presets yet. `/preset add` makes one.")
PRESETS_MORE = Phrase("-# … and {count} more")
PRESET_ADDED = Phrase("Added the preset **{name}** for {scope}. Use it with `preset:` on `/imagine` and `/edit`.")
PRESET_REPLACED = Phrase("Replaced the preset **{name}** for {scope}.")
PRESET_REMOVED = Phrase("Removed the preset **{name}**.")
PRESET_NONE_TO_REMOVE = Phrase("There is no preset `{name}` here that you can remove. `/preset list` shows them all.")
PRESET_PRICE = Phrase("-# An image with it costs {amount}.")
PRESET_EMPTY = Phrase(
    "Give the preset something to do: a `model`, `options`, a `style`, a `reference`, or words `before` or `after`."
)
PRESET_NAME_EMPTY = Phrase("Give the preset a name of 1 to 50 characters.")
PRESET_TOO_LONG = Phrase("A preset takes at most {limit} characters of options.")
SCOPE_SERVER = Phrase("everybody in this server")
SCOPE_OWN = Phrase("yourself")
MODERATORS_FOR_SERVER = Phrase(
    "Presets of the server need the Manage Server permission. You can add one for yourself with the option `for`."
)
PROMPT_HERE = Phrase("your prompt")
"""Between the words before and after a prompt."""

WITH_REFERENCE = Phrase("with an image")
ON_CARD = Phrase("preset {name}")
UNKNOWN_PRESET = Phrase("There is no preset `{name}`. Pick one from the list that appears as you type.")

DEFAULTS_TITLE = Phrase("### Your defaults in this server")
DEFAULTS_NONE = Phrase("You have set none. `/defaults set` does, for `/imagine` and `/edit` in this server.")
DEFAULTS_CLEARED = Phrase("Your defaults in this server are cleared.")
DEFAULTS_NOTHING_GIVEN = Phrase(
    "Name at least one option to set: `model`, `aspect_ratio`, `resolution`, `private`, `preset`."
)
DEFAULTS_HINT = Phrase(
    "-# Options that you type in a command come first. Options that a model does not take are left out."
)
DEFAULTS_BAD_VALUE = Phrase(
    "No model here takes `{option}: {value}`. Pick a value from the list that appears as you type."
)
YES = Phrase("yes")
NO = Phrase("no")
