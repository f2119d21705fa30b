"""A job as it lies in the store, for tests that need one without a training."""

from __future__ import annotations

import time
from typing import Any

from tunesmith.engine.store.records import JobRow


def job_row(identity: str = "a", organization: str = "local", **values: Any) -> JobRow:
    fields: dict[str, Any] = {
        "id": identity,
        "api": "fine-tuning",
        "organization": organization,
        "created_at": time.time(),
        "updated_at": time.time(),
        "status": "validating_files",
        "model": "ada",
        "base_model": "tiny",
        "family": "ada",
        "training_file": "file-1",
        "seed": 1,
        "method": "supervised",
        "requested_hyperparameters": {},
    }
    return JobRow(**fields | values)
