"""The rows of the fault matrix: what must happen when things go wrong, and which tests show that it does.

A test belongs to a row by its mark (`@pytest.mark.f23`) or by its name (`test_f23_…`), so `pytest -k f23` runs all that
show row F-23. docs/fault-matrix.md is generated from these texts and the last run: `make matrix`.
"""

from __future__ import annotations

import re
from typing import Final

import pytest

SECTIONS: Final[dict[str, dict[str, str]]] = {
    "Money and quotas": {
        "f01": "An order dearer than what is left is refused privately with price, rest and reset; nobody is asked.",
        "f02": "A price equal to what is left is accepted; one micro-dollar more is refused.",
        "f03": "Of 200 simultaneous orders at $0.08 on $1.00 exactly 12 are accepted, in whatever order they run.",
        "f04": "A finished job is charged once; the card shows what it cost and what is left.",
        "f05": "What the provider fails or cancels is given back whole; the card says why and 'not charged'.",
        "f06": "What the provider refuses is sent once and given back; the member reads what to change.",
        "f07": "The same final news, however often and in whatever order, is one charge and one last edit.",
        "f08": "The same command delivered two to five times is one job, one reservation and one reply.",
        "f09": "A period that ended while the bot was away has ended: the first order after it has a whole quota.",
        "f10": "A day of 23 or 25 hours has one reset, and the time told to members is right.",
        "f11": "A quota may be set below what is spent: nothing is left, running jobs settle, new ones are refused.",
        "f12": "What is no amount is refused with examples and changes nothing; zero means no spending.",
        "f13": "Every change of a quota is recorded: who, whom, old, new, when, why.",
        "f14": "What is set aside is the listed price of exactly the chosen options.",
        "f15": "What has no known price is refused, no provider is asked, the operator is told.",
        "f16": "While the database cannot be written nothing is bought; when it can, work continues by itself.",
        "f17": "The balance adds up to the micro-dollar also while jobs run, and says when it resets.",
    },
    "Providers": {
        "f18": "A provider that cannot be reached is tried at most four times, in growing and uneven pauses; then all "
        "is given back.",
        "f19": "Told to wait, the bot waits as long as told (up to a minute) and the member keeps reading 'Queued'.",
        "f20": "Passing faults while asking after a job fail nothing.",
        "f21": "A refused key stops new jobs for that provider; the operator is told once, members read 'temporarily "
        "unavailable', no key is shown.",
        "f22": "An empty balance at the provider does the same until a check succeeds.",
        "f23": "An order whose answer was lost is never sent again: 'Checking', then found, or given up at no cost for "
        "the member.",
        "f24": "So is one whose answer cannot be understood.",
        "f25": "A status never seen before means still running, is logged once, and the deadline holds.",
        "f26": "'Completed' without a usable image costs the member nothing; the house bears it and the operator is "
        "told.",
        "f27": "A preview or a state on the way is never taken for the end.",
        "f28": "A job that never ends is given up at its deadline, settled by the written rule, asked after no more.",
        "f29": "A provider that is down refuses at once with nothing reserved, is probed, comes back, harms no other.",
        "f30": "Never more jobs at a provider than allowed; the others wait in fair order and read their place.",
        "f31": "A cancelled job costs nothing if the provider agreed; if it was finished first, it is delivered and "
        "paid. The answer says which.",
        "f32": "A prompt refused for its contents costs nothing and is not repeated in public.",
    },
    "Restarts, storage, operation": {
        "f33": "Killed at any moment: nothing is lost, sent twice, paid twice or left open.",
        "f34": "Told to stop, it takes no new orders, writes down what is half done and ends within 10 s with code 0.",
        "f35": "What finished while the bot was away is delivered after the start.",
        "f36": "A damaged database stops the start with the steps to take; it is never replaced by an empty one.",
        "f37": "An upgrade that fails half way leaves the old file, and a copy from before.",
        "f38": "A database newer than the program stops the start.",
        "f39": "A copy taken while jobs run is sound and holds everything committed before it.",
        "f40": "A second copy of the bot on the same data refuses to start and disturbs nobody.",
        "f41": "A background worker that fails is started again, logged once, shown by /readyz; other jobs go on.",
        "f42": "Slow images and a slow disk delay no answer beyond 3 s, and the connection to Discord stays.",
        "f43": "/readyz tells within 60 s that Discord, the database or a worker does not work.",
    },
    "Discord": {
        "f44": "A card that Discord did not take leaves nothing reserved and nothing bought.",
        "f45": "A result arrives also when the command's token has died.",
        "f46": "A result that can be shown nowhere is settled, tried no more, and kept for /history.",
        "f47": "A last edit that fails for a while is repeated until it is taken; there is one message.",
        "f48": "A image above the upload limit is shown smaller with a link, and the card says so.",
        "f49": "Nothing that a member types notifies anybody, wherever it is shown.",
        "f50": "A prompt that is empty, too short or too long for its model is refused before anything is reserved.",
    },
    "Security, abuse, privacy": {
        "f51": "Moderators' commands refuse everybody else by themselves, whatever a server shows to whom.",
        "f52": "Nothing of one server can be read or changed from another, or from a direct message.",
        "f53": "Other people's buttons refuse privately and do nothing.",
        "f54": "Files that are no images, lie, are cut short, too large or bombs are refused at little cost.",
        "f55": "Private, local and metadata addresses are never contacted, not by name nor by redirect.",
        "f56": "No location and no other metadata leaves with a image, in or out.",
        "f57": "Forged, repeated and unknown callbacks change nothing; the provider itself is asked.",
        "f58": "A member who floods is slowed down; others are served at most twice as slowly as usual.",
        "f59": "Members get everything about themselves; erasing leaves no word and no name, and the ledger balances.",
        "f60": "Non-root, read-only, with a health check; dependencies by hash; audits and security rules in the "
        "pipeline.",
    },
}

ROWS: Final = {row: words for section in SECTIONS.values() for row, words in section.items()}
_NAMED = re.compile(r"test_(f\d\d)_")


def title(row: str) -> str:
    """Return 'F-23' for 'f23'."""
    return f"F-{row[1:]}"


class RowMarks:
    """The pytest plugin: declares a mark for each row, and records for every test which rows it shows."""

    def pytest_configure(self, config: pytest.Config) -> None:
        """Declare a mark for each row, because pytest is strict about marks."""
        config.addinivalue_line("markers", "row: shows a row of the fault matrix (given by itself to those who do)")
        for row, words in ROWS.items():
            config.addinivalue_line("markers", f"{row}: {words}")

    @pytest.hookimpl(tryfirst=True)  # before tests are chosen by their marks
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Mark tests by the rows in their names, and store the rows in the properties that the report reads."""
        for item in items:
            rows = {mark.name for mark in item.iter_markers()} & ROWS.keys()
            if (named := _NAMED.match(item.name)) is not None and named[1] in ROWS and named[1] not in rows:
                rows.add(named[1])
                item.add_marker(named[1])
            if rows:
                item.add_marker("row")
            item.user_properties += [("row", row) for row in sorted(rows)]
