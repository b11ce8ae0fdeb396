"""An API source reaches only addresses that it may, whatever names and redirects say."""

import ipaddress
import socket
from typing import Any

import pytest

from tests.engine.api_server import Reply, api_server
from tests.engine.conftest import World
from webapp.engine.addresses import checked_address
from webapp.engine.errors import EngineError, Kind
from webapp.engine.tasks import run_task

LOADER = {"type": "duckdb", "db_path": "out.duckdb", "table_name": "orders"}


@pytest.mark.parametrize(
    "host",
    ["169.254.169.254", "169.254.1.1", "fe80::1", "fd00:ec2::254", "100.100.100.200", "0.0.0.0", "::",
     "224.0.0.1", "255.255.255.255", "240.0.0.1", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1",
     "0.1.2.3"],
)  # fmt: skip
def test_link_local_and_metadata_addresses_are_always_refused(host: str) -> None:
    for allow in (False, True):
        with pytest.raises(EngineError) as caught:
            checked_address(host, 80, allow_private=allow)
        assert caught.value.permanent


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.1.2.3", "10.0.0.1", "192.168.1.1", "172.16.0.1", "::1", "fd12::1", "100.64.0.1", "localhost",
     "::ffff:10.0.0.1", "64:ff9b::a00:1", "2130706433", "0x7f.1"],
)  # fmt: skip
def test_private_addresses_need_the_operators_leave(host: str) -> None:
    with pytest.raises(EngineError, match=r"private|never") as caught:
        checked_address(host, 80, allow_private=False)
    assert "HOHMANN_ALLOW_PRIVATE_ADDRESSES" in (caught.value.fix or "")
    ipaddress.ip_address(checked_address(host, 80, allow_private=True))


def test_a_public_address_is_used_as_it_is() -> None:
    assert checked_address("93.184.216.34", 443, allow_private=False) == "93.184.216.34"


def test_a_name_with_one_bad_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(*_: Any, **__: Any) -> list[Any]:
        return [(socket.AF_INET, 1, 6, "", (ip, 80)) for ip in ("93.184.216.34", "10.0.0.1")]

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    with pytest.raises(EngineError, match=r"10\.0\.0\.1"):
        checked_address("two.example", 80, allow_private=False)


def test_a_name_that_does_not_resolve_is_transient() -> None:
    with pytest.raises(EngineError) as caught:
        checked_address("no-such-host.invalid", 80, allow_private=False)
    assert caught.value.kind is Kind.TRANSIENT


def run(world: World, url: str, *, allow: bool) -> None:
    run_task({"type": "api", "url": url, "retries": 0}, LOADER, world.context(allow_private_addresses=allow))


def test_loopback_is_refused_without_a_connection(world: World) -> None:
    with api_server(lambda asked: Reply([{"id": 1}])) as server:
        with pytest.raises(EngineError, match="loopback or private"):
            run(world, server.url, allow=False)
        assert server.asked == []


def test_a_redirect_to_a_metadata_address_is_refused(world: World) -> None:
    with (
        api_server(lambda asked: Reply(None, 302, {"Location": "http://169.254.169.254/latest"})) as server,
        pytest.raises(EngineError, match="never allowed"),
    ):
        run(world, server.url, allow=True)


def test_a_redirect_to_a_private_address_is_checked_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first host stands for a public one; where it sends us is checked like any other."""
    with api_server(lambda asked: Reply(None, 302, {"Location": "http://localhost:1/x"})) as server:
        real = checked_address

        def public_looking(host: str, port: int, *, allow_private: bool) -> str:
            return "127.0.0.1" if host == "127.0.0.1" else real(host, port, allow_private=allow_private)

        monkeypatch.setattr("webapp.engine.http_client.checked_address", public_looking)
        with pytest.raises(EngineError, match="loopback or private"):
            run(world, server.url, allow=False)


def test_a_name_that_changes_its_address_is_connected_to_as_checked(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    real = socket.getaddrinfo

    def rebinding(host: Any, port: Any, *args: Any, **more: Any) -> Any:
        if host == "rebind.example":
            asked.append(host)
            return real("127.0.0.1" if len(asked) == 1 else "169.254.169.254", port, *args, **more)
        return real(host, port, *args, **more)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    with api_server(lambda asked: Reply([{"id": 1}])) as server:
        run(world, f"http://rebind.example:{server.port}/", allow=True)
        assert server.asked[0].headers["Host"] == f"rebind.example:{server.port}"
    assert asked == ["rebind.example"]


def test_a_link_header_that_leads_elsewhere_is_checked_too(world: World) -> None:
    link = {"Link": '<http://169.254.169.254/next>; rel="next"'}
    with api_server(lambda asked: Reply([{"id": 1}], headers=link)) as server, pytest.raises(EngineError) as caught:
        run_task(
            {"type": "api", "url": server.url, "pagination": {"type": "link"}},
            LOADER,
            world.context(allow_private_addresses=True),
        )
    assert caught.value.facts["address"] == "169.254.169.254"


def test_proxies_of_the_environment_are_not_used(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with api_server(lambda asked: Reply([{"id": 1}])) as server:
        run(world, server.url, allow=True)
        assert len(server.asked) == 1


def test_no_message_carries_a_token_or_a_query(world: World) -> None:
    echo = {"you sent": "Bearer t0ken, key=s3cret"}
    with api_server(lambda asked: Reply(echo, 500)) as server, pytest.raises(EngineError) as caught:
        run_task(
            {"type": "api", "url": f"{server.url}/a?key=s3cret", "bearer_token": "t0ken", "retries": 0},
            LOADER,
            world.context(allow_private_addresses=True),
        )
    said = caught.value.message + repr(caught.value.facts) + repr(world.heard.logs)
    assert "s3cret" not in said
    assert "t0ken" not in said
    assert "you sent" in said
