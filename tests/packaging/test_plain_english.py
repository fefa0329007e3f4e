"""Words that may not come back: comments, docstrings, names of tests and documentation are plain technical English."""

from __future__ import annotations

import ast
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("bot", "cogs", "sandbox", "benchmarks", "tests", "docs", ".ci")
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
WORDS = (
    *("whoever", "somebody", "anew", "so long", "so many", "so often", "for ever", "the books", "the house"),
    *("take up", "taken up", "takes up", "let go", "lets go"),
)
_BANNED = re.compile(r"\b(" + "|".join(WORDS) + r")\b", re.IGNORECASE)
_QUOTED = re.compile(r'"[^"]*"|`[^`]*`')


def prose_of(source: str) -> Iterator[tuple[int, str]]:
    """Every comment, docstring, documented attribute and name of a definition, with its line."""
    lines = iter(source.splitlines(keepends=True))
    for token in tokenize.generate_tokens(lambda: next(lines, "")):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Expr(value=ast.Constant(value=str(text))):
                yield node.lineno, text
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield node.lineno, name.replace("_", " ")
            case _:
                pass


def may_have_banned_words(source: str) -> bool:
    """Tell whether a banned word is anywhere in a file, before taking it apart, which takes longer."""
    return bool(_BANNED.search(" ".join(source.replace("_", " ").split())))


def banned_in(text: str) -> list[str]:
    """Return the banned words of a text, except inside quotes: there it may repeat what users read."""
    return _BANNED.findall(_QUOTED.sub("", " ".join(text.split())))


@pytest.mark.parametrize("folder", FOLDERS)
def test_comments_and_names_use_plain_words(folder: str) -> None:
    found: list[str] = []
    for path in sorted((ROOT / folder).rglob("*.py")):
        if path != Path(__file__) and may_have_banned_words(source := path.read_text(encoding="utf-8")):
            prose = prose_of(source)
            found += [f"{path.relative_to(ROOT)}:{line}: {word}" for line, text in prose for word in banned_in(text)]
    assert found == []


def test_documentation_uses_plain_words() -> None:
    pages = {page: re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL) for page in PAGES}
    assert {page.name: words for page, text in pages.items() if (words := banned_in(text))} == {}
