"""ClickHouse's engine behind its HTTP interface: every request is a session of its own.

Run with the interpreter of the environment that `make clickhouse` makes: `server.py <port> <folder> <user> <password>`.
What is the engine's own: SQL, formats, tables, errors. What is imitated here: the log-in, and the names of queries.
"""

import base64
import re
import sys
import tempfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import chdb

_OURS = {"query", "database", "query_id", "wait_end_of_query", "session_id", "compress", "decompress", "quota_key"}
_DATA = re.compile(rb"\s*INSERT\s+INTO\s.*?\sFORMAT\s+(\w+)[ \t]*\r?\n", re.IGNORECASE | re.DOTALL)
_KILL = re.compile(r"query_id\s*=\s*'([^']*)'")
_STATUS = {"60": 404, "81": 404, "516": 403, "497": 403, "62": 400}


class Handler(BaseHTTPRequestHandler):
    """One connection of a client."""

    protocol_version = "HTTP/1.1"
    root: str
    login: str
    temp: str

    def do_GET(self) -> None:
        """The client's own question whether somebody is there, or a query."""
        if urlsplit(self.path).path == "/ping":
            self._answer(200, b"Ok.\n")
        else:
            self.do_POST()

    def do_POST(self) -> None:
        """One statement, with its data behind it."""
        body = self._body()
        if self.headers.get("Authorization") != self.login:
            self._refuse(
                "Code: 516. DB::Exception: Authentication failed: password is incorrect. (AUTHENTICATION_FAILED)"
            )
            return
        given = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
        try:
            self._answer(200, self._done(given, given.get("query", "").encode() + b"\n" + body))
        except RuntimeError as error:
            self._refuse(str(error))

    def _done(self, given: dict[str, str], text: bytes) -> bytes:
        session = chdb.connect(self.root)
        try:
            for name, value in given.items():
                if name not in _OURS and name != "default_format":
                    session.query(f"SET {name} = '{_escaped(value)}'")
            if given.get("database"):
                session.query(f"USE `{given['database']}`")
            name = f"/*{given.get('query_id', '')}*/"
            if found := _DATA.match(text):
                return self._inserted(session, name, found, text[found.end() :])
            statement = text.decode().strip()
            if statement.upper().startswith("KILL QUERY"):
                statement = _KILL.sub(r"query LIKE '/*\1*/%'", statement)
            return bytes(session.query(name + statement, given.get("default_format", "TSV")).bytes())
        finally:
            session.close()

    def _inserted(self, session: Any, name: str, found: re.Match[bytes], data: bytes) -> bytes:
        with tempfile.NamedTemporaryFile(dir=self.temp) as file:
            file.write(data)
            file.flush()
            begin = found[0].decode().rstrip()
            begin = begin[: begin.upper().rindex("FORMAT")]
            session.query(f"{name}{begin} FROM INFILE '{file.name}' FORMAT {found[1].decode()}")
        return b""

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _refuse(self, said: str) -> None:
        code = re.search(r"Code: (\d+)", said)
        number = code[1] if code else "0"
        self._answer(_STATUS.get(number, 500), said.encode(), {"X-ClickHouse-Exception-Code": number})

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"X-ClickHouse-Timezone": "UTC", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *said: object) -> None:
        """Say nothing."""


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "\\'")


def main() -> None:
    """Serve until the process is ended."""
    port, folder, user, password = sys.argv[1:]
    Handler.root = str(Path(folder) / "data")
    Handler.temp = folder
    Handler.login = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
    kept = chdb.connect(Handler.root)  # the engine lives as long as one connection does
    kept.query("SELECT 1")
    ThreadingHTTPServer(("127.0.0.1", int(port)), Handler).serve_forever()


if __name__ == "__main__":
    main()
