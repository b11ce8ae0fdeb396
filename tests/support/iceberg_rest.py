"""A small Iceberg REST catalog on loopback: the protocol in HTTP, over the library's SQL catalog in SQLite.

What clients need to read, make and change tables, with a bearer token or client credentials. Written by the
specification `rest-catalog-open-api.yaml`; no server of others was to be had from the registries that tests may use.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from pyiceberg.catalog.rest import CreateTableRequest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import (
    CommitFailedException,
    NamespaceAlreadyExistsError,
    NoSuchNamespaceError,
    NoSuchTableError,
    TableAlreadyExistsError,
)
from pyiceberg.schema import Schema
from pyiceberg.table import CommitTableRequest, Table

TOKEN = "token-of-the-tests"
CREDENTIAL = "client:secret-of-the-tests"
_CODES = {
    NoSuchNamespaceError: 404, NoSuchTableError: 404, NamespaceAlreadyExistsError: 409, TableAlreadyExistsError: 409,
    CommitFailedException: 409,
}  # fmt: skip


@dataclass(frozen=True)
class RestServer:
    """Where it is, the catalog behind it, and the settings that it has clients use before their own."""

    url: str
    catalog: SqlCatalog
    config: dict[str, str]


@contextmanager
def rest_catalog(folder: Path, **properties: str) -> Iterator[RestServer]:
    """Serve a catalog whose database lies in the folder; `properties` say how it reaches its warehouse."""
    catalog = SqlCatalog("behind", uri=f"sqlite:///{folder}/rest.db", **properties)
    config: dict[str, str] = {}
    handler = type("Handler", (_Handler,), {"catalog": catalog, "config": config, "lock": threading.Lock()})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield RestServer(f"http://127.0.0.1:{server.server_address[1]}", catalog, config)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        catalog.close()


class _Handler(BaseHTTPRequestHandler):
    catalog: SqlCatalog
    config: dict[str, str]
    lock: threading.Lock
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_HEAD(self) -> None:
        self._serve()

    def do_DELETE(self) -> None:
        self._serve()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
        if parts == ["v1", "oauth", "tokens"]:
            self._log_in(parse_qs(body.decode()))
        elif self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._refuse(401, "NotAuthorizedException", "no good token")
        else:
            self._answered(parts[1:], body)

    def _log_in(self, form: dict[str, list[str]]) -> None:
        given = f"{form.get('client_id', [''])[0]}:{form.get('client_secret', [''])[0]}"
        if given != CREDENTIAL:
            self._send(401, {"error": "invalid_client", "error_description": "no such client"})
            return
        self._send(200, {"access_token": TOKEN, "token_type": "bearer", "expires_in": 3600})

    def _answered(self, parts: list[str], body: bytes) -> None:
        try:
            with self.lock:
                code, answer = self._answer(parts, body)
        except tuple(_CODES) as error:
            self._refuse(_CODES[type(error)], type(error).__name__, str(error))
            return
        self._send(code, answer)

    def _answer(self, parts: list[str], body: bytes) -> tuple[int, Any]:
        match (self.command, parts):
            case ("GET", ["config"]):
                return 200, {"defaults": {}, "overrides": self.config}
            case ("GET", ["namespaces"]):
                return 200, {"namespaces": [list(one) for one in self.catalog.list_namespaces()]}
            case ("POST", ["namespaces"]):
                asked = json.loads(body)
                self.catalog.create_namespace(tuple(asked["namespace"]), asked.get("properties", {}))
                return 200, asked
            case ("GET" | "HEAD", ["namespaces", name]):
                return 200, {"namespace": [name], "properties": self.catalog.load_namespace_properties((name,))}
            case (verb, ["namespaces", name, "tables"]):
                return self._tables(verb, name, body)
            case (verb, ["namespaces", name, "tables", table]):
                return self._table(verb, (name, table), body)
        return 404, _problem(404, "NotFoundException", f"no {self.command} {self.path}")

    def _tables(self, verb: str, name: str, body: bytes) -> tuple[int, Any]:
        if verb == "GET":
            found = self.catalog.list_tables((name,))
            return 200, {"identifiers": [{"namespace": [name], "name": one[-1]} for one in found]}
        absent = {"location": None, "partition-spec": None, "write-order": None}
        asked = CreateTableRequest.model_validate(absent | json.loads(body))
        given = (asked.table_schema, asked.location, asked.partition_spec, asked.write_order, asked.properties)
        identifier = (name, asked.name)
        if asked.stage_create:
            return 200, _told(self._staged(identifier, given), staged=True)
        return 200, _told(self.catalog.create_table(identifier, *_present(given)))

    def _table(self, verb: str, identifier: tuple[str, str], body: bytes) -> tuple[int, Any]:
        if verb in ("GET", "HEAD"):
            return 200, {**_told(self.catalog.load_table(identifier)), "config": self.config}
        if verb == "DELETE":
            self.catalog.drop_table(identifier)
            return 204, None
        asked = CommitTableRequest.model_validate_json(body)
        target = self._staged(identifier, (Schema(), None, None, None, {}))
        done = self.catalog.commit_table(target, asked.requirements, asked.updates)
        return 200, {"metadata-location": done.metadata_location, "metadata": done.metadata.model_dump(mode="json")}

    def _staged(self, identifier: tuple[str, str], given: tuple[Any, ...]) -> Table:
        return self.catalog._create_staged_table(identifier, *_present(given))

    def _refuse(self, code: int, kind: str, message: str) -> None:
        self._send(code, _problem(code, kind, message))

    def _send(self, code: int, answer: Any) -> None:
        text = b"" if answer is None or self.command == "HEAD" else json.dumps(answer).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


def _present(given: tuple[Any, ...]) -> tuple[Any, ...]:
    """A request's fields with the defaults for those that it left out."""
    from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC
    from pyiceberg.table.sorting import UNSORTED_SORT_ORDER

    schema, location, spec, order, properties = given
    return schema, location, spec or UNPARTITIONED_PARTITION_SPEC, order or UNSORTED_SORT_ORDER, properties


def _told(table: Table, *, staged: bool = False) -> dict[str, Any]:
    place = {} if staged else {"metadata-location": table.metadata_location}
    return {**place, "metadata": table.metadata.model_dump(mode="json"), "config": {}}


def _problem(code: int, kind: str, message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "code": code}}
