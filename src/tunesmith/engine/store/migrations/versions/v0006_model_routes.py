"""Add the tables of names that lead to models, and of how their requests were answered."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "model_routes",
        sa.Column("organization", sa.String(80), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.Column("target", sa.String(255)),
        sa.Column("upstream", sa.String(80)),
        sa.Column("stage", sa.String(16), nullable=False),
        sa.Column("percentage", sa.Double(), nullable=False),
        sa.Column("sticky_by", sa.String(16), nullable=False),
        sa.Column("fallback", sa.Boolean(), nullable=False),
        sa.Column("timeout_seconds", sa.Double(), nullable=False),
        sa.Column("keep_contents", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("organization", "name"),
    )
    op.create_index("ix_model_routes_target", "model_routes", ["target"])
    op.create_table(
        "route_decisions",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("organization", sa.String(80), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("minute", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("target", sa.String(255)),
        sa.Column("stage", sa.String(16), nullable=False),
        sa.Column("side", sa.String(16), nullable=False),
        sa.Column("fallback", sa.Boolean(), nullable=False),
        sa.Column("mirror", sa.String(16)),
        sa.Column("upstream_status", sa.Integer()),
        sa.Column("local_status", sa.Integer()),
        sa.Column("upstream_seconds", sa.Double()),
        sa.Column("local_seconds", sa.Double()),
        sa.Column("same_text", sa.Boolean()),
        sa.Column("same_normalized", sa.Boolean()),
        sa.Column("same_calls", sa.Boolean()),
        sa.Column("same_class", sa.Boolean()),
        sa.Column("data", sa.JSON(), nullable=False),
    )
    op.create_index(
        "ix_route_decisions_organization_name_created_at_id",
        "route_decisions",
        ["organization", "name", "created_at", "id"],
    )
    op.create_index("ix_route_decisions_created_at", "route_decisions", ["created_at"])
