"""Add the tables of stored chat completions and their metadata."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "stored_completions",
        sa.Column("id", sa.String(60), primary_key=True),
        sa.Column("organization", sa.String(80), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.Column("model", sa.String(255), nullable=False),
        sa.Column("completion", sa.JSON(), nullable=False),
        sa.Column("messages", sa.JSON(), nullable=False),
    )
    op.create_index(
        "ix_stored_completions_organization_created_at_id",
        "stored_completions",
        ["organization", "created_at", "id"],
    )
    op.create_index("ix_stored_completions_expires_at", "stored_completions", ["expires_at"])
    op.create_table(
        "stored_completion_metadata",
        sa.Column(
            "completion_id",
            sa.String(60),
            sa.ForeignKey("stored_completions.id", ondelete="CASCADE"),
            nullable=False,
        ),
        sa.Column("key", sa.String(64), nullable=False),
        sa.Column("value", sa.String(512), nullable=False),
        sa.PrimaryKeyConstraint("completion_id", "key"),
    )
