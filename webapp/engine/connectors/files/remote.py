"""SFTP servers and web addresses as places with files."""

from __future__ import annotations

import base64
import hashlib
import io
import socket
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from webapp.engine.addresses import checked_address
from webapp.engine.connectors.files.storage import FileEntry, Storage, chosen, fixed_folder, missing, no_right
from webapp.engine.connectors.trials import Step
from webapp.engine.errors import EngineError, Kind, Origin

if TYPE_CHECKING:
    import paramiko

_LIMIT = 10.0


class SftpStorage(Storage):
    """A server's folders over SSH; each listing and each file has a connection of its own."""

    def steps(self) -> list[Step]:
        """Find the server, reach it, log in."""
        return [("resolve", self._address), ("connect", self._reached), ("log in", self._logged_in)]

    def files(self, path: str) -> list[FileEntry]:
        """What lies under the path, folders looked through."""
        base = fixed_folder(path) or "."
        with self._client() as client, _sftp_explained(base):
            found = list(_walked(client, base))
        return chosen(path, found)

    @contextmanager
    def brought(self, entry: FileEntry, folder: Path) -> Iterator[Path]:
        """A copy in the folder, taken away at the end."""
        target = folder / f"{uuid4().hex}-{entry.name}"
        try:
            with self._client() as client, _sftp_explained(entry.path), client.open(entry.path) as incoming:
                incoming.prefetch(entry.size, 64)
                self.copied(incoming, target)
            yield target
        finally:
            target.unlink(missing_ok=True)

    def _address(self) -> str:
        return checked_address(self.config.host, self.config.port,
                               allow_private=self.context.allow_private_addresses)  # fmt: skip

    def _reached(self) -> None:
        self._socket().close()

    def _logged_in(self) -> str:
        with self._client():
            return f"as {self.config.username}"

    def _socket(self) -> socket.socket:
        place = (self._address(), self.config.port)
        try:
            return socket.create_connection(place, timeout=_LIMIT)
        except OSError as error:
            raise EngineError(
                f"{self.config.host}:{self.config.port} cannot be reached: {error.strerror or error}",
                origin=Origin.SOURCE, kind=Kind.TRANSIENT, host=self.config.host,
                fix="Check host and port, and that the server runs.",
            ) from error  # fmt: skip

    @contextmanager
    def _client(self) -> Iterator[paramiko.SFTPClient]:
        import paramiko

        with closing(self._socket()) as connected:
            try:
                transport = paramiko.Transport(connected)
            except paramiko.SSHException as error:
                raise self._broken(error) from error
            with closing(transport):
                client = self._authenticated(transport)
                client.get_channel().settimeout(60)
                yield client

    def _authenticated(self, transport: paramiko.Transport) -> paramiko.SFTPClient:
        import paramiko

        try:
            transport.start_client(timeout=_LIMIT)
            self._check_host_key(transport.get_remote_server_key())
            if self.config.private_key is not None:
                transport.auth_publickey(self.config.username, self._key())
            else:
                secret = self.config.password
                transport.auth_password(self.config.username, secret.get_secret_value() if secret else "")
            client = paramiko.SFTPClient.from_transport(transport)
        except paramiko.AuthenticationException as error:
            raise EngineError(f"{self.config.host} refuses the log-in of {self.config.username}", origin=Origin.SOURCE,
                              host=self.config.host, fix="Check user name, password or key.") from error  # fmt: skip
        except (paramiko.SSHException, OSError, EOFError) as error:
            raise self._broken(error) from error
        assert client is not None
        return client

    def _check_host_key(self, key: paramiko.PKey) -> None:
        wanted = self.config.host_key_fingerprint.removeprefix("SHA256:").rstrip("=")
        found = base64.b64encode(hashlib.sha256(key.asbytes()).digest()).decode().rstrip("=")
        if wanted and wanted != found:
            raise EngineError(
                f"{self.config.host} shows another host key: SHA256:{found}", origin=Origin.SOURCE,
                host=self.config.host, fix="Ask the server's owner for its fingerprint; stop if it is not this one.",
            )  # fmt: skip

    def _key(self) -> paramiko.PKey:
        import paramiko

        assert self.config.private_key is not None
        text = self.config.private_key.get_secret_value()
        phrase = self.config.passphrase.get_secret_value() if self.config.passphrase else None
        for kind in (paramiko.Ed25519Key, paramiko.ECDSAKey, paramiko.RSAKey):
            try:
                key: paramiko.PKey = kind.from_private_key(io.StringIO(text), password=phrase)
            except (paramiko.SSHException, ValueError, UnicodeError, IndexError):
                continue
            return key
        raise EngineError("the private key cannot be read", origin=Origin.SOURCE,
                          fix="Give the whole text of an Ed25519, ECDSA or RSA key, and its passphrase.")  # fmt: skip

    def _broken(self, error: Exception) -> EngineError:
        return EngineError(
            f"{self.config.host}:{self.config.port} does not speak SSH with us: {error or type(error).__name__}",
            origin=Origin.SOURCE, kind=Kind.TRANSIENT, host=self.config.host, fix="Check host and port.",
        )  # fmt: skip


class WebStorage(Storage):
    """Addresses of single files."""

    def steps(self) -> list[Step]:
        """The first file's host is found."""
        return [("resolve", self._address)]

    def files(self, path: str) -> list[FileEntry]:
        """The one file that an address is."""
        from webapp.engine.http_client import origin_of

        origin_of(path)
        return [FileEntry(path.split("#", 1)[0])]

    @contextmanager
    def brought(self, entry: FileEntry, folder: Path) -> Iterator[Path]:
        """A copy in the folder, taken away at the end."""
        from webapp.engine.http_client import PageFetcher, Request, origin_of

        target = folder / f"{uuid4().hex}-{entry.name.split('?', 1)[0]}"
        fetcher = PageFetcher(allow_private=self.context.allow_private_addresses, timeout=30.0, retries=2)
        request = Request("GET", entry.path, self._headers(), None, origin_of(self.config.paths()[0]))
        try:
            with target.open("wb") as out:
                fetcher.save(request, out)
            yield target
        finally:
            fetcher.close()
            target.unlink(missing_ok=True)

    def _address(self) -> str:
        from webapp.engine.http_client import origin_of

        _, host, port = origin_of(self.config.paths()[0])
        return checked_address(host, port, allow_private=self.context.allow_private_addresses)

    def _headers(self) -> dict[str, str]:
        # The file's own bytes are wanted, packed as they are, not packed once more for the way.
        headers = {"Accept": "*/*", "Accept-Encoding": "identity"}
        if self.config.bearer_token is not None:
            headers["Authorization"] = f"Bearer {self.config.bearer_token.get_secret_value()}"
        elif self.config.username:
            secret = self.config.password.get_secret_value() if self.config.password else ""
            pair = base64.b64encode(f"{self.config.username}:{secret}".encode()).decode()
            headers["Authorization"] = f"Basic {pair}"
        return headers


def _walked(client: paramiko.SFTPClient, path: str) -> Iterator[FileEntry]:
    about = client.stat(path)
    if not stat.S_ISDIR(about.st_mode or 0):
        yield _entry(path, about)
        return
    for inside in sorted(client.listdir_attr(path), key=lambda each: each.filename):
        below = inside.filename if path == "." else f"{path.rstrip('/')}/{inside.filename}"
        if stat.S_ISDIR(inside.st_mode or 0):
            yield from _walked(client, below)
        elif stat.S_ISREG(inside.st_mode or 0):
            yield _entry(below, inside)


def _entry(path: str, about: paramiko.SFTPAttributes) -> FileEntry:
    modified = None if about.st_mtime is None else datetime.fromtimestamp(about.st_mtime, UTC)
    return FileEntry(path, about.st_size, modified)


@contextmanager
def _sftp_explained(path: str) -> Iterator[None]:
    import paramiko

    try:
        yield
    except FileNotFoundError as error:
        raise missing(path) from error
    except PermissionError as error:
        raise no_right(path, "the server refuses it") from error
    except (paramiko.SSHException, OSError, EOFError) as error:
        raise EngineError(f"the server broke off at {path!r}: {error or type(error).__name__}", origin=Origin.SOURCE,
                          kind=Kind.TRANSIENT, path=path, fix="Try again.") from error  # fmt: skip
