from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from dotenv import dotenv_values

from connector.errors import StartError
from connector.settings import Settings, describe, environment, warnings

EXAMPLE = Path(__file__).resolve().parents[2] / ".env.example"


def faults(**environment: str) -> list[str]:
    with pytest.raises(StartError) as caught:
        Settings.load(environment)
    return str(caught.value).splitlines()


def load(name: str, text: str) -> Any:
    return getattr(Settings.load({name: text}), name.lower())


def test_every_default_is_legal_and_the_same_with_and_without_an_environment() -> None:
    assert Settings.load({}) == Settings()
    assert Settings.load({name: default for name, default, _ in describe()}) == Settings()


def test_a_blank_value_counts_as_unset() -> None:
    assert Settings.load({name: "  " for name, _, _ in describe()}) == Settings()


def test_the_example_lists_every_setting_with_its_default_and_meaning() -> None:
    text = EXAMPLE.read_text()
    values = dotenv_values(stream=StringIO(text))
    assert values == {name: default for name, default, _ in describe()}
    lines = text.splitlines()
    for name, _, meaning in describe():
        above = lines[next(number for number, line in enumerate(lines) if line.startswith(f"{name}=")) - 1]
        assert above == f"# {meaning}", name


def test_the_example_starts_a_connector_like_no_file_at_all() -> None:
    values = dotenv_values(EXAMPLE)
    assert Settings.load({name: text or "" for name, text in values.items()}) == Settings()


def test_all_faults_are_listed_at_once_each_under_its_name() -> None:
    found = faults(
        API_TOKEN="two words",
        PORT="http",
        EVENT_PATH="process-event",
        REQUIRED_FIELDS="data.[nothing",
        ORDER_BY="acount+card",
        MAX_BODY_BYTES="2 furlongs",
        BODY_TIMEOUT="soon",
        WORKERS="0",
        QUEUE_SIZE="-1",
        JOURNAL_URL="mysql://host",
        DRAIN_TIMEOUT="-1s",
        LOG_LEVEL="loud",
        ACCESS_LOG="maybe",
    )
    assert [fault.split(":")[0] for fault in found] == [
        "API_TOKEN",
        "PORT",
        "EVENT_PATH",
        "REQUIRED_FIELDS",
        "ORDER_BY",
        "MAX_BODY_BYTES",
        "BODY_TIMEOUT",
        "WORKERS",
        "QUEUE_SIZE",
        "JOURNAL_URL",
        "DRAIN_TIMEOUT",
        "LOG_LEVEL",
        "ACCESS_LOG",
    ]


@pytest.mark.parametrize("token", ["sec ret", "sécret", "sec\x7fret"])
def test_a_faulty_token_is_not_shown(token: str) -> None:
    assert "ret" not in faults(API_TOKEN=token)[0]


def test_the_token_stays_out_of_the_repr() -> None:
    assert "made-up" not in repr(Settings.load({"API_TOKEN": "made-up"}))


def test_several_tokens_are_told_apart() -> None:
    assert load("API_TOKEN", " new-one , old-one ,") == ("new-one", "old-one")


@pytest.mark.parametrize(
    ("text", "size"),
    [("2048", 2048), ("2k", 2048), ("2KB", 2048), ("2 KiB", 2048), ("1m", 2**20), ("3MiB", 3 * 2**20), ("1G", 2**30)],
)
def test_a_size_is_read_in_its_unit(text: str, size: int) -> None:
    assert load("MAX_BODY_BYTES", text) == size


@pytest.mark.parametrize("text", ["1023", "-2k", "1.5k", "2x", "k", "2kb2", "0"])
def test_what_is_no_size_is_refused(text: str) -> None:
    assert "size in bytes" in faults(MAX_BODY_BYTES=text)[0]


@pytest.mark.parametrize(
    ("text", "seconds"), [("30", 30), ("30s", 30), ("500ms", 0.5), ("1.5 m", 90), ("2h", 7200), ("1D", 86400)]
)
def test_a_time_is_read_in_its_unit(text: str, seconds: float) -> None:
    assert load("BODY_TIMEOUT", text) == seconds


@pytest.mark.parametrize("text", ["-1", "1w", "s", "1e3", "inf", "nan", "0", "9" * 400, "1000000000000d"])
def test_what_no_timer_can_wait_for_is_refused(text: str) -> None:
    assert "time in seconds" in faults(BODY_TIMEOUT=text)[0]


@pytest.mark.parametrize("text", ["-1", "65536", "80.0", "0x50", "9" * 5000, "http"])
def test_what_is_no_port_is_refused(text: str) -> None:
    assert faults(PORT=text)[0].startswith("PORT: ")


@pytest.mark.parametrize(("text", "on"), [("true", True), ("YES", True), ("1", True), ("off", False), ("0", False)])
def test_a_switch_is_read_in_any_usual_word(text: str, on: bool) -> None:
    assert load("ACCESS_LOG", text) is on


def test_a_level_is_read_in_either_case() -> None:
    assert load("LOG_LEVEL", "debug") == "DEBUG"


@pytest.mark.parametrize("path", ["/", "/process-event", "/v1/nsps/events", "/a.b_c~d/"])
def test_any_plain_path_is_taken(path: str) -> None:
    assert load("EVENT_PATH", path) == path


@pytest.mark.parametrize(
    "path",
    [
        "events",
        "/a b",
        "/a?b",
        "/a#b",
        "/{rest}",
        "/%41",
        "/ü",
        "/health",
        "/ready",
        "/openapi.json",
        "/a/../b",
        "/./a",
        "/..",
        "//a",
        "/a//b",
    ],
)
def test_a_path_that_could_not_be_served_is_refused(path: str) -> None:
    assert faults(EVENT_PATH=path)[0].startswith("EVENT_PATH: ")


@pytest.mark.parametrize("url", ["memory://", "sqlite:////var/lib/journal.db"])
def test_a_journal_s_url_is_taken(url: str) -> None:
    assert load("JOURNAL_URL", url) == url


def test_a_working_directory_that_changes_later_moves_no_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Settings.load({"JOURNAL_URL": "sqlite:///data/journal.db", "TARGET_CA_FILE": "ca.pem"})
    monkeypatch.chdir("/")
    assert settings.journal_path == tmp_path / "data" / "journal.db"
    assert settings.target_ca_file == str(tmp_path / "ca.pem")


@pytest.mark.parametrize(
    "token", ["'quoted-token-0123456'", '"quoted-token-0123456"', "Bearer abcdefghijklmnopq", "bearer"]
)
@pytest.mark.parametrize("name", ["API_TOKEN", "TARGET_TOKEN"])
def test_a_token_with_quotes_or_with_the_word_bearer_is_refused_and_not_shown(name: str, token: str) -> None:
    (fault,) = [each for each in faults(**{name: token}) if each.startswith(name)]
    assert "0123456" not in fault
    assert "klmnop" not in fault


def test_a_secret_is_read_from_its_file(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_bytes(b"\xef\xbb\xbffirst-token-0123456\r\nsecond-token-012345\n")
    assert load_file("API_TOKEN", file) == ("first-token-0123456", "second-token-012345")
    file.write_text(" with spaces $x \n")
    assert (
        Settings.load(
            {
                "TARGET_URL": "http://t.example",
                "TARGET_AUTH": "basic",
                "TARGET_USER": "u",
                "TARGET_PASSWORD_FILE": str(file),
            }
        ).target_password
        == "with spaces $x"
    )


def load_file(name: str, file: Path) -> Any:
    return getattr(Settings.load({f"{name}_FILE": str(file)}), name.lower())


def test_a_file_of_a_secret_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "token"
    assert faults(API_TOKEN_FILE=str(file))[0].startswith("API_TOKEN_FILE: ")
    assert faults(API_TOKEN_FILE=str(tmp_path))[0].startswith("API_TOKEN_FILE: ")
    for content in (b"", b"\n", b"\xff\xfe", b"x" * 70_000):
        file.write_bytes(content)
        assert faults(API_TOKEN_FILE=str(file))[0].startswith("API_TOKEN_FILE: ")
    file.write_text("token-0123456789abcdef")
    assert "keep one" in faults(API_TOKEN_FILE=str(file), API_TOKEN="other")[0]


PLACEHOLDERS = ["your-secret-token", "your_secret_token", "your-api-token", "secure-random-token", "<YOUR_API_TOKEN>"]


@pytest.mark.parametrize("token", [*PLACEHOLDERS, "short"])
def test_a_token_that_others_know_or_guess_is_warned_of_and_not_shown(token: str) -> None:
    given = {"API_TOKEN": token, "HANDLERS": "x"}
    (warning,) = warnings(Settings.load(given), given)
    assert warning.startswith("API_TOKEN: ")
    assert "short" not in warning
    assert token not in warning


def test_settings_of_a_handlers_own_under_the_name_of_its_target_are_left_alone() -> None:
    given = {"TARGETS": "wtl", "WTL_URL": "http://hlr.example", "WTL_DEFAULT_CS_PROFILE": "x", "WTL_IMSI_REGEXP": "x"}
    assert not [each for each in warnings(Settings(), given) if each.startswith("WTL_")]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("HANDLER", "HANDLERS"),
        ("port", "PORT"),
        ("MAX_ATTEMPT", "MAX_ATTEMPTS"),
        ("LOGLEVEL", "LOG_LEVEL"),
        ("API_TOKENS", "API_TOKEN"),
        ("WTL_API_URL", "TARGET_URL"),
        ("TARGET_SOMETHING_ELSE", ".env.example"),
    ],
)
def test_a_name_that_looks_like_a_setting_and_is_none_is_named(name: str, hint: str) -> None:
    (warning,) = warnings(Settings(), {name: "x"})
    assert name in warning
    assert hint in warning


def test_names_that_are_not_ours_are_no_matter() -> None:
    usual = [
        "PATH",
        "HOME",
        "HOSTNAME",
        "LANG",
        "PWD",
        "TERM",
        "JOURNAL_STREAM",
        "SSL_CERT_FILE",
        "TARGET_SERVICE_HOST",
        "TARGET_PORT",
    ]
    assert list(warnings(Settings(), dict.fromkeys(usual, "x"))) == []


@pytest.mark.parametrize(("mode", "warned"), [(0o600, 0), (0o640, 0), (0o644, 1)])
def test_an_env_file_with_secrets_that_others_can_read_is_warned_of(
    mode: int, warned: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("API_TOKEN=a-token-that-is-long-enough\n")
    (tmp_path / ".env").chmod(mode)
    given = environment()
    assert len([each for each in warnings(Settings(), given) if "chmod" in each]) == warned


@pytest.mark.parametrize("url", ["memory", "sqlite://", "sqlite:///", "journal.db", "redis://host"])
def test_a_journal_that_is_none_is_refused(url: str) -> None:
    assert faults(JOURNAL_URL=url)[0].startswith("JOURNAL_URL: ")


def test_every_setting_says_what_it_means() -> None:
    for name, _, meaning in describe():
        assert name.isupper()
        assert meaning.endswith(".")
        assert "\n" not in meaning
