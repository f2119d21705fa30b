"""What a check goes by: settled once, before the first row, and the same in every process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tunesmith.datasets.prompt_format import PromptFormat
    from tunesmith.datasets.rows import RowFormat
    from tunesmith.datasets.task import Task

__all__ = ["Settings"]


@dataclass(frozen=True, slots=True)
class Settings:
    """How to check a data set.

    Attributes:
        shape: Shape that the rows should have.
        max_examples: Locations to keep for each finding; 0 for all.
        prompt_format: The format that prompt/completion rows are held against, or None for
            other shapes.
        format_given: Whether the user named it; else it was found in a sample of the rows.
        task: The task, given or found in the sample; None for other shapes.
        token_limit: Tokens that a row may have, or None for no limit.
        encoding: The vocabulary in which tokens are counted.
        count_tokens: Whether to count the tokens of every row.
        sampled: Rows in the sample.
    """

    shape: RowFormat
    max_examples: int = 5
    prompt_format: PromptFormat | None = None
    format_given: bool = False
    task: Task | None = None
    token_limit: int | None = None
    encoding: str = "r50k_base"
    count_tokens: bool = False
    sampled: int = 0
