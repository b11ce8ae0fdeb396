"""What the tests of MySQL as a destination share: the destination, and a load into it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from tests.connectors.reading import context_in
from tests.support.mariadb import MariaServer
from webapp.engine.connectors.base import Chunk, Column, Landed, Load, Target, Write
from webapp.engine.connectors.mysql.destination import MySQLDestination


def config(server: MariaServer, **changes: Any) -> dict[str, Any]:
    return {"host": "127.0.0.1", "port": server.port, "username": "root", "database": "lake", **changes}


def destination(server: MariaServer, folder: Path, **changes: Any) -> MySQLDestination:
    around = {name: changes.pop(name) for name in ("cancelled",) if name in changes}
    spec = MySQLDestination.Spec.model_validate(config(server, **changes))
    return MySQLDestination(spec, context_in(folder, **around))


def land(
    one: MySQLDestination,
    table: pa.Table,
    columns: tuple[Column, ...],
    write: Write = Write.REPLACE,
    *,
    state: dict[str, Any] | None = None,
    before_commit: Callable[[], None] = lambda: None,
    name: str = "landed",
    **more: Any,
) -> Landed:
    """Load a table of Arrow as a run would."""
    with one.open() as session:
        writer = session.begin(Load(Target("", name), write, columns, **more))
        try:
            writer.write(table.to_reader(), Chunk("all"))
            before_commit()
            return writer.commit(state or {})
        except BaseException:
            writer.abort()
            raise
