"""What can go wrong, as a tree. Errors carry facts; the renderer carries words.

BotError
├── SettingsError                    a setting is missing or wrong: the start stops with one line
├── RequestRefused                   nothing reserved, nothing bought; the member reads why
│   ├── QuotaExceeded                the member's own quota
│   ├── ChannelCapReached            the cap of the channel, or of its category
│   ├── ServerCapReached             the server's cap
│   ├── OperatorCapReached           the operator's daily cap over all servers
│   ├── OperatorServerCapReached     the operator's daily cap for one server
│   ├── MemberCostReached            the member cost the operator, uncharged, as much as one member may in a day
│   ├── OperatorCostCapReached       all members together did, and this one among them
│   ├── TooMuchAtRisk                it could get there, with what the member has running
│   ├── DearerThanAgreed             it costs more than the button or form said
│   ├── TooManyRunning               the member has enough jobs running
│   ├── ServerBusy                   the server has as many unfinished jobs as it may
│   ├── TooFast                      the member or the server ordered too much within a minute
│   ├── StillBusyForYou              earlier commands of the member are still being worked on
│   ├── AskedTooOften                the member asked for too many reports, exports or pages
│   ├── ManyAsking                   too many members are being served with the same heavy work
│   ├── MemberBlocked                a moderator blocked the member
│   ├── UnknownModel                 no such id in the catalogue
│   ├── SameModelTwice               a comparison names one model twice
│   ├── UnknownPreset                the member has no preset of that name here
│   ├── ModelUnavailable             listed, but cannot be ordered (no price, no key, retired)
│   ├── BadOption                    an option the model does not support, or a value out of range
│   ├── UnusableImage                not an image, too big, broken, animated …
│   ├── ProviderPaused               the provider is stopped or failing; try later
│   ├── NotAllowedHere               the server's moderators do not allow it: channel, model, word …
│   ├── ListFull                     a list of settings is full
│   ├── StillUnderWay                a member's data cannot be deleted while a command is running
│   └── DuplicateCommand             the same command was accepted before; show nothing
├── ProviderError                    its class decides what happens to the money, see job_runner.py
│   ├── ProviderRejected             release: refused or failed, known not to be charged
│   │   └── ProviderDenied           release, stop the provider and alert the operator (401, 402, 403)
│   ├── ProviderUnavailable          nothing was accepted: may be sent again
│   │   └── ForeignAnswer            the answer is about another job: read it again
│   └── OutcomeUncertain             keep the reservation: maybe accepted, maybe charged. Reconcile
├── MediaError                       an image could not be fetched or is not what it claims
└── StoreError                       the database cannot be read or written: nothing is bought
    ├── LedgerError                  an impossible ledger entry was requested: a defect
    ├── DatabaseBusy                 another process holds the database
    └── DatabaseUnusable             damaged, newer than the program, or of another program
        └── LedgerTampered           sound, but its amounts were changed by another program: exit code 2
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from bot.domain.constraints import Constraint


class BotError(Exception):
    """Base class of all errors that this program raises."""


class SettingsError(BotError):
    """A setting is missing or wrong. `str()` is one line that names the variable and what it accepts."""


# -- refused: nothing reserved, nothing bought ------------------------------------------------------


class RequestRefused(BotError):
    """The request was not accepted. Nothing was reserved and nothing was bought."""


@dataclass(eq=False)
class LimitFacts:
    """What the refusals have in common of which the request costs more than is left of a limit in its window."""

    asked_usd_micros: int
    available_usd_micros: int
    """With what is in the member's wallet, where a wallet goes beyond the limit."""
    resets_at: datetime


@dataclass(eq=False)
class QuotaExceeded(LimitFacts, RequestRefused):
    """The request costs more than the member has left in this window."""

    limit_usd_micros: int
    """The quota of a whole window. Where it is zero, no reset helps."""
    wallet_usd_micros: int = 0


@dataclass(eq=False)
class ChannelCapReached(LimitFacts, RequestRefused):
    """The request costs more than its channel, or the category of that, has left in its window."""

    limit_usd_micros: int
    """The cap of a whole window. Where it is zero, no reset helps."""
    channel_id: int
    """The channel or category whose cap that is."""


@dataclass(eq=False)
class ServerCapReached(LimitFacts, RequestRefused):
    """The request costs more than the server has left in its window."""

    limit_usd_micros: int
    """The cap of a whole window. Where it is zero, no reset helps."""


@dataclass(eq=False)
class OperatorCapReached(RequestRefused):
    """The operator's cap for all servers together does not allow the request today (UTC)."""

    resets_at: datetime


@dataclass(eq=False)
class OperatorServerCapReached(LimitFacts, RequestRefused):
    """The request costs more than the operator lets this server spend today (UTC)."""

    wallet_usd_micros: int = 0


class OperatorDirectCapReached(OperatorServerCapReached):
    """The request costs more than the operator lets all people together spend outside servers today (UTC)."""


@dataclass(eq=False)
class MemberCostReached(RequestRefused):
    """The member's uncharged jobs cost the operator as much as they may today (UTC), over all servers."""

    resets_at: datetime


@dataclass(eq=False)
class OperatorCostCapReached(RequestRefused):
    """The uncharged jobs of all members cost the operator as much as they may today (UTC), some of this member's."""

    resets_at: datetime


@dataclass(eq=False)
class TooMuchAtRisk(RequestRefused):
    """Some of the member's jobs cost the operator money today (UTC) or are in doubt, and others are not done yet.

    If those failed as well, the request could exceed what the member may cost the operator until `resets_at`.
    """

    resets_at: datetime


@dataclass(eq=False)
class DearerThanAgreed(RequestRefused):
    """The request costs more than the button or form said that the member used."""

    amount_usd_micros: int


@dataclass(eq=False)
class TooManyRunning(RequestRefused):
    """The member already has as many running jobs as allowed."""

    running: int
    limit: int


@dataclass(eq=False)
class ServerBusy(RequestRefused):
    """The server's members together have as many unfinished jobs as one server may have."""

    running: int
    limit: int


class DirectBusy(ServerBusy):
    """All people together have as many unfinished jobs outside servers as one server may have."""


@dataclass(eq=False)
class TooFast(RequestRefused):
    """Too many orders within a minute, by the member or by the whole server; more are allowed from `free_at` on."""

    free_at: datetime


class StillBusyForYou(RequestRefused):
    """Heavy work for the member's earlier commands is not done yet, and enough of it waits already."""


@dataclass(eq=False)
class AskedTooOften(RequestRefused):
    """The member had much read or drawn for them in a short time; more is done from `free_at` on."""

    free_at: datetime


@dataclass(eq=False)
class ManyAsking(RequestRefused):
    """Too much of the same heavy work is being done for others; it may be tried again from `free_at` on."""

    free_at: datetime


class MemberBlocked(RequestRefused):
    """A moderator decided that the member gets no new jobs in this server."""


@dataclass(eq=False)
class UnknownModel(RequestRefused):
    """No model of that id is in the catalogue. `suggestions` are similar ids."""

    model_id: str
    suggestions: tuple[str, ...] = ()


@dataclass(eq=False)
class SameModelTwice(RequestRefused):
    """A comparison names one model more than once."""

    model_label: str


@dataclass(eq=False)
class UnknownPreset(RequestRefused):
    """Neither the server nor the member has a preset of that name."""

    name: str


@dataclass(eq=False)
class ModelUnavailable(RequestRefused):
    """The model is known but cannot be ordered.

    `reason` is one of: 'no_price', 'no_key', 'retired', 'not_for_this_command', 'held' (a change of its price or fields
    waits for the operator), 'gone' (its provider says so). `heir` is the label of a model that takes its place, if any.
    """

    model_id: str
    model_label: str
    reason: str
    heir: str = ""


@dataclass(eq=False)
class BadOption(RequestRefused):
    """An option is not supported, missing or has an invalid value.

    `reason` is one of: 'unknown', 'missing', 'invalid', 'wrong_length' (`length` is the one of what was given, in
    characters), 'not_with' (`other` is the option that it cannot be combined with), 'not_without' (`other` is the
    option that it needs, and `constraint` what that one has to be). `constraint` is what the value has to be, None for
    an option that the model does not support; `supported_options` are the options that it does.
    """

    option: str
    model_label: str
    reason: str
    constraint: Constraint | None = None
    length: int | None = None
    supported_options: tuple[str, ...] = ()
    other: str = ""


@dataclass(eq=False)
class UnusableImage(RequestRefused):
    """An attached file is not a usable image.

    `reason` is one of: 'not_an_image', 'unsupported_type', 'broken', 'animated', 'too_many_bytes', 'too_many_pixels',
    'too_small', 'unreachable', 'foreign_host'. Reasons about size come with the limit: a maximum, or
    (`side_pixels`) the minimum of each side.
    """

    filename: str
    reason: str
    limit_bytes: int | None = None
    limit_pixels: int | None = None
    side_pixels: int | None = None


@dataclass(eq=False)
class ProviderPaused(RequestRefused):
    """New jobs for this provider are refused for now."""

    provider: str


@dataclass(eq=False)
class NotAllowedHere(RequestRefused):
    """The policy of the server forbids the request.

    `reason` is one of: 'channel' (`channel_ids` are the allowed ones, if any), 'model', 'other_roles' (`role_ids` may
    use the model), 'age_restricted' (the model works only in age-restricted channels), 'age_restricted_model' (the same
    by the operator's decision), 'direct' (the same again, outside the servers that have the bot), 'word' (on the word
    list).
    """

    reason: str
    model_label: str = ""
    word: str = ""
    channel_ids: tuple[int, ...] = ()
    role_ids: tuple[int, ...] = ()


@dataclass(eq=False)
class ListFull(RequestRefused):
    """A list of settings has `limit` entries already."""

    limit: int


@dataclass(eq=False)
class StillUnderWay(RequestRefused):
    """A member's data cannot be deleted while `commands` of theirs have not ended.

    `checked_until` is when the last reconciliation of a lost order ends, which cannot be cancelled; None without one.
    """

    commands: int
    checked_until: datetime | None = None


class DuplicateCommand(RequestRefused):
    """The same command event was already accepted and has its job and reply."""


# -- providers: the class decides what happens to the money ---------------------------------------


class ProviderError(BotError):
    """A request to an image API failed. `detail` is for the log and the operator, never shown to members."""

    def __init__(self, detail: str, *, status: int | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.status = status


class ProviderRejected(ProviderError):
    """Refused or failed, and known not to be charged. The reservation is released.

    `reason` is a word of `jobs.FailureReason`; `hint` as in `jobs.Failure`.
    """

    def __init__(self, detail: str, *, status: int | None = None, reason: str = "rejected", hint: str = "") -> None:
        super().__init__(detail, status=status)
        self.reason = reason
        self.hint = hint


class ProviderDenied(ProviderRejected):
    """401, 402 or 403: our key or our balance is refused. Release, stop the provider, tell the operator once."""


class ProviderUnavailable(ProviderError):
    """Never accepted (connection refused, 429): the same order may be sent again, after `retry_after_seconds`."""

    def __init__(self, detail: str, *, status: int | None = None, retry_after_seconds: float | None = None) -> None:
        super().__init__(detail, status=status)
        self.retry_after_seconds = retry_after_seconds


class ForeignAnswer(ProviderUnavailable):
    """The answer names another job than the one asked for, whose image may belong to another member."""


class OutcomeUncertain(ProviderError):
    """The order may have been accepted and charged. It is never sent again, but looked up for 15 minutes."""


# -- the rest -----------------------------------------------------------------------------------------


class MediaError(BotError):
    """An image could not be fetched or is not an image. `transient` says whether fetching it again may help.

    `reason` is one of those of UnusableImage, because members' attachments are fetched as well. `answered` says that
    the server works and answered about this file.
    """

    def __init__(self, detail: str, *, transient: bool, reason: str = "unreachable", answered: bool = False) -> None:
        super().__init__(detail)
        self.transient = transient
        self.reason = reason
        self.answered = answered

    @property
    def is_out_of_reach(self) -> bool:
        """True when the server could not be reached or is out of order, which says nothing about the image."""
        return self.transient and not self.answered


class ImagesNotHosted(BotError):
    """Discord did not take the copies of input images that a provider fetches from there."""


class StoreError(BotError):
    """The database could not be read or written. Nothing may be bought then."""


class LedgerError(StoreError):
    """An impossible ledger entry was requested, such as settling a reservation twice."""


class DatabaseBusy(StoreError):
    """Another process uses the database."""


class DatabaseUnusable(StoreError):
    """The file is damaged, newer than this program, or not a database of this program. `str()` says what to do."""


class LedgerTampered(DatabaseUnusable):
    """The amounts in the database do not add up: something else than this program changed them."""
