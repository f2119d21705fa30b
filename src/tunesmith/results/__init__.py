"""What a finished job leaves behind: its result file as typed rows, a summary, a comparison, plots.

    results = tunesmith.results.read("results.csv")     # or parse(client.files.content(id).read())
    print(results.summary())
    results.plot("curves.png")

Reading needs nothing beyond the core; plots need the `plots` extra, `to_pandas`
and `to_polars` the library that they name.
"""

from __future__ import annotations

from .compare import Comparison, compare
from .errors import ResultFileError
from .summary import Summary
from .table import ResultRow, Results, parse, read

__all__ = [
    "Comparison",
    "ResultFileError",
    "ResultRow",
    "Results",
    "Summary",
    "compare",
    "parse",
    "read",
]
