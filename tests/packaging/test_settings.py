"""Settings: what the operator writes, the values read from it, and the one line that names an error."""

from __future__ import annotations

import io
import itertools
import re
from pathlib import Path
from typing import Any

import pytest
from dotenv import dotenv_values
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from bot.domain.deployment.database_url import PostgresAddress
from bot.domain.errors import SettingsError
from bot.domain.money.quota import Period, format_usd
from bot.settings import Settings, load_settings

EXAMPLE = Path(__file__).parents[2] / ".env.example"
CANARY = "canary-5f1c0e7a9b"
NAMES = [name.upper() for name in Settings.model_fields]

NUMBERS = ["", "0", "-1", "1.5", "many", "1e99", "0x10", "٣x", CANARY]
BAD_VALUES: dict[str, list[str]] = {
    "DISCORD_TOKEN": [f"Bot {CANARY}", f"{CANARY}\nX: y", f"{CANARY}ä", f'"{CANARY}"', f"{CANARY} # mine"],
    "DISCORD_API_BASE": ["discord.com", "ftp://discord.com", "https://", "https://u:p@h", "https://h:99999", CANARY],
    "DISCORD_CDN_HOSTS": [",", "https://cdn.discordapp.com", "a b", "host:port", "host/path"],
    "KREA_API_KEY": [f"'{CANARY}'", f"Bearer {CANARY}", f"{CANARY}\r\nX: y"],
    "KREA_API_BASE": ["api.krea.ai", "https://h?key=1", "https://h#f", "https://[", f"file:///{CANARY}"],
    "PIXAZO_API_KEY": [f"{CANARY} {CANARY}", f"{CANARY}\x00"],
    "PIXAZO_API_BASE": ["//gateway", "https://a b", "https://h:0", CANARY],
    "DATABASE_URL": [
        "data/bot.sqlite3",
        "mysql://h/d",
        "postgresql:///d",
        "postgresql://h",
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite:///d/",
        "sqlite:///~/bot.sqlite3",
        "sqlite:///data/bot.sqlite3 # mine",
        "sqlite:///C:\new\bot.sqlite3",  # as double quotes in .env make it
        f"postgresql://ada:{CANARY}@{CANARY}@h/d",
        f"postgresql://ada:{CANARY}%zz@h/d",
        f"postgresql://ada:{CANARY}%ca@h/d",  # no UTF-8
        CANARY,
    ],
    "DEFAULT_MODEL": ["flux", "Krea/Flux", "krea/", "krea//x", "krea/x y"],
    "CATALOGUE_REFRESH_HOURS": ["-1", "8761", "inf", "nan", "daily", "24h", CANARY],
    "DEFAULT_QUOTA_USD": ["-1", "1,5", "12345678", "1.1234567", "unlimited", "NaN", "1e3", CANARY],
    "DEFAULT_QUOTA_PERIOD": ["year", "2 days", CANARY],
    "DIRECT_QUOTA_USD": ["-1", "1,5", "12345678", "unlimited", "1e3", CANARY],
    "DIRECT_QUOTA_PERIOD": ["year", "2 days", CANARY],
    "OPERATOR_DAILY_CAP_USD": ["-0.01", "ten", "$", "99999999", CANARY],
    "OPERATOR_SERVER_CAP_USD": ["-1", "five", "$", "99999999", CANARY],
    "OPERATOR_COST_PER_MEMBER_USD": ["-0.25", "unlimited", "1e-1", CANARY],
    "OPERATOR_COST_DAILY_CAP_USD": ["-1", "20%", "12345678", CANARY],
    "ALLOWED_SERVERS": [",", " ", "1;2", "1,0", "all", "81384788765712384 613425648685547541", "-1", "1.0", CANARY],
    "TOPUP_SKUS": [
        *(",", " ", "1174801234567890123", "1174801234567890123=", "=5.00", "0=5.00", "12=0", "12=-1", "12=five"),
        *("12=5.00;13=20.00", "12=5.00,", "12=5.00,12=6.00", "1=1,2=1,3=1,4=1,5=1,6=1", f"12={CANARY}", CANARY),
    ],
    "MAX_RUNNING_JOBS_PER_USER": ["0", "-1", "1.5", "10001", "three", CANARY],
    "KREA_MAX_CONCURRENCY": ["0", "-8", "100001", "8.5", CANARY],
    "PIXAZO_MAX_CONCURRENCY": ["0", "-4", "100001", "four", CANARY],
    "KREA_POLL_SECONDS": ["0", "-1", "601", "inf", "nan", "2s", CANARY],
    "PIXAZO_POLL_SECONDS": ["0", "-5", "1e9", "inf", "five", CANARY],
    "PUBLIC_URL": ["bot.example.com", "ws://bot.example.com", "https://bot.example.com?x", CANARY + "!"],
    "HTTP_HOST": ["http://127.0.0.1", "a b", "127.0.0.1/8", "0.0.0.0:8080", "[::]", "::1:8080:x"],
    "WEBHOOK_HOST": ["http://127.0.0.1", "a b", "0.0.0.0:8081"],
    "WEBHOOK_PORT": ["-1", "65536", "http"],
    "HTTP_PORT": ["-1", "65536", "http", "80.5", CANARY],
    "MEDIA_ALLOW_PRIVATE_ADDRESSES": ["maybe", "2", CANARY],
    "LOG_LEVEL": ["TRACE", "verbose", "10", CANARY],
    "LOG_FORMAT": ["xml", CANARY],
    "SYNC_COMMANDS": ["sometimes", "-1", CANARY],
}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Return an environment in which the bot would start."""
    monkeypatch.setenv("DISCORD_TOKEN", "a-token")
    monkeypatch.setenv("KREA_API_KEY", "a-key")
    return monkeypatch


@pytest.fixture
def no_file(tmp_path: Path) -> Path:
    return tmp_path / "absent.env"


def test_the_example_names_every_setting_with_its_default_and_a_reason():
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
    # Defaults stand behind a #, so that a copy of the file leaves them in force.
    uncommented = [line.removeprefix("#") if re.match(r"#[A-Z_]+=", line) else line for line in lines]
    written = dotenv_values(stream=io.StringIO("\n".join(uncommented)))
    assert sorted(written) == sorted(NAMES)
    for name, field in Settings.model_fields.items():
        default: Any = field.default
        match name:
            case "default_quota_usd" | "direct_quota_usd" | "operator_daily_cap_usd" | "operator_cost_per_member_usd":
                expected = format_usd(default).removeprefix("$")
            case "discord_cdn_hosts":
                expected = ",".join(default)
            case "database_url":
                expected = f"sqlite:///{default}"
            case _ if isinstance(default, float):
                expected = f"{default:g}"
            case "allowed_servers" | "topup_skus":
                expected = ",".join(default)
            case _:
                expected = {None: "", True: "true", False: "false"}.get(default, str(default))
        assert written[name.upper()] == expected
    for before, line in itertools.pairwise(uncommented):
        if re.match(r"[A-Z_]+=", line):
            assert before.startswith("# "), f"no reason above {line}"


def test_a_copy_of_the_example_leaves_every_default_in_force():
    assert set(dotenv_values(EXAMPLE).values()) == {""}
    assert load_settings(EXAMPLE, credentials=False) == load_settings("/nonexistent/.env", credentials=False)


def test_defaults_are_those_of_the_contract(environment: pytest.MonkeyPatch, no_file: Path):
    settings = load_settings(no_file)
    assert settings.default_quota_usd == 1_000_000
    assert settings.default_quota_period is Period.DAY
    assert (settings.direct_quota_usd, settings.direct_quota_period) == (0, Period.DAY)
    assert settings.operator_daily_cap_usd == 25_000_000
    assert settings.operator_cost_per_member_usd == 250_000
    assert settings.server_cap_usd_micros == settings.cost_daily_cap_usd_micros == 5_000_000
    assert settings.allowed_servers == frozenset()
    assert settings.topup_skus == {}
    assert settings.database_url == Path("data/bot.sqlite3")
    assert settings.public_url is None
    assert settings.secret_values == ("a-token", "a-key")


def test_every_key_and_password_is_kept_out_of_the_log():
    secrets = [name for name, field in Settings.model_fields.items() if field.annotation == SecretStr | None]
    settings = Settings(_env_file=None, **{name: SecretStr(f"secret-{name}") for name in secrets})  # pyright: ignore[reportCallIssue]
    assert {f"secret-{name}" for name in ("discord_token", "krea_api_key", "pixazo_api_key")} <= set(
        settings.secret_values
    )
    assert len(settings.secret_values) == len(secrets)


@pytest.mark.hostile("G-03")
def test_one_server_gets_a_fifth_of_the_daily_cap_and_chosen_servers_all_of_it(
    environment: pytest.MonkeyPatch, no_file: Path
):
    environment.setenv("OPERATOR_DAILY_CAP_USD", "12")
    assert load_settings(no_file).server_cap_usd_micros == 2_400_000
    environment.setenv("ALLOWED_SERVERS", "81384788765712384")
    assert load_settings(no_file).server_cap_usd_micros == 12_000_000
    # People who order outside servers were not chosen.
    assert load_settings(no_file).direct_cap_usd_micros == 2_400_000
    environment.setenv("OPERATOR_SERVER_CAP_USD", "0")
    assert load_settings(no_file).server_cap_usd_micros == load_settings(no_file).direct_cap_usd_micros == 0


@pytest.mark.hostile("G-02")
def test_the_cap_on_uncharged_costs_is_a_fifth_of_the_daily_cap_unless_it_is_set(
    environment: pytest.MonkeyPatch, no_file: Path
):
    environment.setenv("OPERATOR_DAILY_CAP_USD", "12")
    assert load_settings(no_file).cost_daily_cap_usd_micros == 2_400_000
    environment.setenv("OPERATOR_COST_DAILY_CAP_USD", "0.5")
    assert load_settings(no_file).cost_daily_cap_usd_micros == 500_000


def test_the_table_of_bad_values_covers_every_setting():
    assert set(NAMES) - set(BAD_VALUES) == set()
    assert set(BAD_VALUES) - set(NAMES) == set()


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD_VALUES.items() for value in values])
def test_a_bad_value_stops_the_start_with_one_line_that_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, no_file: Path, name: str, value: str
):
    given_values = {"DISCORD_TOKEN": "a-token", "KREA_API_KEY": "a-key", name: value}
    # A process environment holds no NUL; such a value can only come from a file or a caller.
    if "\x00" in value:
        no_file.write_text(f'{name}="{value}"\n')
        del given_values[name]
    for variable, text in given_values.items():
        monkeypatch.setenv(variable, text)
    with pytest.raises(SettingsError) as caught:
        load_settings(no_file)
    line = str(caught.value)
    assert line.startswith(f"{name} must be ")
    assert len(line) > len(f"{name} must be ") + 4
    assert "\n" not in line
    assert CANARY not in line
    assert caught.value.__cause__ is None
    assert CANARY not in repr(caught.value)


def test_several_bad_values_are_named_at_once(environment: pytest.MonkeyPatch, no_file: Path):
    environment.setenv("HTTP_PORT", "x")
    environment.setenv("LOG_FORMAT", "y")
    with pytest.raises(SettingsError, match=r"^HTTP_PORT must be .*; LOG_FORMAT must be console or json$"):
        load_settings(no_file)


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_variable_counts_as_not_set(environment: pytest.MonkeyPatch, no_file: Path, name: str):
    environment.setenv(name, "")
    settings = load_settings(no_file, credentials=False)
    field = name.lower()
    assert getattr(settings, field) == Settings.model_fields[field].default


@pytest.mark.parametrize(
    ("name", "written", "value"),
    [
        ("DISCORD_API_BASE", "http://127.0.0.1:9000/api/v10/", "http://127.0.0.1:9000/api/v10"),
        ("DISCORD_CDN_HOSTS", " CDN.example.com , 127.0.0.1:9001", ("cdn.example.com", "127.0.0.1:9001")),
        ("DEFAULT_QUOTA_USD", "$0.065", 65_000),
        ("OPERATOR_DAILY_CAP_USD", "0", 0),
        ("OPERATOR_SERVER_CAP_USD", "$3", 3_000_000),
        ("ALLOWED_SERVERS", " 81384788765712384, 7 ,", frozenset({81384788765712384, 7})),
        ("TOPUP_SKUS", " 12 = 5.00, 13=$0.5", {12: 5_000_000, 13: 500_000}),
        ("DEFAULT_QUOTA_PERIOD", "Week", Period.WEEK),
        ("LOG_LEVEL", "debug", "DEBUG"),
        ("HTTP_PORT", "0", 0),
        ("WEBHOOK_PORT", "0", 0),
        ("KREA_POLL_SECONDS", "0.05", 0.05),
        ("SYNC_COMMANDS", "no", False),
        ("CATALOGUE_REFRESH_HOURS", "0.5", 0.5),
        ("PUBLIC_URL", "https://bot.example.com/", "https://bot.example.com"),
        ("DATABASE_URL", "sqlite:////data/bot.sqlite3", Path("/data/bot.sqlite3")),
        ("HTTP_HOST", "::1", "::1"),
    ],
)
def test_a_good_value_is_read(environment: pytest.MonkeyPatch, no_file: Path, name: str, written: str, value: object):
    environment.setenv(name, written)
    assert getattr(load_settings(no_file), name.lower()) == value


def test_the_token_is_required_to_run_the_bot_but_not_to_read_the_database(
    monkeypatch: pytest.MonkeyPatch, no_file: Path
):
    monkeypatch.setenv("KREA_API_KEY", "a-key")
    with pytest.raises(SettingsError, match=r"^DISCORD_TOKEN is missing"):
        load_settings(no_file)
    assert load_settings(no_file, credentials=False).discord_token is None


@pytest.mark.parametrize("blank", [None, "", "   "])
def test_one_provider_key_is_needed(monkeypatch: pytest.MonkeyPatch, no_file: Path, blank: str | None):
    monkeypatch.setenv("DISCORD_TOKEN", "a-token")
    if blank is not None:
        monkeypatch.setenv("KREA_API_KEY", blank)
    with pytest.raises(SettingsError, match=r"^KREA_API_KEY or PIXAZO_API_KEY is missing"):
        load_settings(no_file)
    monkeypatch.setenv("PIXAZO_API_KEY", "a-key")
    assert load_settings(no_file).krea_api_key is None


def test_the_environment_beats_the_file(environment: pytest.MonkeyPatch, tmp_path: Path):
    file = tmp_path / ".env"
    file.write_text("\ufeffHTTP_PORT=1\nhttp_host=0.0.0.0\nexport LOG_LEVEL=ERROR # why not\n", encoding="utf-8")
    environment.setenv("HTTP_PORT", "2")
    settings = load_settings(file)
    assert (settings.http_port, settings.http_host, settings.log_level) == (2, "0.0.0.0", "ERROR")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (f"KREA_APIKEY={CANARY}", r"line 1: KREA_APIKEY is not a setting; did you mean KREA_API_KEY\?$"),
        ("\n# hello\nLOGLEVEL=INFO", r"line 3: LOGLEVEL is not a setting; did you mean LOG_LEVEL\?$"),
        ("XYZZY=1", r"line 1: XYZZY is not a setting$"),
        (CANARY, r"line 1 is not of the form NAME=value$"),
        (f"{CANARY.replace('-', '')}==", r"line 1: the name is not a setting$"),
        (f"KREA_API_KEY='{CANARY}", r"line 1 is not of the form NAME=value$"),
        ("TOKEN=1", r"line 1: TOKEN is not a setting; did you mean DISCORD_TOKEN\?$"),
        ("MAX_JOBS=1", r"line 1: MAX_JOBS is not a setting; did you mean MAX_RUNNING_JOBS_PER_USER\?$"),
        ("DAILY_CAP=1", r"line 1: DAILY_CAP is not a setting; did you mean OPERATOR_DAILY_CAP_USD\?$"),
        ("OPERATOR_DAILY_CAP_USD=5\nLOG_LEVEL=INFO\noperator_daily_cap_usd=500", "CAP_USD is set already in line 1$"),
        (
            "OPERATOR_DAILY_CAP_USD=5\nOPERATOR_DAILY_CAP_USD=",
            "line 2: OPERATOR_DAILY_CAP_USD is set already in line 1$",
        ),
    ],
)
def test_a_line_of_the_file_that_sets_nothing_stops_the_start(
    environment: pytest.MonkeyPatch, tmp_path: Path, content: str, sentence: str
):
    file = tmp_path / ".env"
    file.write_text(content + "\n")
    with pytest.raises(SettingsError, match=sentence) as caught:
        load_settings(file)
    assert "canary" not in str(caught.value)


def test_a_line_added_to_a_copy_of_the_example_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    file = tmp_path / ".env"
    file.write_text(EXAMPLE.read_text(encoding="utf-8") + "DISCORD_TOKEN=a\nKREA_API_KEY=b\nHTTP_PORT=1\n")
    assert load_settings(file).secret_values == ("a", "b")


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_file_of_any_editor_is_read_alike(tmp_path: Path, ending: str, mark: str):
    lines = [
        "DISCORD_TOKEN='a'",
        'KREA_API_KEY = "b"',
        "  export HTTP_PORT=1 # mine",
        "OPERATOR_DAILY_CAP_USD= 5.00 ",
        "",
    ]
    file = tmp_path / ".env"
    file.write_bytes((mark + ending.join(lines)).encode())
    settings = load_settings(file)
    assert (settings.secret_values, settings.http_port) == (("a", "b"), 1)
    assert settings.operator_daily_cap_usd == 5_000_000


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (
            "OPERATOR_DAILY_CAP",
            r"OPERATOR_DAILY_CAP in the environment is not a setting; did you mean OPERATOR_DAILY_C",
        ),
        ("ALLOWED_SERVER", "did you mean ALLOWED_SERVERS"),
        ("DEFAULT_QOUTA_USD", "did you mean DEFAULT_QUOTA_USD"),
        ("DISCORD_BOT_TOKEN", "did you mean DISCORD_TOKEN"),
        ("krea_key", "did you mean KREA_API_KEY"),
    ],
)
def test_a_misspelled_name_in_the_environment_stops_the_start_too(
    environment: pytest.MonkeyPatch, no_file: Path, name: str, sentence: str
):
    """Docker, Kubernetes and systemd read the env file themselves and pass on every name."""
    environment.setenv(name, CANARY)
    with pytest.raises(SettingsError, match=sentence) as caught:
        load_settings(no_file)
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize("name", ["HTTPS_PORT", "LOGLEVEL", "DATABASE_POOL_SIZE", "KUBERNETES_PORT", "HTTP_PROXY"])
def test_names_of_other_programs_in_the_environment_are_no_concern(
    environment: pytest.MonkeyPatch, no_file: Path, name: str
):
    environment.setenv(name, "x")
    load_settings(no_file)


@pytest.mark.parametrize(
    ("name", "written", "ending"),
    [
        ("HTTP_PORT", '"8080"', "from 0 to 65535: it begins with a quote"),
        (
            "PUBLIC_URL",
            "\u201chttps://bot.example.com\u201d",
            "such as https://bot.example.com: it begins with a quote",
        ),
        ("DATABASE_URL", "sqlite:///data/bot.sqlite3 # mine", "in the password: it has a comment behind it"),
        ("OPERATOR_DAILY_CAP_USD", "5 # mine", "6 after it: it has a comment behind it"),
        ("DISCORD_TOKEN", f"{CANARY} # mine", "without blanks or quotes: it has a comment behind it"),
    ],
)
def test_what_docker_run_leaves_around_a_value_is_named(
    environment: pytest.MonkeyPatch, no_file: Path, name: str, written: str, ending: str
):
    environment.setenv(name, written)
    with pytest.raises(SettingsError) as caught:
        load_settings(no_file)
    assert str(caught.value).endswith(ending)


def test_two_listeners_on_one_port_are_refused(environment: pytest.MonkeyPatch, no_file: Path):
    environment.setenv("WEBHOOK_PORT", "8080")
    with pytest.raises(SettingsError, match=r"^WEBHOOK_PORT must be another port than HTTP_PORT"):
        load_settings(no_file)
    environment.setenv("HTTP_PORT", "0")
    environment.setenv("WEBHOOK_PORT", "0")  # each takes a free one
    load_settings(no_file)


def test_a_file_that_is_no_text_is_named(environment: pytest.MonkeyPatch, tmp_path: Path):
    file = tmp_path / ".env"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError, match=r"\.env cannot be read as a text file in UTF-8"):
        load_settings(file)
    with pytest.raises(SettingsError, match="cannot be read as a text file"):
        load_settings(tmp_path)


def test_settings_can_be_made_by_hand_and_not_be_changed():
    settings = Settings(_env_file=None, discord_cdn_hosts=("127.0.0.1:1",), default_quota_usd="0.08")  # pyright: ignore
    assert (settings.discord_cdn_hosts, settings.default_quota_usd) == (("127.0.0.1:1",), 80_000)
    with pytest.raises(ValueError, match="frozen"):
        settings.http_port = 1


@given(st.text(st.characters(min_codepoint=1, exclude_categories=["Cs"]), max_size=60).map(lambda end: CANARY + end))
def test_settings_never_show_a_secret(secret: str):
    try:
        settings = Settings(_env_file=None, krea_api_key=secret, discord_token=secret)  # pyright: ignore[reportCallIssue]
        shown = f"{settings!r} {settings}"
    except ValueError as error:
        shown = str(error)
    assert CANARY not in shown


def test_a_server_is_an_address_whose_password_is_shown_nowhere(environment: pytest.MonkeyPatch, no_file: Path):
    environment.setenv("DATABASE_URL", f"postgresql://ada:{CANARY}%21@db.example.com:5433/books?sslmode=require")
    settings = load_settings(no_file)
    assert isinstance(settings.database_url, PostgresAddress)
    assert str(settings.database_url) == "postgresql://db.example.com:5433/books"
    assert CANARY not in repr(settings)
    assert {f"{CANARY}%21", f"{CANARY}!"} <= set(settings.secret_values)
    assert settings.data_folder == Path("data")


@pytest.mark.parametrize(
    "written",
    [
        f"postgresql://ada:{CANARY}@h:x/d",
        f"postgresql://ada:{CANARY}@h/d#x",
        f"postgresql://h/d/{CANARY}",
        "postgresql://h/d e",
    ],
)
def test_a_wrong_address_of_a_server_is_not_repeated(environment: pytest.MonkeyPatch, no_file: Path, written: str):
    environment.setenv("DATABASE_URL", written)
    with pytest.raises(
        SettingsError, match=r"^DATABASE_URL must be sqlite:///\S+, another file, or postgresql"
    ) as error:
        load_settings(no_file)
    assert CANARY not in str(error.value)
