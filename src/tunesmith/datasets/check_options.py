"""The options of a check, in one object.

The public functions spell their options out as keywords, build a `CheckOptions` once, and pass it
on; nothing below them takes the options one by one. What the data decides, such as the prompt
format or the task, is not an option: see `checks.settings`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .destinations import DESTINATIONS, Destination
from .prompt_format import PromptFormat, require_prompt_format

if TYPE_CHECKING:
    from .rows import RowFormat

__all__ = ["CheckOptions"]


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """What to check, against what, and how.

    Attributes:
        destination: Where the data goes.
        row_format: Format that the rows should have; None to detect it.
        prompt_format: Format that prompt/completion rows should follow; None to infer it.
        model: Model to be trained; sets token limit and encoding where the destination knows it.
        max_examples: Locations to keep for each finding; 0 for all.
        count_tokens: Whether to count the tokens of every row.
        near_duplicates: Whether to look for rows that are almost the same; takes longer, and
            about 3 KB of memory a row.
        workers: Processes that check ranges of a JSONL file in parallel.
        executor: "local" for processes on this machine, "ray" for Ray Data.
        partitions: Ranges into which Ray divides the file; None to choose by the cluster.
    """

    destination: Destination = DESTINATIONS["engine"]
    row_format: RowFormat | None = None
    prompt_format: PromptFormat | None = None
    model: str | None = None
    max_examples: int = 5
    count_tokens: bool = False
    near_duplicates: bool = False
    workers: int = 1
    executor: str = "local"
    partitions: int | None = None

    def __post_init__(self) -> None:
        require_prompt_format(self.prompt_format)
