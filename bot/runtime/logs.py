"""Logging: one pipeline for every line of this program and its libraries, which removes secrets."""

from __future__ import annotations

import logging
import re
import sys
import threading
import time
from base64 import b64encode
from collections import OrderedDict
from collections.abc import Generator, Iterable
from contextlib import contextmanager, suppress
from copy import copy
from types import TracebackType
from typing import Literal, TextIO

import stamina.instrumentation
import structlog
from structlog.typing import Processor

_log = logging.getLogger(__name__)

HIDDEN = "[hidden]"

# No real key is shorter, and replacing every "k" would destroy ordinary lines and JSON.
_MIN_SECRET_CHARACTERS = 6

_OURS = ("bot", "cogs", "sandbox")
_PATTERNS = (
    # Headers in every notation: `Authorization: Bearer x`, `'Ocp-Apim-Subscription-Key': 'x'`.
    re.compile(
        r"(?i)((?:authorization|ocp-apim-subscription-key)\\?[\"']?\s*[:=,]\s*"
        r"(?:b(?=[\"']))?\\?[\"']?(?:(?:bearer|bot|basic)\s+)?)"
        r"[^\s\"'\\,;}\])>]+"
    ),
    # Anyone who knows the path of a webhook of ours can call it.
    re.compile(r"(/hooks/)[^/\s\"'\\?#)>]+"),
    # The token of an interaction lets anyone answer as the bot for 15 minutes.
    re.compile(r"(/webhooks/\d+/)[^/\s\"'\\?#)>]+"),
    re.compile(r"(/interactions/\d+/)[^/\s\"'\\?#)>]+"),
    re.compile(r"()aW50ZXJhY3Rpb246[A-Za-z0-9+/=_-]+"),  # 'interaction:' in base64, as such tokens begin
)


def set_up_logging(
    *, level: str, style: Literal["console", "json"], secrets: Iterable[str], stream: TextIO | None = None
) -> None:
    """Send every log line of the process through one pipeline to `stream` (standard error), without `secrets`.

    Call it once at the start, before code that knows a secret; a later call replaces the earlier one.
    """
    own_level = logging.getLevelNamesMapping()[level]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        # Plain text: richer tracebacks show local variables, and those hold keys.
        structlog.processors.format_exc_info,
    ]
    handler = Handler(stream or sys.stderr)
    handler.setFormatter(_Formatter(shared, style=style, secrets=secrets, colors=(stream or sys.stderr).isatty()))

    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    for old in [old for old in root.handlers if isinstance(old, Handler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    # Libraries at DEBUG write prompts, tokens and SQL values into the log, so that level is for our own names only.
    root.setLevel(max(own_level, logging.INFO))
    for name in _OURS:
        logging.getLogger(name).setLevel(own_level)
    logging.captureWarnings(True)
    stamina.instrumentation.set_on_retry_hooks((_log_retry,))
    # The interpreter would print uncaught errors itself, without this pipeline.
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_uncaught_in_thread


@contextmanager
def bind_job(job_id: str) -> Generator[None]:
    """Add the job's id to every line that is logged inside, also by other modules."""
    # Not bound_contextvars, which goes through all other bound values; a job does this several times.
    tokens = structlog.contextvars.bind_contextvars(job_id=job_id)
    try:
        yield
    finally:
        structlog.contextvars.reset_contextvars(**tokens)


class Redactor:
    """Replaces known secrets, and text that looks like a credential, in finished lines."""

    def __init__(self, secrets: Iterable[str]) -> None:
        # Longest first: a secret may contain another one.
        longest_first = sorted(
            {secret for secret in secrets if len(secret) >= _MIN_SECRET_CHARACTERS}, key=len, reverse=True
        )
        forms = [form for secret in longest_first for form in (_pattern_with_escapes(secret), *_in_base64(secret))]
        self._known = re.compile("|".join(forms)) if forms else None

    def __call__(self, text: str) -> str:
        """Return the text without secrets."""
        if self._known is not None:
            text = self._known.sub(HIDDEN, text)
        for pattern in _PATTERNS:
            text = pattern.sub(rf"\1{HIDDEN}", text)
        return text


def _pattern_with_escapes(secret: str) -> str:
    """Return a pattern for `secret` as it is, inside nested JSON and Python literals, and in a URL.

    Literals add backslashes or write a number; a URL may write all but letters and digits as numbers.
    """
    return "".join(
        character if character.isascii() and character.isalnum() else _pattern_of(character) for character in secret
    )


def _pattern_of(character: str) -> str:
    as_itself = r"\\+" if character == "\\" else rf"\\*{re.escape(character)}"
    in_url = "".join(f"%{byte:02x}" for byte in _bytes_of(character))
    return rf"(?:{as_itself}|\\+u(?i:{ord(character):04x})|(?i:{in_url}))"


def _in_base64(secret: str) -> list[str]:
    """Return patterns for the characters that a secret decides in base64, whatever stands before and after it."""
    patterns: list[str] = []
    for bytes_before in range(3):
        data = bytes(bytes_before) + _bytes_of(secret)
        decided = b64encode(data).decode()[-(-8 * bytes_before // 6) : 8 * len(data) // 6]
        patterns.append("".join({"+": "[+-]", "/": "[/_]"}.get(character, character) for character in decided))
    return patterns


def _bytes_of(text: str) -> bytes:
    return text.encode(errors="surrogatepass")


TRACEBACK_PAUSE_SECONDS = 60.0
_MAX_KNOWN_ERRORS = 64


class _Formatter(structlog.stdlib.ProcessorFormatter):
    """Renders a line and redacts the result, so that no field, nesting or traceback is left out.

    The traceback of one error is written once a minute: a full disk fails every command of every member.
    """

    def __init__(
        self, shared: list[Processor], *, style: Literal["console", "json"], secrets: Iterable[str], colors: bool
    ) -> None:
        renderer: Processor = (
            structlog.processors.JSONRenderer(default=repr)
            if style == "json"
            else structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback)
        )
        super().__init__(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
        self._redact = Redactor(secrets)
        self._traced_at: OrderedDict[str, float] = OrderedDict()
        """When the traceback of an error was written last, on the monotonic clock, the newest last."""

    def format(self, record: logging.LogRecord) -> str:
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            text = f"{type(error).__name__}: {error}"
            if self._was_traced(text):
                record = copy(record)
                record.msg, record.args = f"{record.getMessage()}: {text}", ()
                record.exc_info = record.exc_text = None
        return self._redact(super().format(record))

    def _was_traced(self, text: str) -> bool:
        now = time.monotonic()
        if now - self._traced_at.get(text, -TRACEBACK_PAUSE_SECONDS) < TRACEBACK_PAUSE_SECONDS:
            return True
        self._traced_at[text] = now
        self._traced_at.move_to_end(text)
        if len(self._traced_at) > _MAX_KNOWN_ERRORS:
            self._traced_at.popitem(last=False)
        return False


class Handler(logging.StreamHandler[TextIO]):
    """Writes the lines of `set_up_logging`. A full disk, or a reader that is gone, costs lines and nothing else."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._lost_lines = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, and once lines can be written again how many could not."""
        lost_lines = self._lost_lines
        if lost_lines:
            with suppress(OSError):
                self.stream.write("\n")  # the last line may be there in part
        super().emit(record)
        if lost_lines and self._lost_lines == lost_lines:
            self._lost_lines = 0
            text = "up to %d lines before this one are lost: the log could not be written"
            super().emit(_log.makeRecord(_log.name, logging.WARNING, __file__, 0, text, (lost_lines,), None))

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name is logging's
        """Print that a line was lost, without its content, which the standard handler would print."""
        kind, error, _ = sys.exc_info()
        if isinstance(error, OSError):  # standard error is most likely the same file
            self._lost_lines += 1
            return
        print(
            f"a log line from {record.name} could not be written ({kind.__name__ if kind else 'unknown error'})",
            file=sys.__stderr__,
        )


def _log_retry(details: stamina.instrumentation.RetryDetails) -> None:
    _log.info("attempt %d failed, the next is in %.1f s: %s", details.retry_num, details.wait_for, details.caused_by)


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    logging.getLogger("bot").critical("stopped by an unexpected error", exc_info=(kind, error, trace))


def _log_uncaught_in_thread(arguments: threading.ExceptHookArgs) -> None:
    name = arguments.thread.name if arguments.thread else "a thread without a name"
    logging.getLogger("bot").critical("%s stopped by an unexpected error", name, exc_info=arguments.exc_value)
