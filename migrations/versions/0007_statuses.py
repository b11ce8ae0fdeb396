"""The log of statuses of every job, filled with what is known of the runs so far.

Revises: 0006_airflow
"""

import sqlalchemy as sa
from alembic import op

revision = "0007_statuses"
down_revision = "0006_airflow"
branch_labels = None
depends_on = None

#: Every job was pending when it was made; every run was queued, and then started and ended as far as it came.
BACKFILL = """
    INSERT INTO job_status (project_id, job_id, run_id, state, at, "by")
    SELECT project_id, job_id, run_id, state, at, '' FROM (
        SELECT project_id, id AS job_id, NULL AS run_id, 'queued' AS state, created_at AS at, 0 AS place, number
        FROM job
        UNION ALL
        SELECT project_id, job_id, id, 'queued', created_at, 1, number FROM run
        UNION ALL
        SELECT project_id, job_id, id, 'running', started_at, 2, number FROM run WHERE started_at IS NOT NULL
        UNION ALL
        SELECT project_id, job_id, id, state, finished_at, 3, number FROM run WHERE finished_at IS NOT NULL
    ) AS known ORDER BY at, number, place
"""


def upgrade() -> None:
    op.create_table(
        "job_status",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=True),
        sa.Column("state", sa.String(length=24), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("by", sa.String(length=255), nullable=False),
        sa.Column("edited_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("edited_by", sa.String(length=255), nullable=True),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_job_status")),
        sqlite_autoincrement=True,
    )
    is_postgresql = op.get_bind().dialect.name == "postgresql"
    op.execute(BACKFILL.replace("NULL AS run_id", "CAST(NULL AS uuid) AS run_id") if is_postgresql else BACKFILL)
    op.create_index("ix_job_status_project_id_at_number", "job_status", ["project_id", "at", "number"])
    op.create_index("ix_job_status_job_id_at_number", "job_status", ["job_id", "at", "number"])
    op.create_index("ix_job_project_id_created_at_number", "job", ["project_id", "created_at", "number"])


def downgrade() -> None:
    op.drop_index("ix_job_project_id_created_at_number", table_name="job")
    op.drop_table("job_status")
