"""Run the notebooks from their first cell to their last, and keep what they show.

    python scripts/run_notebooks.py [NAME ...]

Runs those named (default: all of docs/notebooks) on a real engine: the one that
TUNESMITH_BASE_URL names, else one that is started here with the default base model, which is
downloaded if need be. Outputs are written back into the notebooks once all cells have run;
a cell that fails ends the run and leaves its notebook as it was.

`--quick` is for tests: the values in a notebook's metadata ("tunesmith", "quick") take the place
of those in its cell tagged "parameters", so that it runs in seconds on a tiny model.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

if TYPE_CHECKING:
    from collections.abc import Iterator

NOTEBOOKS = Path(__file__).parents[1] / "docs" / "notebooks"
CELL_SECONDS = 1800
BASE_MODEL = "smollm2-135m-instruct"


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="such as classification.ipynb")
    parser.add_argument("--folder", type=Path, default=NOTEBOOKS, help="where the notebooks are")
    parser.add_argument("--quick", action="store_true", help="few rows and steps, for tests")
    arguments = parser.parse_args()
    names = arguments.names or sorted(path.name for path in arguments.folder.glob("*.ipynb"))
    with engine_address():
        for name in names:
            started = time.monotonic()
            run(arguments.folder / name, quick=arguments.quick)
            print(f"{name}: {time.monotonic() - started:.0f} s", flush=True)


@contextlib.contextmanager
def engine_address() -> Iterator[None]:
    """Have TUNESMITH_BASE_URL name an engine while the block lasts."""
    if os.environ.get("TUNESMITH_BASE_URL"):
        yield
        return
    from tunesmith import engine  # noqa: PLC0415 - a running engine needs no second one
    from tunesmith.engine.models.pull import pull  # noqa: PLC0415

    home = engine.Home.from_environment()
    pull(BASE_MODEL, home)
    with engine.start(home=home.root) as server:
        os.environ["TUNESMITH_BASE_URL"] = server.base_url
        yield


def run(path: Path, *, quick: bool = False) -> None:
    """Run a notebook in its own folder and write it back with its outputs.

    Raises:
        SystemExit: A cell failed; its traceback has been printed.
    """
    notebook = nbformat.read(path, as_version=4)
    if quick:
        set_quick_values(notebook)
    client = NotebookClient(
        notebook,
        timeout=CELL_SECONDS,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(path.parent)}},
    )
    try:
        client.execute()
    except CellExecutionError as error:
        sys.exit(f"{path.name}: {error}")
    # What the kernel tells of itself changes with each Python and says nothing.
    notebook.metadata.language_info = {"name": "python"}
    nbformat.write(notebook, path)


def set_quick_values(notebook: nbformat.NotebookNode) -> None:
    """Append the quick values to the cell of parameters."""
    values = notebook.metadata["tunesmith"]["quick"]
    cell = next(cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    cell.source += "".join(f"\n{name} = {value!r}" for name, value in values.items())


if __name__ == "__main__":
    main()
