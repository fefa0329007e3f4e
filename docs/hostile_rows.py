"""Make the table of docs/hostile-world.md: which tests show which row, by their marks in the source."""

from __future__ import annotations

import argparse
import re
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "hostile-world.md"
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"
_MARK = re.compile(r"mark\.hostile\(([^)]*)\)")
_ROW = re.compile(r"G-\d\d")

SECTIONS: dict[str, dict[str, str]] = {
    "Stopping or draining the bot": {
        "G-01": "A server's rules and a member's prompt together cost a few milliseconds.",
        "G-02": "What no member is charged for has a limit per member and day, and a daily cap of its own.",
        "G-03": "Servers can be chosen; each server has a cap that its moderators cannot raise.",
        "G-04": "Files of others are read in limited processes; one that kills or outlasts them twice is given up.",
        "G-05": "Permission and price come before files; what was fetched for a refused order is gone at once.",
        "G-06": "Idle and slow connections and floods at the HTTP port keep no member from an answer.",
        "G-07": "Exports, reports and charts: one at a time for each member, few per hour, in bounded memory.",
        "G-08": "The failing orders of a few members close no provider for everybody.",
        "G-09": "A process that decodes images can reach nothing, as far as the kernel offers it.",
    },
    "Money and truth": {
        "G-11": "An order whose answer was lost never takes a job that may be another's.",
        "G-12": "What is listed late is brought to the member free; 'not found' within a minute proves nothing.",
        "G-13": "An order that is told to wait without end is released after a deadline.",
        "G-14": "Numbers of others are clamped on both sides.",
        "G-15": "Nothing irreversible on one reading of the clock.",
        "G-16": "After an old backup was restored nothing is ordered again, and what differs is found.",
        "G-17": "A ledger that was tampered with is refused at the start.",
        "G-18": "A model is stored under its id; no cell of a file begins like a formula.",
        "G-19": "No live secret at rest in rows and backups.",
    },
    "Discord": {
        "G-21": "A final edit that is answered strangely is tried again until it is shown.",
        "G-22": "A first answer that is answered strangely leaves nothing reserved, or the order goes on.",
        "G-23": "A card that is refused as malformed is replaced by a smaller one.",
        "G-24": "A refused registration of commands delays nothing.",
        "G-25": "A gateway event that cannot be read ends nothing.",
        "G-26": "A token that was reset ends the bot with a sentence.",
        "G-27": "An image is found where people see it; a video is never offered.",
        "G-28": "A channel that is gone sends the image by direct message.",
        "G-29": "The copy without the prompt has it nowhere.",
        "G-30": "A file server of Discord that stumbles is asked again.",
    },
    "Providers": {
        "G-31": "A new status word is judged by the evidence.",
        "G-32": "The usable results of several are delivered.",
        "G-33": "A result that is refused for some seconds is asked for again.",
        "G-34": "A result in a format that nobody shows is re-encoded.",
        "G-35": "Results are capped at what was ordered.",
        "G-36": "Large or odd JSON is bounded and is one typed error.",
        "G-37": "A callback before the answer to the order is kept.",
        "G-38": "An empty account keeps its provider closed without flapping.",
        "G-39": "A model that is gone is hidden and its successor named.",
    },
    "Files and words of members": {
        "G-41": "Images in the formats of phones are read.",
        "G-42": "A prompt that looks empty is refused as empty.",
        "G-43": "Impossible text gets a sentence; blanks around an amount are fine.",
        "G-44": "A provider that fetches an input gets a cleaned copy.",
        "G-45": "Results keep their provenance, or are marked as machine-made.",
    },
    "People's rights": {
        "G-51": "Delete asks once, then removes message, history, files and log copy; the ledger keeps the amount.",
        "G-52": "Acts of moderation keep actor, subject and reason for 90 days, whatever is erased.",
        "G-53": "What is shown as left is the least of all limits, and which one that is.",
        "G-54": "A limit that looks like a slip is set, and the answer says what it means.",
        "G-55": "Of a private order moderators may cancel and delete, nothing else.",
        "G-56": "A log channel that others read is named when it is set.",
    },
}


def shown_by() -> dict[str, dict[str, int]]:
    """Return how many marks each file of tests has, for every row."""
    found: dict[str, dict[str, int]] = defaultdict(dict)
    for file in sorted((ROOT / "tests").rglob("test_*.py")):
        for mark in _MARK.findall(file.read_text(encoding="utf-8")):
            for row in _ROW.findall(mark):
                name = file.relative_to(ROOT / "tests").as_posix()
                found[row][name] = found[row].get(name, 0) + 1
    return found


def table() -> str:
    """Return every section as Markdown: row, outcome, and the files of the tests that have its mark."""
    found, lines = shown_by(), list[str]()
    for title, rows in SECTIONS.items():
        lines += [f"## {title}", "", "| row | what must happen | shown in `tests/` |", "| --- | --- | --- |"]
        for row, words in rows.items():
            files = ", ".join(f"`{name}`" for name in found.get(row, {})) or "not claimed yet"
            lines.append(f"| {row} | {words} | {files} |")
        lines.append("")
    return "\n".join(lines).rstrip()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--write", action="store_true", help="replace the table in docs/hostile-world.md")
    made = table()
    if not parser.parse_args().write:
        print(made)
        return
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}\n\n{made}\n\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
