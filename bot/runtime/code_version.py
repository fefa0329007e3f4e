"""The version of the running program: a digest of its files, since builds between releases share a number."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

_ROOT = Path(__file__).parents[2]


@cache
def code_version() -> str:
    """Return eight hexadecimal digits that are equal for equal programs."""
    digest = hashlib.sha256()
    for file in sorted(file for folder in ("bot", "cogs") for file in (_ROOT / folder).rglob("*.py")):
        digest.update(str(file.relative_to(_ROOT)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:8]
