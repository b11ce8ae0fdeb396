"""An S3 server on loopback (moto in a process of its own) that checks keys as the real one does."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import boto3

from tests.support.stacks import free_port

_PATIENCE = 60.0


@dataclass(frozen=True)
class S3Server:
    """Where it is, and the keys that it takes."""

    url: str
    access_key_id: str
    secret_access_key: str

    def client(self) -> Any:
        """A client that may do everything."""
        return _client("s3", self.url, self.access_key_id, self.secret_access_key)


@contextmanager
def s3_server() -> Iterator[S3Server]:
    """Run a server until the block ends; its first user is made before it begins to check keys."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    environment = {**os.environ, "INITIAL_NO_AUTH_ACTION_COUNT": "3"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait(port, process)
        url = f"http://127.0.0.1:{port}"
        iam = _client("iam", url, "first", "first")
        iam.create_user(UserName="tester")
        policy = '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}'
        iam.put_user_policy(UserName="tester", PolicyName="all", PolicyDocument=policy)
        key = iam.create_access_key(UserName="tester")["AccessKey"]
        yield S3Server(url, key["AccessKeyId"], key["SecretAccessKey"])
    finally:
        process.kill()
        process.wait()


def _client(service: str, url: str, key: str, secret: str) -> Any:
    return boto3.client(service, endpoint_url=url, region_name="us-east-1", aws_access_key_id=key,
                        aws_secret_access_key=secret)  # fmt: skip


def _wait(port: int, process: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise RuntimeError("the S3 server did not start")
