"""Sync jobs: what they move, and how far each of their streams has come.

Revises: 0003_connections
"""

import sqlalchemy as sa
from alembic import op

revision = "0004_sync"
down_revision = "0003_connections"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "sync_definition",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("source_id", sa.Uuid(), nullable=False),
        sa.Column("destination_id", sa.Uuid(), nullable=False),
        sa.Column("streams", sa.Text(), nullable=False),
        sa.Column("frequency", sa.String(length=200), nullable=False),
        sa.Column("updated_by", sa.Uuid(), nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_sync_definition_job_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["source_id"], ["connection.id"], name=op.f("fk_sync_definition_source_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["destination_id"], ["connection.id"], name=op.f("fk_sync_definition_destination_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["updated_by"], ["user.id"], name=op.f("fk_sync_definition_updated_by"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_sync_definition")),
    )
    with op.batch_alter_table("sync_definition", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_sync_definition_source_id"), ["source_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_sync_definition_destination_id"), ["destination_id"], unique=False)
    op.create_table(
        "stream_state",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("namespace", sa.String(length=512), nullable=False),
        sa.Column("name", sa.String(length=512), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("state", sa.JSON(), nullable=True),
        sa.Column("receipt", sa.JSON(), nullable=True),
        sa.Column("run_id", sa.Uuid(), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_stream_state_job_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "namespace", "name", name=op.f("pk_stream_state")),
    )


def downgrade() -> None:
    op.drop_table("stream_state")
    op.drop_table("sync_definition")
