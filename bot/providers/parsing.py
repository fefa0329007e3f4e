"""Parsing of providers' JSON: status words, image URLs, times, costs, styles and error bodies.

Nothing here raises: values that cannot be read are treated as missing.
"""

from __future__ import annotations

import json
import logging
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from email.utils import parsedate_to_datetime
from itertools import islice
from typing import Any

from bot.catalogue.provider_description.model_notices import Withdrawal
from bot.catalogue.styles import Style
from bot.domain.jobs import Failure, FailureReason, JobStatus, Progress
from bot.domain.json_values import as_list, as_object
from bot.domain.money.quota import MICROS_PER_USD

_log = logging.getLogger(__name__)

_MAX_HINT_CHARACTERS = 200
_MAX_ID_CHARACTERS = 200
_MAX_URL_CHARACTERS = 4096
_MAX_DEPTH = 8
_MAX_COST_USD = 1_000
_MAX_NUMBER_CHARACTERS = 40
_MAX_LIKES = 10**12
_MAX_TOOK_SECONDS = 24 * 3600.0
# Times outside of these years are defects, and arithmetic with the first and the last year overflows.
_EARLIEST, _LATEST = datetime(2020, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
# A provider that sends a new word each time must fill neither the memory nor the log.
_MAX_LOGGED_STATUSES = 100
_MAX_TOLD_STATUSES = 10

_MAX_LIST_ITEMS = 1000
# Written twice with different values, these leave in doubt how a job stands, where its result is and what it costs.
_DECIDING_KEYS = frozenset(
    {"status", "result", "output", "urls", "media_url", "url", "error", "completed_at", "job_id", "request_id"}
    | {"created_at", "items", "next_cursor", "cost_usd", "cost_microdollars"}
)

_URL = re.compile(r"\b(?:https?://|www\.)\S+", re.IGNORECASE)
_USABLE_ID = re.compile(r"[\x21-\x7e]+")
_MAX_IMAGE_URLS = 8
_NO_IMAGE_KIND = re.compile(r"preview|thumb|poster|video|audio", re.IGNORECASE)
_NO_IMAGE_PATH = re.compile(r"\.(?:mp4|m4v|mov|webm|mkv|avi|mp3|wav|json|txt)(?:[?#]|$)", re.IGNORECASE)
_DOTS_ONLY = re.compile(r"\.+")
# There are no stable error codes, only texts. `\b` excludes field names such as enable_safety_checker.
_MODERATION = re.compile(
    r"nsfw|\bip_detected\b|\bviolen(?:ce|t)\b|\bpersonal_info|\bmoderat|\bflagged\b|\b(?:un)?safe(?:ty)?\b"
    r"|\bcontent[ _-]polic|\bpolicy[ _-]violation|\bprohibited[ _-]content|\bsexual|\bsensitive[ _-]content",
    re.IGNORECASE,
)
_ABOUT_AN_INPUT = re.compile(r"\b(?:style|lora|moodboard|asset)s?\b", re.IGNORECASE)
_UNINFORMATIVE = re.compile(
    r"(?:an? )?(?:internal|unknown|unexpected|server|error|errors|failed|failure|job|task|request|generation|has"
    r"|occurred|provider|something|went|wrong|bad|null|none|n/a|please|try|again|later|http|\d{3}|[\s.,:;!_-])*",
    re.IGNORECASE,
)
# Members cannot act on markup, data structures, or problems of the operator's account.
_NOT_FOR_MEMBERS = re.compile(
    r"[{}<>]|Traceback|\b(?:api|subscription)?[ _-]?keys?\b|\btokens?\b|credential|unauthori[sz]ed|account|billing"
    r"|balance",
    re.IGNORECASE,
)
_NO_SUCH_MODEL = re.compile(
    r"\bmodel[ _-]?(?:[^\s]{1,80} )?(?:is )?(?:not[ _-]?found|unavailable|disabled|retired|deprecated|no longer)",
    re.IGNORECASE,
)


Redact = Callable[[str], str]
"""Replaces secrets in what a provider wrote: members see it, and it is stored and exported."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ApiErrorBody:
    """An error reported by a provider: a code and a sentence, where there are any."""

    code: str = ""
    text: str = ""
    replacement: str = ""

    @property
    def summary(self) -> str:
        """One short line for the log."""
        return " ".join(part for part in (self.code, self.text if self.text != self.code else "") if part)

    @property
    def is_moderation(self) -> bool:
        return bool(_MODERATION.search(f"{self.code} {self.text}"))

    @property
    def is_about_the_model(self) -> bool:
        """True when the error says that the provider has no such model."""
        return bool(_NO_SUCH_MODEL.search(f"{self.code} {self.text}"))

    @property
    def is_about_an_input(self) -> bool:
        """True when the error is about a style or asset that the member chose."""
        return bool(_ABOUT_AN_INPUT.search(f"{self.code} {self.text}"))

    @property
    def hint(self) -> str:
        """The sentence if it may help a member, else ''."""
        if not self.text or _UNINFORMATIVE.fullmatch(self.text) or _NOT_FOR_MEMBERS.search(self.text):
            return ""
        return self.text

    def as_failure(self) -> Failure:
        """Convert to the failure of a job. A moderation error has no hint, which might repeat the prompt."""
        if self.is_moderation:
            return Failure(reason=FailureReason.MODERATED)
        return Failure(reason=FailureReason.PROVIDER_FAILED, hint=self.hint)


def parse_json(body: bytes) -> tuple[Any, bool]:
    """Parse a body; return None for one that is not JSON, and whether a deciding key is written twice, differently.

    Such a key counts as null, and so do NaN and infinity, which are not JSON.
    """
    is_ambiguous = False

    def read_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal is_ambiguous
        read = dict(pairs)
        if len(read) < len(pairs):
            first: dict[str, Any] = {}
            for key, value in pairs:
                if key in _DECIDING_KEYS and first.setdefault(key, value) != value:
                    read[key] = None
                    is_ambiguous = True
        return read

    try:
        return json.loads(body, object_pairs_hook=read_object, parse_constant=lambda _: None), is_ambiguous
    except (ValueError, RecursionError):
        return None, False


def read_error_body(document: Any, *, redact: Redact) -> ApiErrorBody:
    """Read the error in a response or a job: `error` (text or object), `message`, `detail` (text or list)."""
    if isinstance(document, str):
        return ApiErrorBody(text=_clean(document, redact))
    body = as_object(document)
    error = body.get("error")
    inner = as_object(error)
    code = inner.get("code") or (error if isinstance(error, str) else "")
    text = inner.get("message") or body.get("message") or _detail(body.get("detail")) or code
    replacement = body.get("replacement") or inner.get("replacement")
    return ApiErrorBody(code=_clean(code, redact), text=_clean(text, redact), replacement=_clean(replacement, redact))


def _detail(value: Any) -> str:
    """Return `detail` as a sentence; for a list of `{loc, msg}`, with the field of each message."""
    if isinstance(value, str):
        return value
    sentences: list[str] = []
    for item in as_list(value)[:_MAX_LIST_ITEMS]:
        entry = as_object(item)
        location = [part for part in as_list(entry.get("loc")) if isinstance(part, str) and part != "body"]
        message = entry.get("msg") or (item if isinstance(item, str) else "")
        if isinstance(message, str) and message:
            sentences.append(f"{'.'.join(location)}: {message}" if location else message)
    return "; ".join(sentences)


def _clean(value: Any, redact: Redact) -> str:
    """Return one printable line without URLs and secrets, of at most 200 characters."""
    if not isinstance(value, str):
        return ""
    text = _URL.sub("", redact(value[: _MAX_HINT_CHARACTERS * 10]))
    # Category C: control, format (also bidirectional), surrogate and private-use characters.
    text = "".join(" " if unicodedata.category(character)[0] in "CZ" else character for character in text)
    text = " ".join(text.split())
    return text if len(text) <= _MAX_HINT_CHARACTERS else f"{text[: _MAX_HINT_CHARACTERS - 1].rstrip()}…"


def read_text(entry: Mapping[str, Any], *names: str) -> str | None:
    """Return the first of these fields that holds a short text; None when none does."""
    values = (entry.get(name) for name in names)
    return next((text for text in values if isinstance(text, str) and 0 < len(text) <= _MAX_ID_CHARACTERS), None)


def read_object(entry: Mapping[str, Any], *names: str) -> Mapping[str, Any] | None:
    """Return the first of these fields that holds an object that is not empty; None when none does."""
    return next((found for name in names if (found := as_object(entry.get(name)))), None)


def read_id(value: Any) -> str | None:
    """Return an id that is safe in a path and a database row, or None."""
    if not isinstance(value, str) or len(value) > _MAX_ID_CHARACTERS or not _USABLE_ID.fullmatch(value):
        return None
    return None if _DOTS_ONLY.fullmatch(value) else value


def read_style(value: Any, *, redact: Redact) -> Style | None:
    """Return an entry of a list of styles, or None when it is not public or has no title."""
    entry = as_object(value)
    style_id, title, likes = read_id(entry.get("id")), _clean(entry.get("title"), redact), entry.get("like_count")
    if style_id is None or not title or entry.get("public") is not True:
        return None
    return Style(
        id=style_id,
        title=title,
        families=tuple(
            name
            for name in as_list(entry.get("models"))[:_MAX_LIST_ITEMS]
            if isinstance(name, str) and is_printed(name)
        ),
        likes=min(max(0, likes), _MAX_LIKES) if isinstance(likes, int) else 0,
    )


def read_word(value: Any, *, redact: Redact) -> str:
    """Return a status word as one short printable line without secrets, for logs and the operator."""
    return _clean(value, redact)[:60]


def is_printed(text: str) -> bool:
    """Return whether a text holds no half of a surrogate pair, which no file, database or address can hold."""
    return text.isprintable()


def read_cursor(value: Any) -> str | None:
    """Return the cursor of the next page of a list, or None at its end."""
    return value if isinstance(value, str) and value and is_printed(value) else None


def read_time(value: Any) -> datetime | None:
    """Parse an ISO 8601 time of the years 2020 to 2099 to aware UTC; a time without a zone is taken as UTC."""
    if not isinstance(value, str) or len(value) > _MAX_NUMBER_CHARACTERS:
        return None
    try:
        moment = datetime.fromisoformat(value)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return moment if _EARLIEST <= moment < _LATEST else None


def read_took_seconds(job: Mapping[str, Any]) -> float | None:
    """Return the time from creation to completion by the provider's clock, at most a day; None if one is missing."""
    created_at, completed_at = read_time(job.get("created_at")), read_time(job.get("completed_at"))
    if created_at is None or completed_at is None or completed_at <= created_at:
        return None
    took_seconds = (completed_at - created_at).total_seconds()
    return took_seconds if took_seconds <= _MAX_TOOK_SECONDS else None


def read_cost_usd_micros(*objects: Mapping[str, Any]) -> int | None:
    """Return the price stated in a job: `cost_microdollars`, else `cost_usd`, rounded up to a micro-dollar."""
    for item in objects:
        for name, factor in (("cost_microdollars", 1), ("cost_usd", MICROS_PER_USD)):
            value = item.get(name)
            if isinstance(value, bool) or not isinstance(value, int | float | str):
                continue
            try:
                text = str(value)
                amount = Decimal(text if len(text) <= _MAX_NUMBER_CHARACTERS else "NaN") * factor
            except (ArithmeticError, ValueError):  # Overflow, InvalidOperation; an int of thousands of digits
                continue
            if amount.is_finite() and 0 <= amount <= _MAX_COST_USD * MICROS_PER_USD:
                return int(amount.to_integral_value(rounding="ROUND_CEILING"))
    return None


def read_image_urls(value: Any) -> tuple[str, ...]:
    """Return the URLs of finished images from any documented shape: string, list, `{type, url}`, name → URL.

    At most `_MAX_IMAGE_URLS`, and none that is marked as a preview, a thumbnail, a video or a sound.
    """
    found = (url for kind, url in _urls(value) if not _NO_IMAGE_KIND.search(kind) and not _NO_IMAGE_PATH.search(url))
    return tuple(islice(dict.fromkeys(islice(found, _MAX_LIST_ITEMS)), _MAX_IMAGE_URLS))


def read_preview_url(value: Any) -> str | None:
    """Return the URL of the newest preview; in an unfinished job, any URL is one."""
    found = list(islice(_urls(value), _MAX_LIST_ITEMS))
    marked = [url for kind, url in found if kind == "preview"]
    return (marked or [url for _, url in found] or [None])[-1]


def _urls(value: Any, depth: int = 0) -> Iterator[tuple[str, str]]:
    """Yield (kind, URL) pairs; the kind is the provider's word, or ''."""
    if depth > _MAX_DEPTH:
        return
    if isinstance(value, str):
        if value.startswith(("https://", "http://")) and len(value) <= _MAX_URL_CHARACTERS and is_printed(value):
            yield "", value
    elif isinstance(value, list):
        for item in as_list(value):
            yield from _urls(item, depth + 1)
    elif isinstance(value, dict):
        entry = as_object(value)
        nested, kind = entry.get("url"), entry.get("type")
        if isinstance(nested, str) and isinstance(kind, str):
            yield from ((kind.lower(), url) for _, url in _urls(nested))
        else:
            for name, item in entry.items():
                yield from ((kind or name.lower(), url) for kind, url in _urls(item, depth + 1))


def read_withdrawal(headers: Mapping[str, str]) -> Withdrawal | None:
    """Return what the headers of an answer say about the end of a model (`Deprecation`, `Sunset`); None for nothing."""
    deprecation, sunset = headers.get("Deprecation", "").strip(), headers.get("Sunset", "").strip()
    if not sunset and deprecation.casefold() in ("", "false", "0"):
        return None
    try:
        ends_at = parsedate_to_datetime(sunset[:60]) if sunset else None
    except (ValueError, TypeError, OverflowError):
        ends_at = None
    if ends_at is not None and (ends_at.tzinfo is None or not 2020 <= ends_at.year <= 2100):
        ends_at = None
    return Withdrawal(ends_at=ends_at)


StatusMeaning = tuple[JobStatus, Progress | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class JobState:
    """What a job's status word and the rest of the job say together.

    `is_known` is False for a word that is not documented. `is_new_word`: the operator was not told of it yet.
    """

    status: JobStatus
    progress: Progress | None = None
    is_known: bool = True
    is_new_word: bool = False


class StatusMap:
    """The status words of one provider. An unknown word alone means 'running' and is logged once."""

    def __init__(self, provider: str, known: Mapping[str, StatusMeaning], *, redact: Redact) -> None:
        self._provider = provider
        self._known = known
        self._redact = redact
        self._logged: set[str] = set()
        self._told: set[str] = set()

    def read_job(self, job: Mapping[str, Any], *, image_urls: tuple[str, ...], error: Any) -> JobState:
        """Return the state of a job; for an unknown word, what else the job holds decides.

        Finished images mean that it succeeded, unless the job says that it is not completed (`completed_at` is null).
        A completion time and an error mean that it failed. Otherwise it is running.
        """
        word = self._key(job.get("status"))
        status, progress = self.read(word)
        if word in self._known:
            return JobState(status=status, progress=progress)
        is_completed = read_time(job.get("completed_at")) is not None
        if image_urls and (is_completed or "completed_at" not in job):
            status = JobStatus.SUCCEEDED
        elif is_completed and error:
            status = JobStatus.FAILED
        is_new_word = word[:60] not in self._told and len(self._told) < _MAX_TOLD_STATUSES
        if is_new_word:
            self._told.add(word[:60])
        return JobState(status=status, is_known=False, is_new_word=is_new_word)

    @staticmethod
    def _key(word: Any) -> str:
        return word.strip().lower() if isinstance(word, str) else str(word)

    def read(self, word: Any) -> StatusMeaning:
        """Return the meaning of a status word, ignoring case."""
        text = self._key(word)
        meaning = self._known.get(text)
        if meaning is not None:
            return meaning
        name = read_word(text, redact=self._redact)
        if name not in self._logged and len(self._logged) < _MAX_LOGGED_STATUSES:
            self._logged.add(name)
            _log.warning('unknown status "%s" of %s is taken to mean running', name, self._provider)
        return JobStatus.RUNNING, None
