"""Add the table of exports of models."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "exports",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("organization", sa.String(80), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("model", sa.String(255), nullable=False),
        sa.Column("format", sa.String(16), nullable=False),
        sa.Column("quantization", sa.String(16), nullable=False),
        sa.Column("with_base", sa.Boolean(), nullable=False),
        sa.Column("compare", sa.Boolean(), nullable=False),
        sa.Column("status", sa.String(20), nullable=False),
        sa.Column("step", sa.Text(), nullable=False),
        sa.Column("progress", sa.Double(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("finished_at", sa.Double()),
        sa.Column("expires_at", sa.Double()),
        sa.Column("filename", sa.Text()),
        sa.Column("bytes", sa.BigInteger()),
        sa.Column("sha256", sa.String(64)),
        sa.Column("comparison", sa.JSON(none_as_null=True)),
        sa.Column("error", sa.JSON(none_as_null=True)),
    )
    op.create_index(
        "ix_exports_organization_created_at_id", "exports", ["organization", "created_at", "id"]
    )
    op.create_index("ix_exports_status_created_at", "exports", ["status", "created_at"])
