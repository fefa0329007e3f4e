"""Entry point of `python -m bot`: the bot, or one of the sub-commands in `cli.py`."""

from __future__ import annotations

import sys

from bot.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
