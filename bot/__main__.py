"""`python -m bot`: the bot. `python -m bot check | backup | restore | ledger verify | catalogue`: see cli.py."""

from __future__ import annotations

import sys

from bot.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
