"""A read-only container, for a bot in a process of its own: a write anywhere but in one folder raises, and is listed.

Python tells an audit hook of each file that is opened, made, renamed or removed. The hook is installed by a module that
Python imports at the start of every process, so processes that the bot starts have it too.
"""

from __future__ import annotations

from pathlib import Path

_HOOK = """
import errno, os, sys

ALLOWED = {folder!r}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
EVENTS = {{"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod"}}


def is_allowed(path):
    path = os.path.realpath(os.fsdecode(path))
    # Semaphores lie in /dev/shm itself; folders of tests may lie below it.
    is_shared_memory = os.path.dirname(path) == "/dev/shm"
    return is_shared_memory or path in (os.devnull, ALLOWED) or path.startswith((ALLOWED + os.sep, "/proc/"))


def guard(event, arguments):
    if event == "open":
        path, mode, flags = arguments
        writes = flags & WRITING if flags else set(mode or "") & set("wax+")
        if not writes or isinstance(path, int):
            return
    elif event == "sqlite3.connect":
        path = os.fsdecode(arguments[0])
        if path == ":memory:" or "mode=ro" in path:
            return
        path = path.removeprefix("file:").partition("?")[0]
    elif event in EVENTS:
        path = arguments[0]
    else:
        return
    if not is_allowed(path):
        with open({report!r}, "a") as file:
            file.write(f"{{event}} {{path}}\\n")
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)


sys.addaudithook(guard)
"""


class ReadOnly:
    """Everything is read-only but `folder`. Give the bot's process `environment`."""

    def __init__(self, place: Path, folder: Path) -> None:
        place.mkdir()
        folder.mkdir(parents=True, exist_ok=True)
        self._report = folder / "refused writes"
        hook = _HOOK.format(folder=str(folder.resolve()), report=str(self._report.resolve()))
        (place / "sitecustomize.py").write_text(hook)
        self._place = place

    def environment(self, project: Path) -> dict[str, str]:
        """Return what has to be set for the process."""
        return {"PYTHONPATH": f"{self._place}:{project}", "PYTHONDONTWRITEBYTECODE": "1"}

    @property
    def refused(self) -> list[str]:
        """Every write that was refused, with its path."""
        return self._report.read_text().splitlines() if self._report.exists() else []
