"""What is handed to Airflow: one row for each DAG run that was wanted. It is an outbox, and the memory of callbacks."""

import uuid
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from webapp.db import BigNumber, Row, enum_column


class FlightState(StrEnum):
    """Where a flight is on its way."""

    #: To be handed over; `reason` says why Airflow has not taken it yet.
    WAITING = "waiting"
    #: Airflow has taken it: there is a DAG run.
    STARTED = "started"
    #: Nothing it still says is taken. While `next_at` is set, its DAG run has to be stopped.
    ENDED = "ended"


#: The table of allowed moves.
MOVES: Mapping[FlightState, tuple[FlightState, ...]] = MappingProxyType(
    {
        FlightState.WAITING: (FlightState.STARTED, FlightState.ENDED),
        FlightState.STARTED: (FlightState.ENDED,),
        FlightState.ENDED: (),
    }
)


class AirflowFlight(Row):
    """A DAG run that flies a rocket without a job, or one attempt of a run.

    `next_at` is when something has to be said to Airflow: hand it over, look after it, or stop it. The id of the DAG
    run is chosen here and stays the same however often the flight is handed over, so Airflow takes it once. One whose
    rocket or run was deleted knows neither any more: it only has its DAG run stopped.
    """

    __tablename__ = "airflow_flight"

    rocket_id: Mapped[uuid.UUID | None] = mapped_column(sa.ForeignKey("rocket.id", ondelete="CASCADE"), index=True)
    run_id: Mapped[uuid.UUID | None] = mapped_column(sa.ForeignKey("run.id", ondelete="CASCADE"), index=True)
    dag_id: Mapped[str] = mapped_column(sa.String(250))
    dag_run_id: Mapped[str] = mapped_column(sa.String(250), unique=True)
    state: Mapped[FlightState] = mapped_column(enum_column(FlightState), default=FlightState.WAITING)
    next_at: Mapped[datetime | None] = mapped_column(index=True)
    tries: Mapped[int] = mapped_column(default=0)
    reason: Mapped[str | None] = mapped_column(sa.Text)

    # what its tasks have said
    begun_by: Mapped[str | None] = mapped_column(sa.String(64))  # a key of the task that executes the run
    lease_token: Mapped[int | None]  # of the attempt that it executes; None until its task has begun
    sequence: Mapped[int] = mapped_column(BigNumber, default=0)  # number of the last message that was taken

    @property
    def conf(self) -> dict[str, str]:
        """What the DAG run is told."""
        return {"job_id": str(self.rocket_id)} if self.rocket_id else {"run_id": str(self.run_id)}


def move(flight: AirflowFlight, to: FlightState) -> None:
    """Put the flight into this state; it may be there already. A move that the table forbids is an error of ours."""
    if flight.state is to:
        return
    assert to in MOVES[flight.state], f"a flight that is {flight.state} cannot become {to}"
    flight.state = to
