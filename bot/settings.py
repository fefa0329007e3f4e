"""Settings of the operator, read once from the environment or `.env` as one frozen value."""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from dotenv.parser import parse_stream
from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from bot.domain.deployment.database_url import Location, PostgresAddress, parse_location
from bot.domain.errors import SettingsError
from bot.domain.money.quota import Limits, Period, Quota, QuotaSource, parse_usd

_HOST = re.compile(r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:\d{1,5})?$")
_LISTEN_HOST = re.compile(r"^[A-Za-z0-9.-]+$")
_ID = re.compile(r"^[1-9][0-9]{0,19}$")
_NAME = re.compile(r"^[A-Z][A-Z0-9_]{2,39}$")
_OWN_PREFIXES = ("ALLOWED_SERVER", "CATALOGUE", "DEFAULT_M", "DEFAULT_Q", "DIRECT_", "DISCORD", "OPERATOR", "TOPUP")
"""How names in the environment begin that only this bot reads, so that one that it does not know is a typo.

The names of the providers are such as well.
"""

_QUOTES = ("'", '"', "\u201c", "\u201d", "\u201e", "\u2018", "\u2019")

SHARES_OF_THE_CAP = 5
"""The caps for one server and for uncharged costs are this part of OPERATOR_DAILY_CAP_USD unless they are set."""


MAX_TOP_UP_SKUS = 5
"""As many buttons as Discord shows in one row."""


def _base_url(value: str) -> str:
    parts = urlsplit(value.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or parts.username:
        raise ValueError("not a base address")
    # `port` raises ValueError for an invalid one; spaces would end up in a request line.
    if parts.port == 0 or any(character.isspace() for character in value.strip()):
        raise ValueError("not a base address")
    return value.strip().rstrip("/")


def _hosts(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    hosts = tuple(part.strip().lower() for part in value.split(",") if part.strip())
    if not hosts or not all(_HOST.match(host) for host in hosts):
        raise ValueError("not a list of hosts")
    return hosts


def _server_ids(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    ids = [part.strip() for part in value.split(",") if part.strip()]
    if not ids or not all(_ID.match(server_id) for server_id in ids):
        raise ValueError("not a list of ids")
    return frozenset(int(server_id) for server_id in ids)


def _top_up_skus(value: Any) -> Any:
    """Read `<sku id>=<dollars>` pairs with commas between them."""
    if not isinstance(value, str):
        return value
    skus: dict[int, int] = {}
    for part in value.split(","):
        sku_id, _, amount = part.partition("=")
        if not _ID.match(sku_id.strip()) or int(sku_id) in skus or (amount_usd_micros := parse_usd(amount)) == 0:
            raise ValueError("not a list of SKUs with amounts")
        skus[int(sku_id)] = amount_usd_micros
    if len(skus) > MAX_TOP_UP_SKUS:
        raise ValueError("too many SKUs")
    return skus


def _secret(value: SecretStr) -> SecretStr | None:
    text = value.get_secret_value().strip()
    # It is sent in a header, which must not contain a line break or a pasted sentence. Quotes were left by a reader of
    # env files that knows none, as that of `docker run`.
    if not text.isascii() or not text.isprintable() or any(character in text for character in " \"'"):
        raise ValueError("not a key")
    return SecretStr(text) if text else None


def _listen_host(value: str) -> str:
    if ":" in value:
        ipaddress.IPv6Address(value)  # raises ValueError, also for a host with a port
    elif not _LISTEN_HOST.match(value):
        raise ValueError("not a host")
    return value


def _location(value: Any) -> Location:
    return parse_location(value) if isinstance(value, str) else value


def _upper(value: Any) -> Any:
    return value.strip().upper() if isinstance(value, str) else value


def _lower(value: Any) -> Any:
    return value.strip().lower() if isinstance(value, str) else value


def _whole(low: int, high: int) -> Any:
    return Field(ge=low, le=high, description=f"a whole number from {low} to {high}")


# Every description completes the sentence "NAME must be …".
_BaseUrl = Annotated[
    str, AfterValidator(_base_url), Field(description="an http(s) address such as https://api.example.com")
]
_UsdMicros = Annotated[
    int,
    BeforeValidator(lambda value: parse_usd(str(value))),
    Field(description="an amount in dollars such as 1.00, up to 7 digits before the point and 6 after it"),
]
_UsdMicrosOrShare = Annotated[
    int | None,
    BeforeValidator(lambda value: parse_usd(str(value))),
    Field(
        description="an amount in dollars such as 1.00, up to 7 digits before the point and 6 after it, or empty for "
        "its share of OPERATOR_DAILY_CAP_USD"
    ),
]
_Secret = Annotated[
    SecretStr | None,
    AfterValidator(lambda value: None if value is None else _secret(value)),
    Field(description="a key in plain letters, digits and signs, without blanks or quotes"),
]
_Seconds = Annotated[
    float, Field(gt=0, le=600, allow_inf_nan=False, description="a number of seconds above 0, at most 600")
]
_LISTEN_HOST_DESCRIPTION = "an address to listen on, without a port, such as 127.0.0.1 or 0.0.0.0"
_ListenHost = Annotated[str, AfterValidator(_listen_host), Field(description=_LISTEN_HOST_DESCRIPTION)]
_Switch = Annotated[bool, Field(description="true or false")]


@dataclass(frozen=True, slots=True)
class ProviderSettings:
    """What is set for one provider. Without a key nothing is ordered there."""

    name: str
    api_key: SecretStr | None
    api_base: str
    poll_seconds: float
    max_concurrency: int


class Settings(BaseSettings):
    """All settings. Names in the environment are these names in upper case; `.env.example` explains each.

    Amounts are given in dollars and held in micro-dollars. An empty variable counts as not set.
    """

    model_config = SettingsConfigDict(
        env_file_encoding="utf-8-sig",  # some editors put a byte order mark in front
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
        validate_default=False,  # the defaults of amounts are micro-dollars already
    )

    discord_token: _Secret = None
    discord_api_base: _BaseUrl = "https://discord.com/api/v10"
    discord_cdn_hosts: Annotated[
        tuple[str, ...],
        NoDecode,
        BeforeValidator(_hosts),
        Field(description="host names with commas between them, such as cdn.discordapp.com,media.discordapp.net"),
    ] = ("cdn.discordapp.com", "media.discordapp.net")
    krea_api_key: _Secret = None
    krea_api_base: _BaseUrl = "https://api.krea.ai"
    pixazo_api_key: _Secret = None
    pixazo_api_base: _BaseUrl = "https://gateway.pixazo.ai"
    database_url: Annotated[
        Location,
        PlainValidator(_location),
        Field(
            description="sqlite:///data/bot.sqlite3, another file, or postgresql://user:password@host/database, with "
            "%40 for @, %2F for / and %25 for % in the password"
        ),
    ] = Path("data/bot.sqlite3")
    default_model: Annotated[
        str,
        Field(pattern=r"^[a-z0-9._-]+(/[a-z0-9._-]+)+$", description="a model id such as krea/google/nano-banana-2"),
    ] = "krea/google/nano-banana-2"
    default_quota_usd: _UsdMicros = 1_000_000
    default_quota_period: Annotated[Period, BeforeValidator(_lower), Field(description="day, week or month")] = (
        Period.DAY
    )
    direct_quota_usd: _UsdMicros = 0
    direct_quota_period: Annotated[Period, BeforeValidator(_lower), Field(description="day, week or month")] = (
        Period.DAY
    )
    operator_daily_cap_usd: _UsdMicros = 25_000_000
    operator_server_cap_usd: _UsdMicrosOrShare = None
    operator_cost_per_member_usd: _UsdMicros = 250_000
    operator_cost_daily_cap_usd: _UsdMicrosOrShare = None
    allowed_servers: Annotated[
        frozenset[int],
        NoDecode,
        BeforeValidator(_server_ids),
        Field(description="ids of servers with commas between them, such as 81384788765712384,613425648685547541"),
    ] = frozenset()
    topup_skus: Annotated[
        dict[int, int],
        NoDecode,
        BeforeValidator(_top_up_skus),
        Field(
            description="up to five different SKU ids, each with the dollars it pays in, such as "
            "1174801234567890123=5.00,1174801234567890124=20.00"
        ),
    ] = {}
    max_running_jobs_per_user: Annotated[int, _whole(1, 10_000)] = 3
    krea_max_concurrency: Annotated[int, _whole(1, 100_000)] = 8
    pixazo_max_concurrency: Annotated[int, _whole(1, 100_000)] = 4
    krea_poll_seconds: _Seconds = 2.0
    pixazo_poll_seconds: _Seconds = 5.0
    public_url: Annotated[_BaseUrl | None, Field(description="an https address such as https://bot.example.com")] = None
    http_host: _ListenHost = "127.0.0.1"
    http_port: Annotated[int, _whole(0, 65_535)] = 8080
    webhook_host: Annotated[_ListenHost | None, Field(description=_LISTEN_HOST_DESCRIPTION)] = None
    webhook_port: Annotated[int | None, _whole(0, 65_535)] = None
    catalogue_refresh_hours: Annotated[
        float,
        Field(
            ge=0, le=8_760, allow_inf_nan=False, description="a number of hours such as 24, at most 8760; 0 for never"
        ),
    ] = 24.0
    media_allow_private_addresses: _Switch = False
    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR"],
        BeforeValidator(_upper),
        Field(description="DEBUG, INFO, WARNING or ERROR"),
    ] = "INFO"
    log_format: Annotated[Literal["console", "json"], BeforeValidator(_lower), Field(description="console or json")] = (
        "console"
    )
    sync_commands: _Switch = True

    @property
    def server_cap_usd_micros(self) -> int:
        """OPERATOR_SERVER_CAP_USD; unless set, a fifth of the daily cap, and all of it for servers that were chosen."""
        if self.operator_server_cap_usd is not None:
            return self.operator_server_cap_usd
        return self.operator_daily_cap_usd if self.allowed_servers else self.operator_daily_cap_usd // SHARES_OF_THE_CAP

    @property
    def direct_cap_usd_micros(self) -> int:
        """OPERATOR_SERVER_CAP_USD, for all people together who order outside servers; unless set, a fifth.

        ALLOWED_SERVERS does not raise it: these people were not chosen.
        """
        if self.operator_server_cap_usd is not None:
            return self.operator_server_cap_usd
        return self.operator_daily_cap_usd // SHARES_OF_THE_CAP

    @property
    def cost_daily_cap_usd_micros(self) -> int:
        """OPERATOR_COST_DAILY_CAP_USD; unless set, a fifth of the daily cap."""
        if self.operator_cost_daily_cap_usd is not None:
            return self.operator_cost_daily_cap_usd
        return self.operator_daily_cap_usd // SHARES_OF_THE_CAP

    @property
    def webhook_address(self) -> tuple[str, int] | None:
        """Where webhooks have a listener of their own; None where they share that of HTTP_HOST and HTTP_PORT."""
        address = (
            self.http_host if self.webhook_host is None else self.webhook_host,
            self.http_port if self.webhook_port is None else self.webhook_port,
        )
        return None if self.webhook_port is None and address == (self.http_host, self.http_port) else address

    @property
    def data_folder(self) -> Path:
        """The folder of images and of the operator's prices: that of the database file, or `data` without one."""
        return self.database_url.parent if isinstance(self.database_url, Path) else Path("data")

    @property
    def secret_values(self) -> tuple[str, ...]:
        """Secrets, which must never appear in a log."""
        secrets = [value.get_secret_value() for _, value in self if isinstance(value, SecretStr)]
        passwords = self.database_url.secrets if isinstance(self.database_url, PostgresAddress) else ()
        return (*secrets, *passwords)

    @property
    def providers(self) -> tuple[ProviderSettings, ...]:
        """What is set for each provider, with a key or without. A further provider is one more entry."""
        return (
            ProviderSettings(
                name="krea",
                api_key=self.krea_api_key,
                api_base=self.krea_api_base,
                poll_seconds=self.krea_poll_seconds,
                max_concurrency=self.krea_max_concurrency,
            ),
            ProviderSettings(
                name="pixazo",
                api_key=self.pixazo_api_key,
                api_base=self.pixazo_api_base,
                poll_seconds=self.pixazo_poll_seconds,
                max_concurrency=self.pixazo_max_concurrency,
            ),
        )

    @property
    def provider_keys(self) -> frozenset[str]:
        """The names of the providers that we have a key for."""
        return frozenset(provider.name for provider in self.providers if provider.api_key is not None)

    @property
    def limits(self) -> Limits:
        """The limits that hold where a server's moderators set none, and those that always hold."""
        return Limits(
            default_quota=Quota(
                amount_usd_micros=self.default_quota_usd, period=self.default_quota_period, source=QuotaSource.SETTINGS
            ),
            operator_daily_cap_usd_micros=self.operator_daily_cap_usd,
            operator_server_cap_usd_micros=self.server_cap_usd_micros,
            operator_cost_per_member_usd_micros=self.operator_cost_per_member_usd,
            operator_cost_daily_cap_usd_micros=self.cost_daily_cap_usd_micros,
            max_running_jobs=self.max_running_jobs_per_user,
            direct_quota=self._direct_quota,
            operator_direct_cap_usd_micros=self.direct_cap_usd_micros,
        )

    @property
    def _direct_quota(self) -> Quota | None:
        if not self.direct_quota_usd:
            return None
        return Quota(
            amount_usd_micros=self.direct_quota_usd, period=self.direct_quota_period, source=QuotaSource.SETTINGS
        )


def load_settings(env_file: str | Path = ".env", *, credentials: bool = True) -> Settings:
    """Read the settings from the environment, then from `env_file` if it exists.

    With `credentials`, the Discord token and at least one provider key are required; commands that only use the
    database do without. Raises SettingsError: one line with the variables and what they accept, never a value.
    """
    _check_names(Path(env_file))
    _check_environment_names()
    try:
        settings = Settings(_env_file=env_file)  # pyright: ignore[reportCallIssue]
    except ValidationError as error:
        raise SettingsError(_describe(error)) from None
    if credentials and settings.discord_token is None:
        raise SettingsError("DISCORD_TOKEN is missing: it must be the bot's token from Discord's developer portal")
    if credentials and not settings.provider_keys:
        names = " or ".join(f"{provider.name.upper()}_API_KEY" for provider in settings.providers)
        raise SettingsError(f"{names} is missing: at least one provider's key is needed")
    if settings.http_port != 0 and settings.webhook_address == (settings.http_host, settings.http_port):
        raise SettingsError("WEBHOOK_PORT must be another port than HTTP_PORT, or empty")
    return settings


def _describe(error: ValidationError) -> str:
    """List each invalid variable once, with what it accepts, without its value, which may be a misplaced key."""
    slips = {str(problem["loc"][0]): _slip(problem["input"]) for problem in error.errors(include_context=False)}
    return "; ".join(
        f"{name.upper()} must be {Settings.model_fields[name].description}{slip}" for name, slip in slips.items()
    )


def _slip(value: object) -> str:
    """Name what may surround a value in `.env`, but is part of it for `docker run --env-file` and `kubectl create`."""
    if not isinstance(value, str):
        return ""
    if value.strip().startswith(_QUOTES):
        return ": it begins with a quote"
    return ": it has a comment behind it" if " #" in value else ""


def _check_names(env_file: Path) -> None:
    """Refuse lines of `env_file` that set nothing, so that a typo does not silently leave a default in force."""
    if not env_file.exists():
        return
    try:
        with env_file.open(encoding="utf-8-sig") as lines:
            bindings = list(parse_stream(lines))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{env_file} cannot be read as a text file in UTF-8 ({type(error).__name__})") from None
    lines_by_name: dict[str, int] = {}
    for binding in bindings:
        location = f"{env_file} line {binding.original.line}"
        if binding.error or (binding.key is not None and binding.value is None):
            raise SettingsError(f"{location} is not of the form NAME=value")
        if binding.key is None:
            continue
        if (name := binding.key.upper()) not in _known_names():
            # A key pasted without its name is parsed as a name, so only plausible names are shown.
            shown = binding.key if _NAME.match(binding.key) else "the name"
            raise SettingsError(f"{location}: {shown} is not a setting{_suggestion(name)}")
        if name in lines_by_name:  # the last one would count, also where it is empty
            raise SettingsError(f"{location}: {name} is set already in line {lines_by_name[name]}")
        if binding.value:
            lines_by_name[name] = binding.original.line


def _check_environment_names() -> None:
    """Refuse a variable that only this bot would read and does not know: container engines pass on whole env files."""
    providers = (name.removesuffix("API_KEY") for name in _known_names() if name.endswith("_API_KEY"))
    own_prefixes = (*_OWN_PREFIXES, *providers)
    for name in sorted(name.upper() for name in os.environ):
        if name.startswith(own_prefixes) and _NAME.match(name) and name not in _known_names():
            raise SettingsError(f"{name} in the environment is not a setting{_suggestion(name)}")


def _known_names() -> list[str]:
    return [name.upper() for name in Settings.model_fields]


def _suggestion(name: str) -> str:
    """Suggest the shortest setting that has all words of `name`, or else the one that is spelled most alike."""
    words = set(name.split("_"))
    with_all = [known for known in _known_names() if words <= set(known.split("_"))]
    close = sorted(with_all, key=len) or difflib.get_close_matches(name, _known_names(), n=1)
    return f"; did you mean {close[0]}?" if close else ""
