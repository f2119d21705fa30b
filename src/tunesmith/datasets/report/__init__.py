"""The report of a check: its findings, for a terminal, a notebook, a pipeline or a review."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from tunesmith._lazy import set_public_module
from tunesmith.datasets.findings import Finding

if TYPE_CHECKING:
    from tunesmith.datasets.prompt_format import PromptFormat
    from tunesmith.datasets.rows import RowFormat
    from tunesmith.datasets.task import Task

__all__ = ["REPORT_VERSION", "Report"]

REPORT_VERSION: Final = 1

_RANK: Final = {"error": 0, "warning": 1, "info": 2}


@dataclass(slots=True)
class Report:
    """What a check found.

    Attributes:
        name: The file or data set.
        profile: Destination of the data.
        shape: Shape of the rows.
        rows: Rows that follow the rules of their shape.
        lines: Lines of the source.
        bytes: Its size, where it has one.
        task: What the rows teach, for prompt/completion rows.
        prompt_format: The format that the rows should follow.
        encoding: The vocabulary in which tokens were counted.
        token_limit: Tokens that a row may have.
        tokens: All tokens, if they were counted.
        longest_row: Tokens of the longest row, if they were counted.
        findings: Errors first, then in the order of their first lines.
    """

    name: str | None
    profile: str
    shape: RowFormat
    rows: int = 0
    lines: int = 0
    bytes: int | None = None
    task: Task | None = None
    prompt_format: PromptFormat | None = None
    encoding: str | None = None
    token_limit: int | None = None
    tokens: int | None = None
    longest_row: int | None = None
    findings: list[Finding] = field(default_factory=list[Finding])

    @property
    def ok(self) -> bool:
        """Whether there is no error."""
        return not self.errors

    @property
    def errors(self) -> list[Finding]:
        """Findings that stop a job."""
        return [finding for finding in self.findings if finding.severity == "error"]

    @property
    def warnings(self) -> list[Finding]:
        """Findings that probably harm the result."""
        return [finding for finding in self.findings if finding.severity == "warning"]

    @property
    def exit_code(self) -> int:
        """Exit code for a command: 0 if there is no error, else 1."""
        return 0 if self.ok else 1

    def first_error(self) -> Finding | None:
        """Return the error with the lowest line, or None if there is no error."""
        errors = self.errors
        return errors[0] if errors else None

    def sort(self) -> None:
        """Sort errors first, and each severity by the first lines of its findings."""
        self.findings.sort(key=_order)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain JSON data."""
        counts = {
            severity: sum(finding.severity == severity for finding in self.findings)
            for severity in _RANK
        }
        return {
            "version": REPORT_VERSION,
            "file": self.name,
            "profile": self.profile,
            "shape": self.shape,
            "task": self.task,
            "rows": self.rows,
            "lines": self.lines,
            "bytes": self.bytes,
            "prompt_format": self.prompt_format.to_dict() if self.prompt_format else None,
            "tokens": {
                "encoding": self.encoding,
                "limit": self.token_limit,
                "total": self.tokens,
                "longest_row": self.longest_row,
            },
            "ok": self.ok,
            "counts": counts,
            "findings": [finding.to_dict() for finding in self.findings],
        }

    def to_json(self, indent: int | None = 2) -> str:
        """Return the report as JSON, in ASCII, so that it survives every terminal and pipe."""
        return json.dumps(self.to_dict(), indent=indent, ensure_ascii=True)

    def to_text(self, width: int = 80, *, colour: bool = False) -> str:
        """Return the report for a terminal."""
        from .text import to_text  # noqa: PLC0415 - as needed

        return to_text(self, width, colour=colour)

    def to_markdown(self) -> str:
        """Return the report as Markdown."""
        from .markdown import to_markdown  # noqa: PLC0415

        return to_markdown(self)

    def to_sarif(self) -> dict[str, Any]:
        """Return the report as a SARIF 2.1.0 log, for code-scanning tools."""
        from .sarif import to_sarif  # noqa: PLC0415

        return to_sarif(self)

    def __str__(self) -> str:
        """Return the report for a terminal without colour."""
        return self.to_text()

    def _repr_html_(self) -> str:
        """Return the report for a notebook."""
        from .html import to_html  # noqa: PLC0415

        return to_html(self)


def _order(finding: Finding) -> tuple[int, int, int, str]:
    first = finding.examples[0].line if finding.examples else 0
    return _RANK[finding.severity], not finding.examples, first, finding.id


set_public_module(globals(), "tunesmith.datasets")
