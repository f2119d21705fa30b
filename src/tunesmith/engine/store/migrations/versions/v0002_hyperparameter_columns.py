"""Rename the columns of a job's hyperparameters: `asked` and `settled`.

The columns are renamed in place. Alembic's batch mode would copy the table on SQLite and drop
the old one, which would delete the events and checkpoints that refer to it.
"""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Rename the columns."""
    op.execute("ALTER TABLE jobs RENAME COLUMN asked TO requested_hyperparameters")
    op.execute("ALTER TABLE jobs RENAME COLUMN settled TO resolved_hyperparameters")
