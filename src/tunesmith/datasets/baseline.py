"""Compare a report with an earlier one, so that a pipeline fails only on new findings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from .dataset_errors import DatasetError

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from .findings import Finding
    from .report import Report

__all__ = ["findings_beyond", "load_baseline"]


def load_baseline(path: str | os.PathLike[str]) -> dict[str, int]:
    """Read an earlier JSON report and return how often each finding occurred.

    Raises:
        DatasetError: The file cannot be read or is not a report.
    """
    try:
        report = json.loads(Path(path).read_text(encoding="utf-8"))
        return {finding["id"]: int(finding["count"]) for finding in report["findings"]}
    except OSError as error:
        raise DatasetError(f"The baseline {path} cannot be read: {error.strerror}.") from None
    except (ValueError, KeyError, TypeError):
        raise DatasetError(
            f"{path} is not a report. Make one: tunesmith tools check FILE --json > {path}"
        ) from None


def findings_beyond(report: Report, baseline: Mapping[str, int]) -> list[Finding]:
    """Return the errors and warnings that are not in the baseline or occur more often than there.

    Lines are ignored: a row that only moved is not worse.
    """
    return [
        finding
        for finding in report.findings
        if finding.severity != "info" and finding.count > baseline.get(finding.id, 0)
    ]
