"""Which network addresses users may have us connect to: resolved, checked, and then used as checked (pinned)."""

import ipaddress
import socket

from webapp.engine.errors import EngineError, Kind, Origin

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_METADATA = frozenset(
    ipaddress.ip_address(text) for text in ("169.254.169.254", "fd00:ec2::254", "100.100.100.200", "192.0.0.192")
)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def checked_address(host: str, port: int, *, allow_private: bool) -> str:
    """Resolve a host and return one address to connect to, after checking all that it has.

    Raises EngineError: transient when the name does not resolve, permanent when any address is not allowed.
    """
    addresses = _resolved(host, port)
    for address in addresses:
        _check(address, host, allow_private=allow_private)
    return str(addresses[0])


def _resolved(host: str, port: int) -> list[_Address]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise EngineError(
            f"the name {host} does not resolve: {error}",
            origin=Origin.SOURCE,
            kind=Kind.TRANSIENT,
            host=host,
            fix="Check the host name, and the name server of this machine.",
        ) from error
    # A scope ("%eth0") only occurs with link-local addresses, which are refused in any case.
    return [ipaddress.ip_address(str(entry[4][0]).split("%")[0]) for entry in found]


def _check(address: _Address, host: str, *, allow_private: bool) -> None:
    for inner in _meant(address):
        if _never(inner):
            raise _refused(host, inner, "which is never allowed: link-local, metadata or no host's address", None)
        if not inner.is_global and not allow_private:
            raise _refused(
                host,
                inner,
                "a loopback or private address, which this instance does not allow",
                "The operator can allow them with HOHMANN_ALLOW_PRIVATE_ADDRESSES=1.",
            )


def _meant(address: _Address) -> list[_Address]:
    """The address itself and the IPv4 address that it may carry inside."""
    if isinstance(address, ipaddress.IPv4Address):
        return [address]
    inside: list[_Address | None] = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if address in _NAT64:
        inside.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    carried = [inner for inner in inside if inner is not None]
    return carried if address.ipv4_mapped is not None else [address, *carried]


def _never(address: _Address) -> bool:
    return (
        address in _METADATA
        or address.is_link_local
        or address.is_multicast
        or address.is_unspecified
        or (isinstance(address, ipaddress.IPv4Address) and (address.is_reserved or address in _THIS_NETWORK))
    )


_THIS_NETWORK = ipaddress.ip_network("0.0.0.0/8")


def _refused(host: str, address: _Address, why: str, fix: str | None) -> EngineError:
    return EngineError(
        f"{host} is {address}, {why}", origin=Origin.SOURCE, host=host, address=str(address), fix=fix, refused=True
    )
