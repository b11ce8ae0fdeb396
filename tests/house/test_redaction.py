"""Which names are those of secrets, and what texts lose before anybody reads them."""

import time
from dataclasses import fields

import pytest

from webapp.config import Settings
from webapp.portability.left_out import MARK, NEEDED, leave_out
from webapp.redaction import OWN_SECRETS, environment_for_others, is_secret, redact, secret_values
from webapp.secrets import MASK, mask

SECRET = "hunter2hunter2"


@pytest.mark.parametrize(
    "name",
    ["password", "dbPassword", "secret_access_key", "secretAccessKey", "SecretAccessKey", "aws_secret_access_key",
     "apiKey", "api-key", "X-Api-Key", "accessToken", "X-Auth-Token", "PRIVATE-TOKEN", "refreshToken", "clientSecret",
     "privateKey", "client_key", "AccountKey", "Proxy-Authorization", "Cookie", "connectionString"],
)  # fmt: skip
def test_a_secret_is_known_by_its_name_however_that_is_spelt(name: str) -> None:
    assert is_secret(name)
    assert mask({"a": [{name: SECRET}]}) == {"a": [{name: MASK}]}
    assert secret_values({"a": [{name: SECRET}]}) == {SECRET}


@pytest.mark.parametrize(
    "name", ["username", "host", "access_key_id", "accessKeyId", "aws_access_key", "key", "primary_key", "token_url",
             "password_column_count", "cursor_field", "tokens"],
)  # fmt: skip
def test_what_only_sounds_like_a_secret_stays(name: str) -> None:
    assert mask({name: SECRET}) == {name: SECRET}


def test_a_column_that_is_called_like_a_secret_keeps_its_type() -> None:
    config = {"columns": {"password": "VARCHAR"}, "renames": {"token": "reset_token"}, "headers": {"X-Token": SECRET}}
    assert secret_values(config) == {SECRET}
    assert mask(config) == {**config, "headers": {"X-Token": MASK}}
    assert leave_out(config) == {**config, "headers": {"X-Token": MARK}}


def test_every_secret_setting_is_kept_from_the_processes_that_run_drivers(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = {item.name.upper() for item in fields(Settings) if item.type in ("str", str) and is_secret(item.name)} | {
        "DATABASE_URL"
    }
    assert ours == OWN_SECRETS
    monkeypatch.setenv("AIRFLOW_PASSWORD", SECRET)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    assert "AIRFLOW_PASSWORD" not in environment_for_others()
    assert environment_for_others()["AWS_SECRET_ACCESS_KEY"] == SECRET, "the credentials of the machine are for drivers"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (f"Authorization: Bearer {SECRET}", "Authorization: Bearer ~"),
        (f"authorization: Basic {SECRET}==", "authorization: Basic ~"),
        (f"Authorization: {SECRET} was refused", "Authorization: ~ was refused"),
        (f"bearer {SECRET}", "bearer ~"),
        (f"x-api-key: {SECRET}", "x-api-key: ~"),
        (f"secretAccessKey={SECRET}&region=x", "secretAccessKey=~&region=x"),
        (f"{{'secret_access_key': '{SECRET}', 'a': 1}}", "{'secret_access_key': '~', 'a': 1}"),
        (f'{{"accessToken":"{SECRET}"}}', '{"accessToken":"~"}'),
        (f"AccountKey={SECRET};EndpointSuffix=x", "AccountKey=~;EndpointSuffix=x"),
        (f"no route to postgresql://bob:{SECRET}@db:5432/x", "no route to postgresql://bob:~@db:5432/x"),
        (f"https://store/a.csv?se=2026&sig={SECRET}%3D&x=1", "https://store/a.csv?se=2026&sig=~&x=1"),
        ("the token has expired; the key of the table is id", "the token has expired; the key of the table is id"),
        ("http://example.org:8000/a@b", "http://example.org:8000/a@b"),
    ],
)
def test_a_text_loses_its_secrets_and_nothing_else(text: str, left: str) -> None:
    assert redact(text) == left.replace("~", "[struck out]")
    assert leave_out({"text": text}) == {"text": left.replace("~", NEEDED)}


def test_a_long_text_is_read_in_a_moment() -> None:
    began = time.process_time()
    for text in ("://a:" * 20_000, "://" + "a:" * 50_000, "token" * 20_000, "authorization: bearer " * 5_000):
        redact(text)
    assert time.process_time() - began < 5
