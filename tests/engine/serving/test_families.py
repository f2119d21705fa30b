"""Every family of models trains and answers as plain transformers and PEFT compute it.

The first step's loss, the trained adapter in PEFT, scored prompts and greedy answers, alone and
in batches that mix base, adapters and whole weights, differ by 1e-4 at most in float32. The page
of families says by which path each is run, and is checked here.

`python tests/engine/serving/test_families.py` writes the page's table anew.
"""

from __future__ import annotations

import re
import sys
import tempfile
import warnings
from pathlib import Path

import pytest

from families import FAMILIES, write_family

PAGE = Path(__file__).parents[3] / "docs/guides/families.md"
TOLERANCE = 1e-4
TABLE = re.compile(r"(?<=\| --- \| --- \| --- \| --- \|\n)(?:\|.*\n)*")


@pytest.fixture
def base(request, tiny_base_model, tmp_path):
    return write_family(request.param, tmp_path / request.param, tiny_base_model)


@pytest.mark.filterwarnings("ignore")  # transformers and PEFT warn of their own changes
@pytest.mark.parametrize(
    ("family", "base"), [(name, name) for name in sorted(FAMILIES)], indirect=["base"]
)
def test_a_family_is_right(family, base, tmp_path):
    from family_truth import measure, table_row

    truth = measure(base, tmp_path)
    assert truth.worst <= TOLERANCE, truth.differences
    assert table_row(family, truth) in PAGE.read_text("utf-8").splitlines()


def test_the_page_has_every_family():
    rows = TABLE.search(PAGE.read_text("utf-8")).group().splitlines()
    assert [row.split(" | ")[0].removeprefix("| ") for row in rows] == sorted(FAMILIES)
    assert len(rows) >= 40


def _write_table() -> None:
    from family_truth import measure, table_row
    from tunesmith.testing import write_tiny_model

    warnings.simplefilter("ignore")
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tiny = write_tiny_model(folder / "tiny")
        for family in sorted(FAMILIES):
            truth = measure(write_family(family, folder / family, tiny), folder / f"{family}-run")
            rows.append(table_row(family, truth) + "\n")
            print(f"{truth.worst:.0e}", rows[-1], end="", flush=True)  # noqa: T201
    text = TABLE.sub(lambda _found: "".join(rows), PAGE.read_text("utf-8"))
    PAGE.write_text(text, "utf-8")


if __name__ == "__main__":
    sys.path.insert(0, str(PAGE.parents[2] / "tests/support"))
    _write_table()
