"""How far a run was in each second, for its chart of rows per second.

Revises: 0001_first_flight
"""

import sqlalchemy as sa
from alembic import op

revision = "0002_run_samples"
down_revision = "0001_first_flight"
branch_labels = None
depends_on = None


def upgrade() -> None:
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "run_sample",
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("second", sa.Integer(), nullable=False),
        sa.Column("rows_read", number, nullable=False),
        sa.Column("bytes_read", number, nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_run_sample_run_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", "attempt", "second", name=op.f("pk_run_sample")),
    )


def downgrade() -> None:
    op.drop_table("run_sample")
