"""Tables of the edge: what was answered to calls that carry an Idempotency-Key."""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from webapp.dates import utcnow
from webapp.db import Base, BigNumber


class KeptAnswer(Base):
    """The answer to a call with an Idempotency-Key, written in the transaction of what the call did."""

    __tablename__ = "kept_answer"
    __table_args__ = (sa.UniqueConstraint("visitor", "key"),)

    number: Mapped[int] = mapped_column(BigNumber, primary_key=True, autoincrement=True)
    visitor: Mapped[str] = mapped_column(sa.String(60))  # the user or token that called
    key: Mapped[str] = mapped_column(sa.String(255))
    fingerprint: Mapped[str] = mapped_column(sa.String(64))  # of method, address and body
    status: Mapped[int]
    headers: Mapped[str] = mapped_column(sa.Text)  # a JSON object of those worth repeating
    body: Mapped[bytes] = mapped_column(sa.LargeBinary)
    created_at: Mapped[datetime] = mapped_column(default=utcnow, index=True)
