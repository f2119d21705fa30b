"""Add the table of permissions to use the models of other organisations."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "checkpoint_permissions",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column(
            "model",
            sa.String(255),
            sa.ForeignKey("models.name", ondelete="CASCADE"),
            nullable=False,
        ),
        sa.Column("organization", sa.String(80), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.UniqueConstraint("model", "organization"),
    )
    op.create_index(
        "ix_checkpoint_permissions_organization", "checkpoint_permissions", ["organization"]
    )
