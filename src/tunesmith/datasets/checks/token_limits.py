"""Whether each row is within the token limit, exactly; and the total of all tokens on request.

A token stands for at least one byte, so a row with no more bytes of text than the limit is
within it: only longer rows are tokenized. `tokens.conversations` says what counts in a chat row.
"""

from __future__ import annotations

from itertools import islice
from operator import add
from typing import TYPE_CHECKING, Any, Final

from tunesmith.datasets.findings import LocationCounter
from tunesmith.datasets.rules import make_finding
from tunesmith.datasets.tokens.conversations import TOKENS_PER_ROW, message_texts, tool_texts
from tunesmith.datasets.tokens.model_encodings import ENCODINGS
from tunesmith.datasets.tokens.vocabulary import MAX_TOKEN_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tunesmith.datasets.findings import Finding
    from tunesmith.datasets.rows import RowFormat
    from tunesmith.datasets.tokens import Encoder

    from .base import CheckedData, ValidRows
    from .settings import CheckSettings

__all__ = ["TokenLimits", "texts_of"]

_BYTES_PER_CHARACTER: Final = 4


class TokenLimits:
    """Rows over the limit, and the total of all tokens where they are counted."""

    def __init__(self, settings: CheckSettings) -> None:
        self.settings = settings
        self.limit: int | None = settings.token_limit
        self.over: LocationCounter = LocationCounter(settings.max_examples)
        self.tokens: int = 0
        self.longest: int = 0

    def observe(self, rows: ValidRows) -> None:
        """See `Check.observe`."""
        if self.settings.count_tokens:
            if rows.row_format == "prompt_completion":
                self._count_pairs(rows)
            else:
                self._count(rows, range(len(rows)))
            return
        if self.limit is None:
            return
        if rows.row_format == "prompt_completion" and self._all_short(rows):
            return
        sizes = rows.sizes()
        if sizes is None:
            self._count(rows, range(len(rows)), only_if_long=True)
        elif max(sizes, default=0) > (certain := self._certain_size(rows.row_format)):
            suspects = [i for i in range(len(rows)) if sizes[i] > certain]
            self._count(rows, suspects, only_if_long=True)

    def _certain_size(self, row_format: RowFormat) -> int:
        """Return the bytes of a line up to which a row is within the limit.

        A tool is counted with the spaces of JSON, which the line may do without: at most one for
        each of its bytes.
        """
        limit = self.limit or 0
        return limit if row_format == "prompt_completion" else limit // 2

    def _all_short(self, rows: ValidRows) -> bool:
        longest = max(map(len, rows.prompts)) + max(map(len, rows.completion_counts))
        return _BYTES_PER_CHARACTER * longest <= (self.limit or 0)

    def _count(
        self, rows: ValidRows, indices: Iterable[int], *, only_if_long: bool = False
    ) -> None:
        counted: list[int] = []
        extras: list[int] = []
        sizes: list[int] = []
        texts: list[str] = []
        for index in indices:
            row_texts, extra = texts_of(rows.values[index], rows.row_format)
            if only_if_long and self._fits_by_length(row_texts, extra):
                continue
            if only_if_long and self._exceeds_by_length(rows, index, row_texts):
                continue
            counted.append(index)
            extras.append(extra)
            sizes.append(len(row_texts))
            texts += row_texts
        if counted:
            counts = iter(self._encoder().count_batch(texts))
            totals = [sum(islice(counts, size)) for size in sizes]
            self._add(rows, counted, list(map(add, totals, extras)))

    def _count_pairs(self, rows: ValidRows) -> None:
        count = self._encoder().count_batch
        distinct = list(rows.completion_counts)
        completions = dict(zip(distinct, count(distinct), strict=True))
        totals = map(add, count(rows.prompts), map(completions.__getitem__, rows.completions))
        self._add(rows, range(len(rows)), list(totals))

    def _add(self, rows: ValidRows, indices: Sequence[int], totals: list[int]) -> None:
        self.tokens += sum(totals)
        self.longest = max(self.longest, *totals)
        if self.limit is None or self.longest <= self.limit:
            return
        for index, total in zip(indices, totals, strict=True):
            if total > self.limit:
                message = f"{total:,} tokens, {total - self.limit:,} more than {self.limit:,}"
                self.over.add(rows.location(index, "", message))

    def _encoder(self) -> Encoder:
        from tunesmith.datasets import tokens  # noqa: PLC0415 - loads a vocabulary

        return tokens.encoder(self.settings.encoding)

    def _fits_by_length(self, texts: list[str], extra: int) -> bool:
        available = (self.limit or 0) - extra
        if _BYTES_PER_CHARACTER * sum(map(len, texts)) <= available:
            return True
        return sum(len(text.encode("utf-8", "surrogatepass")) for text in texts) <= available

    def _exceeds_by_length(self, rows: ValidRows, index: int, texts: list[str]) -> bool:
        """Count a row as too long where its characters alone prove that; no token is counted."""
        length = sum(map(len, texts))
        fewest = -(-length // MAX_TOKEN_BYTES)
        if self.limit is None or fewest <= self.limit or self.settings.encoding not in ENCODINGS:
            return False
        message = f"{length:,} characters, at least {fewest:,} tokens; the limit is {self.limit:,}"
        self.over.add(rows.location(index, "", message))
        self.longest = max(self.longest, fewest)
        return True

    def merge(self, following: TokenLimits, lines: int) -> None:
        """See `Check.merge`."""
        self.over.merge(following.over, lines)
        self.tokens += following.tokens
        self.longest = max(self.longest, following.longest)

    def conclude(self, data: CheckedData) -> list[Finding]:
        """See `Check.conclude`."""
        del data
        if not self.over.count:
            return []
        locations = self.over.examples
        first = locations[0].message.partition(" tokens")[0].rpartition(", ")[2]
        first = f"; line {locations[0].line} has {first}"
        limit = f"{self.limit:,} tokens of {self.settings.encoding}"
        return [make_finding("token-limit", self.over, detail=f"the limit is {limit}{first}")]


def texts_of(value: dict[str, Any], row_format: RowFormat) -> tuple[list[str], int]:
    """Return the texts of a row that become tokens, and the number of tokens around them."""
    if row_format == "prompt_completion":
        return [value["prompt"], value["completion"]], 0
    if row_format == "preference":
        given = value["input"]
        texts, extra = message_texts(given["messages"])
        outputs = [
            message_texts(value[name]) for name in ("preferred_output", "non_preferred_output")
        ]
        longest = max(outputs, key=lambda output: sum(map(len, output[0])))
        texts, extra = texts + longest[0], extra + longest[1]
    else:
        given = value
        texts, extra = message_texts(value["messages"])
    return texts + tool_texts(given), extra + TOKENS_PER_ROW
