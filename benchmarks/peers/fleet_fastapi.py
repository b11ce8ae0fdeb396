"""The same list of rockets, written the way FastAPI's documentation teaches it: AsyncSession, ORM, response model.

Served by uvicorn with two processes. `DATABASE` is an SQLAlchemy URL with an async driver; `SECRET` signs its tokens.
"""

import os
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated
from uuid import UUID

import jwt
from fastapi import Depends, FastAPI, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, ConfigDict
from sqlalchemy import Index, String, event, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

URL = os.environ["DATABASE"]
engine = create_async_engine(URL, pool_size=16)
sessions = async_sessionmaker(engine, expire_on_commit=False)
bearer = HTTPBearer()
app = FastAPI()

if URL.startswith("sqlite"):

    @event.listens_for(engine.sync_engine, "connect")
    def prepare(connection, record):
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "mmap_size=268435456"):
            connection.execute(f"PRAGMA {pragma}")


class Base(DeclarativeBase):
    pass


class Rocket(Base):
    __tablename__ = "fleet"
    __table_args__ = (Index("ix_fleet_status_number", "status", "number"),)

    number: Mapped[int] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(unique=True)
    state: Mapped[str] = mapped_column(String(24))
    source: Mapped[str] = mapped_column(String(255))
    destination: Mapped[str] = mapped_column(String(255))
    location: Mapped[str] = mapped_column(String(255))
    estimated_time: Mapped[int]
    status: Mapped[str] = mapped_column(String(24))
    airflow_dag_run_id: Mapped[str | None] = mapped_column(String(250))
    user_id: Mapped[UUID | None]
    job_id: Mapped[UUID | None]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class RocketOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: UUID
    state: str
    source: str
    destination: str
    location: str
    estimated_time: int
    status: str
    airflow_dag_run_id: str | None
    user_id: UUID | None
    job_id: UUID | None
    created_at: datetime
    updated_at: datetime


async def session() -> AsyncIterator[AsyncSession]:
    async with sessions() as found:
        yield found


def visitor(credentials: Annotated[HTTPAuthorizationCredentials, Depends(bearer)]) -> str:
    try:
        claims = jwt.decode(credentials.credentials, os.environ["SECRET"], algorithms=["HS256"])
    except jwt.PyJWTError as error:
        raise HTTPException(401, "Could not validate credentials") from error
    return str(claims["sub"])


@app.get("/api/v1/job", response_model=list[RocketOut])
async def list_jobs(
    db: Annotated[AsyncSession, Depends(session)],
    user: Annotated[str, Depends(visitor)],
    status: str | None = None,
    cursor: int | None = None,
    limit: int = 50,
) -> list[Rocket]:
    query = select(Rocket)
    if status is not None:
        query = query.where(Rocket.status == status)
    if cursor is not None:
        query = query.where(Rocket.number < cursor)
    return list(await db.scalars(query.order_by(Rocket.number.desc()).limit(limit)))
