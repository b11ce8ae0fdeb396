"""Flights on Apache Airflow: what is handed to it, and who executes the runs of a job.

Revises: 0005_edge
"""

import sqlalchemy as sa
from alembic import op

revision = "0006_airflow"
down_revision = "0005_edge"
branch_labels = None
depends_on = None


def upgrade() -> None:
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    with op.batch_alter_table("job", schema=None) as batch_op:
        batch_op.add_column(sa.Column("executor", sa.String(length=24), nullable=False, server_default="default"))
    with op.batch_alter_table("run", schema=None) as batch_op:
        batch_op.add_column(sa.Column("executor", sa.String(length=24), nullable=False, server_default="local"))
        batch_op.add_column(sa.Column("dag_run_id", sa.String(length=250), nullable=True))
        batch_op.add_column(sa.Column("waits_because", sa.Text(), nullable=True))
    with op.batch_alter_table("run", schema=None) as batch_op:
        batch_op.drop_index("ix_run_state_available_at_number")
        batch_op.create_index(
            "ix_run_state_executor_available_at_number", ["state", "executor", "available_at", "number"], unique=False
        )
    op.create_table(
        "airflow_flight",
        sa.Column("number", number, autoincrement=True, nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("rocket_id", sa.Uuid(), nullable=True),
        sa.Column("run_id", sa.Uuid(), nullable=True),
        sa.Column("dag_id", sa.String(length=250), nullable=False),
        sa.Column("dag_run_id", sa.String(length=250), nullable=False),
        sa.Column("state", sa.String(length=24), nullable=False),
        sa.Column("next_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("begun_by", sa.String(length=64), nullable=True),
        sa.Column("lease_token", sa.Integer(), nullable=True),
        sa.Column("sequence", number, nullable=False),
        sa.ForeignKeyConstraint(
            ["rocket_id"], ["rocket.id"], name=op.f("fk_airflow_flight_rocket_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_airflow_flight_run_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_airflow_flight")),
        sa.UniqueConstraint("id", name=op.f("uq_airflow_flight_id")),
        sa.UniqueConstraint("dag_run_id", name=op.f("uq_airflow_flight_dag_run_id")),
    )
    with op.batch_alter_table("airflow_flight", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_airflow_flight_next_at"), ["next_at"], unique=False)
        batch_op.create_index(batch_op.f("ix_airflow_flight_rocket_id"), ["rocket_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_airflow_flight_run_id"), ["run_id"], unique=False)


def downgrade() -> None:
    op.drop_table("airflow_flight")
    with op.batch_alter_table("run", schema=None) as batch_op:
        batch_op.drop_index("ix_run_state_executor_available_at_number")
        batch_op.create_index("ix_run_state_available_at_number", ["state", "available_at", "number"], unique=False)
    with op.batch_alter_table("run", schema=None) as batch_op:
        batch_op.drop_column("waits_because")
        batch_op.drop_column("dag_run_id")
        batch_op.drop_column("executor")
    with op.batch_alter_table("job", schema=None) as batch_op:
        batch_op.drop_column("executor")
