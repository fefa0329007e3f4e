"""Settings: everything the operator decides, read once from the environment or `.env` as one frozen value."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from bot.errors import SettingsError
from bot.quota import Period, parse_usd


def _base_url(value: str) -> str:
    parts = urlsplit(value.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or parts.username:
        raise ValueError("an http(s) address such as https://api.example.com")
    return value.strip().rstrip("/")


def _usd(value: Any) -> int:
    try:
        return parse_usd(str(value))
    except ValueError:
        raise ValueError("an amount in dollars such as 1.00 (up to 7 digits, up to 6 decimals)") from None


def _hosts(value: Any) -> Any:
    return tuple(part.strip().lower() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _not_blank(value: SecretStr | None) -> SecretStr | None:
    if value is None or not value.get_secret_value().strip():
        return None
    if any(character.isspace() for character in value.get_secret_value().strip()):
        raise ValueError("a key without blanks")
    return SecretStr(value.get_secret_value().strip())


def _database_url(value: str) -> str:
    if not value.startswith("sqlite:///") or not value.removeprefix("sqlite:///"):
        raise ValueError("an address such as sqlite:///data/bot.sqlite3")
    return value


BaseUrl = Annotated[str, AfterValidator(_base_url)]
UsdMicros = Annotated[int, BeforeValidator(_usd)]
Secret = Annotated[SecretStr | None, AfterValidator(_not_blank)]


class Settings(BaseSettings):
    """One frozen value. Names in the environment are these names in upper case; `.env.example` explains each."""

    model_config = SettingsConfigDict(
        env_file=".env", env_file_encoding="utf-8", frozen=True, extra="ignore", hide_input_in_errors=True
    )

    discord_token: Secret = None
    discord_api_base: BaseUrl = "https://discord.com/api/v10"
    discord_cdn_hosts: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_hosts)] = (
        "cdn.discordapp.com",
        "media.discordapp.net",
    )
    krea_api_key: Secret = None
    krea_api_base: BaseUrl = "https://api.krea.ai"
    pixazo_api_key: Secret = None
    pixazo_api_base: BaseUrl = "https://gateway.pixazo.ai"
    database_url: Annotated[str, AfterValidator(_database_url)] = "sqlite:///data/bot.sqlite3"
    default_model: Annotated[str, Field(pattern=r"^[a-z0-9._-]+(/[a-z0-9._-]+)+$")] = "krea/google/nano-banana-2"
    default_quota_usd: UsdMicros = 1_000_000
    default_quota_period: Period = Period.DAY
    operator_daily_cap_usd: UsdMicros = 25_000_000
    max_running_jobs_per_user: Annotated[int, Field(ge=1, le=10_000)] = 3
    krea_max_concurrency: Annotated[int, Field(ge=1, le=100_000)] = 8
    pixazo_max_concurrency: Annotated[int, Field(ge=1, le=100_000)] = 4
    krea_poll_seconds: Annotated[float, Field(gt=0, le=600)] = 2
    pixazo_poll_seconds: Annotated[float, Field(gt=0, le=600)] = 5
    public_url: Annotated[BaseUrl | None, BeforeValidator(lambda value: value or None)] = None
    http_host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    http_port: Annotated[int, Field(ge=0, le=65_535)] = 8080
    media_allow_private_addresses: bool = False
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["console", "json"] = "console"
    sync_commands: bool = True

    @model_validator(mode="after")
    def _at_least_one_provider(self) -> Self:
        if self.krea_api_key is None and self.pixazo_api_key is None:
            raise ValueError("KREA_API_KEY or PIXAZO_API_KEY")
        return self

    @property
    def database_path(self) -> Path:
        """The SQLite file. `sqlite:///data/x` is relative to the working directory, `sqlite:////data/x` absolute."""
        return Path(self.database_url.removeprefix("sqlite:///"))
