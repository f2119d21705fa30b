"""The tables. Times are Unix seconds as floats; ids are the engine's own text.

The jobs table is the queue: a job with a `worker_id` is leased by a process, one
without is queued or has ended. Its `status` is also the request to a running worker:
anything but "running" asks it to stop. The migrations in `migrations/` lead to exactly
this schema; a test compares the two.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
)

__all__ = [
    "checkpoint_permissions",
    "checkpoints",
    "events",
    "exports",
    "files",
    "idempotency",
    "jobs",
    "keys",
    "metadata",
    "model_routes",
    "models",
    "route_decisions",
    "stored_completion_metadata",
    "stored_completions",
    "upload_parts",
    "uploads",
]

metadata: MetaData = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

keys: Table = Table(
    "keys",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("name", String(200), nullable=False),
    Column("sha256", String(64), nullable=False, unique=True),
    Column("hint", String(16), nullable=False),
    Column("organization", String(80), nullable=False),
    Column("role", String(16), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("revoked_at", Double),
)

files: Table = Table(
    "files",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("organization", String(80), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("filename", Text, nullable=False),
    Column("purpose", String(40), nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("expires_at", Double),
    Column("prompt_format", JSON(none_as_null=True)),
    Index(None, "organization", "created_at", "id"),
    Index(None, "sha256"),
)

uploads: Table = Table(
    "uploads",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("organization", String(80), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double, nullable=False),
    Column("filename", Text, nullable=False),
    Column("purpose", String(40), nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("lifetime_seconds", Integer),
    Column("status", String(20), nullable=False),
    Column("file_id", String(40)),
    Index(None, "expires_at"),
)

upload_parts: Table = Table(
    "upload_parts",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("upload_id", String(40), ForeignKey("uploads.id", ondelete="CASCADE"), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    Index(None, "upload_id"),
)

jobs: Table = Table(
    "jobs",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("api", String(16), nullable=False),
    Column("organization", String(80), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    Column("status", String(20), nullable=False),
    Column("model", Text, nullable=False),
    Column("base_model", Text, nullable=False),
    Column("parent_model", Text),
    Column("family", Text, nullable=False),
    Column("training_file", String(40), nullable=False),
    Column("validation_file", String(40)),
    Column("suffix", String(64)),
    Column("seed", Integer, nullable=False),
    Column("method", String(16), nullable=False),
    Column("requested_hyperparameters", JSON, nullable=False),
    Column("resolved_hyperparameters", JSON(none_as_null=True)),
    Column("metadata", JSON(none_as_null=True)),
    Column("integrations", JSON(none_as_null=True)),
    Column("total_steps", Integer),
    Column("steps_done", Integer, nullable=False),
    Column("estimated_finish", Double),
    Column("trained_tokens", BigInteger),
    Column("finished_at", Double),
    Column("fine_tuned_model", Text),
    Column("result_file", String(40)),
    Column("error", JSON(none_as_null=True)),
    Column("worker_id", String(40)),
    Column("worker_host", String(255)),
    Column("worker_pid", Integer),
    Column("heartbeat_at", Double),
    Column("attempts", Integer, nullable=False),
    Column("event_count", Integer, nullable=False),
    Index(None, "organization", "created_at", "id"),
    Index(None, "status", "created_at"),
    Index(None, "worker_id"),
)

events: Table = Table(
    "events",
    metadata,
    Column("job_id", String(40), ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("sequence", Integer, nullable=False),
    Column("id", String(40), nullable=False, unique=True),
    Column("key", String(80), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("level", String(8), nullable=False),
    Column("kind", String(20), nullable=False),
    Column("data", JSON, nullable=False),
    PrimaryKeyConstraint("job_id", "sequence"),
    UniqueConstraint("job_id", "key"),
)

models: Table = Table(
    "models",
    metadata,
    Column("name", String(255), primary_key=True),
    Column("organization", String(80), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("job_id", String(40), nullable=False),
    Column("base_model", Text, nullable=False),
    Column("family", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("step", Integer),
    Column("prompt_format", JSON(none_as_null=True)),
    Index(None, "organization", "created_at"),
    Index(None, "job_id"),
)

checkpoints: Table = Table(
    "checkpoints",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("job_id", String(40), ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("step", Integer, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("model", String(255), nullable=False),
    Column("metrics", JSON, nullable=False),
    UniqueConstraint("job_id", "step"),
)

checkpoint_permissions: Table = Table(
    "checkpoint_permissions",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("model", String(255), ForeignKey("models.name", ondelete="CASCADE"), nullable=False),
    Column("organization", String(80), nullable=False),
    Column("created_at", Double, nullable=False),
    UniqueConstraint("model", "organization"),
    Index(None, "organization"),
)

model_routes: Table = Table(
    "model_routes",
    metadata,
    Column("organization", String(80), nullable=False),
    Column("name", String(255), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    Column("target", String(255)),
    Column("upstream", String(80)),
    Column("stage", String(16), nullable=False),
    Column("percentage", Double, nullable=False),
    Column("sticky_by", String(16), nullable=False),
    Column("fallback", Boolean, nullable=False),
    Column("timeout_seconds", Double, nullable=False),
    Column("keep_contents", Boolean, nullable=False),
    PrimaryKeyConstraint("organization", "name"),
    Index(None, "target"),
)

route_decisions: Table = Table(
    "route_decisions",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("organization", String(80), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("minute", BigInteger, nullable=False),
    Column("name", String(255), nullable=False),
    Column("target", String(255)),
    Column("stage", String(16), nullable=False),
    Column("side", String(16), nullable=False),
    Column("fallback", Boolean, nullable=False),
    Column("mirror", String(16)),
    Column("upstream_status", Integer),
    Column("local_status", Integer),
    Column("upstream_seconds", Double),
    Column("local_seconds", Double),
    Column("same_text", Boolean),
    Column("same_normalized", Boolean),
    Column("same_calls", Boolean),
    Column("same_class", Boolean),
    Column("data", JSON, nullable=False),
    Index(None, "organization", "name", "created_at", "id"),
    Index(None, "created_at"),
)

stored_completions: Table = Table(
    "stored_completions",
    metadata,
    Column("id", String(60), primary_key=True),
    Column("organization", String(80), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double, nullable=False),
    Column("model", String(255), nullable=False),
    Column("completion", JSON, nullable=False),
    Column("messages", JSON, nullable=False),
    Index(None, "organization", "created_at", "id"),
    Index(None, "expires_at"),
)

stored_completion_metadata: Table = Table(
    "stored_completion_metadata",
    metadata,
    Column(
        "completion_id",
        String(60),
        ForeignKey("stored_completions.id", ondelete="CASCADE"),
        nullable=False,
    ),
    Column("key", String(64), nullable=False),
    Column("value", String(512), nullable=False),
    PrimaryKeyConstraint("completion_id", "key"),
)

exports: Table = Table(
    "exports",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("organization", String(80), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("model", String(255), nullable=False),
    Column("format", String(16), nullable=False),
    Column("quantization", String(16), nullable=False),
    Column("with_base", Boolean, nullable=False),
    Column("compare", Boolean, nullable=False),
    Column("status", String(20), nullable=False),
    Column("step", Text, nullable=False),
    Column("progress", Double, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("finished_at", Double),
    Column("expires_at", Double),
    Column("filename", Text),
    Column("bytes", BigInteger),
    Column("sha256", String(64)),
    Column("comparison", JSON(none_as_null=True)),
    Column("error", JSON(none_as_null=True)),
    Index(None, "organization", "created_at", "id"),
    Index(None, "status", "created_at"),
)

idempotency: Table = Table(
    "idempotency",
    metadata,
    Column("organization", String(80), nullable=False),
    Column("key", String(255), nullable=False),
    Column("operation", String(40), nullable=False),
    Column("fingerprint", String(64), nullable=False),
    Column("object_id", String(40), nullable=False),
    Column("created_at", Double, nullable=False),
    PrimaryKeyConstraint("organization", "operation", "key"),
)
