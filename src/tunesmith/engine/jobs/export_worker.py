"""The process that makes one export: writes the model, compares it, packs it into an archive.

It stores its progress and its end in the database, under the attempt that it was started for.
Its standard input belongs to the server that started it: when that ends, so does this process,
with what it has started. What it says to users names no path of this machine.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import shutil
import signal
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tunesmith.engine.domain.exhausted import DISK_FULL, is_disk_full, is_out_of_memory
from tunesmith.engine.home import Home
from tunesmith.engine.store import export_queries
from tunesmith.engine.store.database import Database
from tunesmith.errors import TunesmithError

from .launcher import DATABASE_VARIABLE, lower_priority
from .model_names import export_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tunesmith.engine.store.records import ExportRow
    from tunesmith.engine.transfer import Archive, ExportReport

__all__ = ["ARCHIVE", "main", "out_of_memory_message"]

ARCHIVE = "archive.tar"
"""Name of the archive in an export's folder."""

_log = logging.getLogger("tunesmith.engine.exports")


def main(arguments: Sequence[str] | None = None) -> int:
    """Make one export; return the exit status, which says nothing that the database does not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", required=True, type=Path)
    parser.add_argument("--attempt", required=True, type=int)
    parser.add_argument("--keep-hours", required=True, type=float)
    parser.add_argument("organization")
    parser.add_argument("export_id")
    options = parser.parse_args(arguments)
    os.umask(0o077)
    lower_priority()
    threading.Thread(target=_end_with_server, daemon=True).start()
    home = Home(options.home)
    with contextlib.closing(Database(os.environ[DATABASE_VARIABLE])) as database:
        with database.read() as connection:
            row = export_queries.get(connection, options.organization, options.export_id)
        if row is not None and row.attempts == options.attempt:
            _Worker(home, database, row, options.keep_hours * 3600).run()
    return 0


def _end_with_server() -> None:
    """End this process and those that it has started when the server's end of the pipe closes."""
    with contextlib.suppress(OSError):
        while os.read(0, 1024):
            pass
    if hasattr(os, "killpg"):
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os._exit(1)


class _TakenError(Exception):
    """The export was cancelled or deleted, or belongs to a later attempt."""


@dataclass(slots=True)
class _Worker:
    """Makes one export."""

    home: Home
    database: Database
    row: ExportRow
    kept_seconds: float
    steps: int = 1
    done: int = 0

    def run(self) -> None:
        """Make the export and record how it ended."""
        try:
            report, archive = self._make()
        except _TakenError:
            return
        except Exception as error:  # noqa: BLE001 - whatever it is, the export must end
            self._fail(error)
            return
        with self.database.write() as connection:
            export_queries.end(
                connection,
                self.row,
                "succeeded",
                time.time() + self.kept_seconds,
                progress=1.0,
                filename=f"{self._name}.tar",
                bytes=archive.bytes,
                sha256=archive.sha256,
                comparison=_comparison(report),
            )

    @property
    def _name(self) -> str:
        return export_name(self.row.model, self.row.format)

    def _make(self) -> tuple[ExportReport, Archive]:
        from tunesmith.engine.transfer import (  # noqa: PLC0415 - torch
            export_model,
            find_model,
            number_of_steps,
            write_archive,
        )

        row, folder = self.row, self.home.exports / self.row.id
        export_format, quantization = cast("Any", row.format), cast("Any", row.quantization)
        packing = 1
        self.steps = packing + number_of_steps(export_format, quantization, compare=row.compare)
        work = folder / "work"
        shutil.rmtree(work, ignore_errors=True)
        (folder / ARCHIVE).unlink(missing_ok=True)
        report = export_model(
            find_model(row.model, self.home, self.database),
            work / self._name,
            export_format,
            self.home,
            quantization=quantization,
            with_base=row.with_base,
            compare=row.compare,
            names_paths=False,
            progress=self._report,
        )
        self._report("packing the files")
        archive = write_archive(report.folder, folder / ARCHIVE, self._name)
        shutil.rmtree(work, ignore_errors=True)
        return report, archive

    def _report(self, step: str) -> None:
        """Store what begins now.

        Raises:
            _TakenError: The export is no longer this process's.
        """
        with self.database.write() as connection:
            if not export_queries.report(connection, self.row, step, self.done / self.steps):
                raise _TakenError
        self.done += 1

    def _fail(self, error: Exception) -> None:
        folder = self.home.exports / self.row.id
        shutil.rmtree(folder / "work", ignore_errors=True)
        (folder / ARCHIVE).unlink(missing_ok=True)
        with self.database.write() as connection:
            export_queries.end(
                connection,
                self.row,
                "failed",
                time.time() + self.kept_seconds,
                error=_failure(error, self.home),
            )


def _failure(error: Exception, home: Home) -> dict[str, str]:
    """Return what users are told of an error."""
    if is_disk_full(error):
        return {"code": "disk_full", "message": DISK_FULL}
    if is_out_of_memory(error):
        return {"code": "out_of_memory", "message": out_of_memory_message()}
    if isinstance(error, TunesmithError):
        return {"code": "export_failed", "message": _without_paths(str(error), home)}
    _log.exception("an export failed")
    message = "The export failed for a reason that is in the engine's log on its machine."
    return {"code": "internal_error", "message": message}


def out_of_memory_message() -> str:
    """Return what users are told where the memory did not suffice."""
    return (
        "The engine's machine has not enough memory for this export, which computes in float32: 4 "
        "bytes for each parameter of the model. Try again while no training runs, or export the "
        "adapter without the comparison."
    )


def _without_paths(message: str, home: Home) -> str:
    for path in {str(home.root.resolve()), str(home.root)}:
        message = message.replace(path, "the engine's folder")
    return message


def _comparison(report: ExportReport) -> dict[str, Any] | None:
    found = report.difference
    if found is None:
        return None
    return {
        "divergence": found.divergence,
        "largest_logit_difference": found.largest,
        "same_top_token": found.same_top,
        "positions": found.positions,
        "effect_of_fine_tuning": report.effect,
    }


if __name__ == "__main__":
    sys.exit(main())
