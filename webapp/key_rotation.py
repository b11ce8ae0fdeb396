"""Stored secrets under the newest key: every encrypted column of every table, a batch of rows at a time."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from cryptography.fernet import InvalidToken
from sqlalchemy.orm import Session

from webapp import db as database
from webapp.db import Base
from webapp.secrets import EncryptedJSON, Vault

BATCH = 500


@dataclass
class Rotation:
    """What was done: rows encrypted anew, and by `table.column` how many no key of the file can read."""

    renewed: int = 0
    unreadable: dict[str, int] = field(default_factory=dict)


def renew_all(vault: Vault) -> Rotation:
    """Encrypt all stored secrets with the newest key; those that are already stay. Safe beside a running stack."""
    done = Rotation()
    for column in sealed_columns():
        last: Any = None
        while last := _renew_batch(column, last, vault, done):
            pass
    return done


def sealed_columns() -> Iterator[sa.Column[Any]]:
    """All columns that are encrypted at rest."""
    for table in Base.metadata.sorted_tables:
        yield from (column for column in table.columns if isinstance(column.type, EncryptedJSON))


def _renew_batch(column: sa.Column[Any], last: Any, vault: Vault, done: Rotation) -> Any:
    """Renew the rows behind `last`, in a unit of work; returns the last of them, None at the end."""
    (key,) = column.table.primary_key
    sealed = sa.type_coerce(column, sa.Text)
    query = sa.select(key, sealed).where(column.is_not(None)).order_by(key).limit(BATCH)
    with database.unit_of_work() as session:
        rows = session.execute(query if last is None else query.where(key > last)).all()
        for row_key, text in rows:
            try:
                renewed = vault.renewed(text)
            except InvalidToken:
                done.unreadable[str(column)] = done.unreadable.get(str(column), 0) + 1
                continue
            if renewed:
                done.renewed += _replace(session, column, row_key, text, renewed)
    return rows[-1][0] if rows else None


def _replace(session: Session, column: sa.Column[Any], row_key: Any, old: str, new: str) -> int:
    """Put the new text in the place of the old one; a row that was written meanwhile has its secret from the writer."""
    table = column.table
    (key,) = table.primary_key
    # The row says the same as before: the time of its last change stays.
    unchanged = {other: other for other in table.columns if other.onupdate is not None}
    statement = (
        sa.update(table)
        .where(key == row_key, sa.type_coerce(column, sa.Text) == old)
        .values({**unchanged, column: sa.literal(new, sa.Text)})
    )
    result: sa.CursorResult[Any] = session.execute(statement)  # type: ignore[assignment]
    return result.rowcount
