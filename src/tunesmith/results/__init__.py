"""The result file of a finished job: typed rows, a summary, a comparison of jobs, plots.

    results = tunesmith.results.read("results.csv")     # or parse(client.files.content(id).read())
    print(results.summary())
    results.plot("curves.png")

Reading needs no extra; plots need the `plots` extra, `to_pandas` and `to_polars` the
library of that name.
"""

from __future__ import annotations

from .compare import Comparison, compare
from .rows import ResultRow
from .summary import Summary
from .table import ResultFileError, Results, parse, read

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
