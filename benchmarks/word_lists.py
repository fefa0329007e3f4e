"""The worst word lists that a moderator can make, searched in the longest prompts that a member can send."""

from __future__ import annotations

import time

from benchmarks.results import Result
from bot.domain import word_list
from bot.domain.policy import MAX_ENTRIES

SEARCHES = 5

WORST = {
    "many ?": ("*a" + "?" * 9 + "b", "ac"),
    "many *": ("*a" * 9 + "*b", "aa"),
    "many words": (" ".join(["a*"] * 10), "aa "),
    "long words": ("a" * 60, "a"),
}
"""An entry, of which the list has as many as it takes, and what the prompt repeats."""


async def word_lists() -> list[Result]:
    """Search each list in the longest prompt, which nothing of it matches before the end."""
    results: list[Result] = []
    for name, (entry, word) in WORST.items():
        entries = tuple(word_list.normalise_entry(f"{entry[:56]}{number}") for number in range(MAX_ENTRIES))
        prompt = word * (word_list.MAX_PLAIN_CHARACTERS // len(word))
        word_list.find_listed(entries, "")  # builds the automaton, which is kept
        begun = time.process_time()
        for _ in range(SEARCHES):
            word_list.find_listed(entries, prompt)
        milliseconds = (time.process_time() - begun) * 1000 / SEARCHES
        results.append(Result(name=f"searching a full list of {name}", value=milliseconds, unit="ms", at_most=20.0))
    return results
