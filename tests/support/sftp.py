"""An SFTP server on loopback, over one folder, in a process of its own."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import asyncssh

PASSWORD = "correct horse"


@dataclass(frozen=True)
class SftpServer:
    """Where it is, its host key's fingerprint, and a private key that it takes."""

    port: int
    fingerprint: str
    private_key: str


class _Doors(asyncssh.SSHServer):
    def __init__(self, key: asyncssh.SSHKey) -> None:
        self._key = key

    def begin_auth(self, username: str) -> bool:
        return True

    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        return (username, password) == ("ada", PASSWORD)

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        return username == "ada" and key.public_data == self._key.public_data


@contextmanager
def sftp_server(folder: Path) -> Iterator[SftpServer]:
    """Serve a folder until the block ends."""
    command = [sys.executable, "-m", "tests.support.sftp", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        try:
            yield SftpServer(**json.loads(process.stdout.readline()))
        finally:
            process.kill()


async def _serve(folder: bytes) -> None:
    host_key = asyncssh.generate_private_key("ssh-ed25519")
    user_key = asyncssh.generate_private_key("ssh-ed25519")
    acceptor = await asyncssh.listen(
        "127.0.0.1", 0, server_host_keys=[host_key], server_factory=lambda: _Doors(user_key),
        sftp_factory=lambda channel: asyncssh.SFTPServer(channel, chroot=folder),
    )  # fmt: skip
    key = user_key.export_private_key().decode()
    server = SftpServer(acceptor.get_port(), host_key.get_fingerprint("sha256"), key)
    print(json.dumps(asdict(server)), flush=True)
    await acceptor.wait_closed()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1].encode()))
