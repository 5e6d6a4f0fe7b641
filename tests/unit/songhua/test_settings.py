"""Settings: what is accepted, and the one line that a wrong one gives."""

from pathlib import Path

import pytest

from devices.errors import ConfigError
from songhua.quantities import format_size, parse_duration, parse_size
from songhua.settings import Settings, load, without_password


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what a test sets counts."""
    import os

    for name in [name for name in os.environ if name.upper().startswith("SONGHUA_")]:
        monkeypatch.delenv(name)


def test_nothing_set_means_embedded_parts_under_var(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load()
    assert settings.var == tmp_path / "var"
    assert settings.relational_url == f"sqlite:///{tmp_path}/var/songhua.db"
    assert settings.telemetry_file == tmp_path / "var" / "telemetry.db"
    assert settings.broker_url == "" and settings.store_url == ""


def test_units_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SONGHUA_LATENESS", "90s")
    monkeypatch.setenv("SONGHUA_JOURNAL_QUOTA", "512MiB")
    settings = load()
    assert settings.lateness == 90_000
    assert settings.retention == 0
    assert load(retention="400d").retention == 400 * 86_400_000
    assert settings.journal_quota == 512 * 1024 * 1024


def test_an_option_wins_over_the_environment_and_an_absent_one_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SONGHUA_VAR", "/one")
    assert load(var=Path("/two")).var == Path("/two")
    assert load(var=None).var == Path("/one")


def test_an_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SONGHUA_API_PORT", "")
    assert load().api_port == Settings.model_fields["api_port"].default


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("SONGHUA_API_PORT", "eighty", "SONGHUA_API_PORT: wrong value; expected a whole number"),
        ("SONGHUA_API_PORT", "0", "SONGHUA_API_PORT: wrong value; expected 1 or more"),
        ("SONGHUA_API_PORT", "65536", "SONGHUA_API_PORT: wrong value; expected 65535 or less"),
        ("SONGHUA_LANGUAGE", "fr", "SONGHUA_LANGUAGE: wrong value; expected 'zh' or 'en'"),
        (
            "SONGHUA_BROKER_URL",
            "http://host",
            "SONGHUA_BROKER_URL: wrong value; expected mqtt://user:password@host:1883",
        ),
        (
            "SONGHUA_BROKER_URL",
            "mqtt://h:99999",
            "SONGHUA_BROKER_URL: wrong value; expected mqtt://user:password@host:1883",
        ),
        (
            "SONGHUA_STORE_URL",
            "influxdb+v1://host:8086",
            "SONGHUA_STORE_URL: wrong value; expected influxdb+v1://user:password@host:8086/database",
        ),
        (
            "SONGHUA_DATABASE_URL",
            "mysql://host/x",
            "SONGHUA_DATABASE_URL: wrong value; expected sqlite:///path or postgresql+psycopg://user:password@host/database",
        ),
        ("SONGHUA_WEBHOOK_URL", "ftp://host", "SONGHUA_WEBHOOK_URL: wrong value; expected https://host/path"),
        ("SONGHUA_API_PROT", "8080", "SONGHUA_API_PROT: there is no such setting; did you mean SONGHUA_API_PORT?"),
        (
            "SONGHUA_QQQQ",
            "1",
            "SONGHUA_QQQQ: there is no such setting; see docs/reference/settings.md for the list",
        ),
    ],
)
def test_a_wrong_setting_is_one_line_with_variable_and_expectation(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, expected: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError) as failure:
        load()
    assert str(failure.value) == expected


@pytest.mark.parametrize("text", ["90", "ten seconds", "-5s", "5 parsecs", ""])
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="such as 90s"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["2", "2 GB", "-1GiB", "GiB"])
def test_what_is_no_size_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="such as 2GiB"):
        parse_size(text)


@pytest.mark.parametrize("text", ["100B", "1536KiB", "2GiB", "3TiB"])
def test_a_size_is_written_as_it_was_read(text: str) -> None:
    assert format_size(parse_size(text)) == text


def test_secrets_are_not_shown() -> None:
    assert "hunter2" not in repr(load(webhook_secret="hunter2"))
    assert without_password("mqtt://gw:hunter2@host:1883") == "mqtt://gw:***@host:1883"
    assert without_password("mqtt://host:1883") == "mqtt://host:1883"
