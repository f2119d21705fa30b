"""Check the real data sets before and after the proposed plan, and print the table of the docs.

python scripts/fetch_datasets.py FOLDER
python scripts/findings_of_datasets.py FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

from tunesmith import datasets

PROFILE = "openai"


def describe(report: datasets.Report) -> str:
    """Return the findings of a report as a table cell."""
    found = [f"`{finding.id}` {finding.count:,}" for finding in report.findings]
    return ", ".join(found) or "none"


def main() -> None:
    """Print a row for each table in the folder."""
    folder = Path(sys.argv[1])
    print(
        "| data set | rows | task | findings | prompt format of the plan | rows after | findings |"
    )
    print("|---|---:|---|---|---|---:|---|")
    for path in sorted(folder.glob("*.csv")):
        dataset = datasets.read(path)
        before = dataset.check(PROFILE)
        plan = dataset.plan()
        after = plan.apply().check(PROFILE)
        form = plan.format
        parts = (form.separator, form.leading_whitespace, form.stop) if form else ()
        parts_cell = " · ".join(f"`{part!r}`" for part in parts)
        cells = [path.stem, f"{before.rows:,}", before.task or "", describe(before), parts_cell]
        print(f"| {' | '.join(cells)} | {after.rows:,} | {describe(after)} |", flush=True)


if __name__ == "__main__":
    main()
