"""Settings: each is typed, read from the environment, and documented."""

from dataclasses import fields
from pathlib import Path

import pytest
from flask import Flask

from webapp.cli import configuration_page
from webapp.config import ConfigError, Registration, Role, Settings

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "configuration.md"


def test_the_page_of_settings_is_what_the_code_says() -> None:
    assert PAGE.read_text() == configuration_page(), "write it anew: flask settings-doc > docs/configuration.md"


def test_each_setting_is_documented_in_a_sentence() -> None:
    for item in fields(Settings):
        assert len(item.metadata["doc"]) > 10, item.name
        assert item.metadata["doc"].rstrip().endswith((".", ")")), item.name


def test_the_command_prints_the_page(app: Flask) -> None:
    assert app.test_cli_runner().invoke(args=["settings-doc"]).output == configuration_page()


def test_every_setting_is_read_from_its_variable() -> None:
    given = {
        "PORT": "9001",
        "HOHMANN_HOME": "/tmp/somewhere",
        "REGISTRATION": "INVITE",
        "DEFAULT_ROLE": "viewer",
        "HOHMANN_ALLOW_PRIVATE_ADDRESSES": "1",
        "DATA_ROOTS": "/data:/more",
        "ALLOWED_ORIGINS": "https://a.example, https://b.example",
        "LEASE_SECONDS": "2.5",
    }
    settings = Settings.from_environment(given)
    assert settings.port == 9001
    assert settings.hohmann_home == Path("/tmp/somewhere")
    assert settings.registration is Registration.INVITE
    assert settings.default_role is Role.VIEWER
    assert settings.hohmann_allow_private_addresses is True
    assert settings.data_roots == (Path("/data"), Path("/more"))
    assert settings.allowed_origins == ("https://a.example", "https://b.example")
    assert settings.lease_seconds == 2.5


def test_an_empty_variable_counts_as_not_set() -> None:
    assert Settings.from_environment({"PORT": "", "REGISTRATION": ""}).port == 8000


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "x"),
        ("DEFAULT_ROLE", "king"),
        ("REGISTRATION", "maybe"),
        ("HOHMANN_ALLOW_PRIVATE_ADDRESSES", "perhaps"),
        ("DATABASE_URL", "sqlite:///x.db"),
        ("SECRET_KEY", "hohmann"),
        ("SECRET_KEY", "too short"),
    ],
)
def test_a_value_that_cannot_be_used_names_its_variable(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=name):
        Settings.from_environment({name: value})


def test_registration_is_open_on_loopback_and_by_invitation_elsewhere() -> None:
    assert Settings(bind="127.0.0.1").registration_mode is Registration.OPEN
    assert Settings(bind="0.0.0.0").registration_mode is Registration.INVITE


def test_each_instance_makes_its_own_keys(tmp_path: Path) -> None:
    one, two = Settings(hohmann_home=tmp_path / "1"), Settings(hohmann_home=tmp_path / "2")
    assert one.load_secret_key() == one.load_secret_key()
    assert one.load_secret_key() != two.load_secret_key()
    assert (tmp_path / "1" / "keys" / "secret_key").stat().st_mode & 0o077 == 0
