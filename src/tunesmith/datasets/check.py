"""Check a data set: `check_file` and `profile` for a file, `check_source` for rows from anywhere.

One pass reads the source, in this process, in several, or on Ray. Which checks there are is not
known here: see `checks.check_run`.
"""

from __future__ import annotations

import os
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from .check_options import CheckOptions
from .checks.check_run import CheckRun
from .checks.file_checks import destination_findings, file_findings, row_count_findings
from .checks.settings import resolve_settings
from .dataset_errors import DatasetError, UnreadableError
from .destinations import destination_named
from .findings import LocationCounter
from .readers import open_path
from .readers.batch import FileSource
from .readers.json_lines import JsonLines
from .report import Report
from .rules import make_finding

if TYPE_CHECKING:
    from collections.abc import Callable

    from .checks.settings import CheckSettings
    from .destinations import Destination
    from .prompt_format import PromptFormat
    from .readers import Source
    from .rows import RowFormat


__all__ = ["check_file", "check_source", "profile"]


def check_file(
    path: str | os.PathLike[str],
    profile: str | Destination = "engine",
    *,
    shape: RowFormat | None = None,
    prompt_format: PromptFormat | None = None,
    model: str | None = None,
    max_examples: int = 5,
    count_tokens: bool = False,
    near_duplicates: bool = False,
    workers: int = 1,
    format: str | None = None,  # noqa: A002 - the word
    encoding: str | None = None,
    sheet: str | None = None,
) -> Report:
    """Check a file the way its destination will read it.

    The file is streamed, so memory does not grow with it. Bad data never raises: a file that
    cannot be read at all is a finding, too.

    Args:
        path: The file. Other formats than JSONL are checked, too, with the error `file-format`.
        profile: Destination of the data: a name from `PROFILES`, or a `Profile`.
        shape: Shape that the rows should have; detected by default.
        prompt_format: Format that prompt/completion rows should follow; inferred by default.
        model: Model to be trained; sets token limit and encoding where the destination knows it.
        max_examples: Locations to keep for each finding; 0 for all.
        count_tokens: Whether to count the tokens of every row.
        near_duplicates: Whether to look for rows that are almost the same; takes longer, and
            about 3 KB of memory a row.
        workers: Processes that check ranges of the file in parallel.
        format: See `datasets.read`.
        encoding: See `datasets.read`.
        sheet: See `datasets.read`.

    Returns:
        The report; `report.ok` says whether the file can be used.

    Raises:
        DatasetError: The profile is unknown.
    """
    options = CheckOptions(
        destination=destination_named(profile),
        row_format=shape,
        prompt_format=prompt_format,
        model=model,
        max_examples=max_examples,
        count_tokens=count_tokens,
        near_duplicates=near_duplicates,
        workers=workers,
    )
    opening = partial(open_path, format=format, encoding=encoding, sheet=sheet)
    return _check_path(Path(path), options, opening)


def profile(
    path: str | os.PathLike[str],
    *,
    engine: str = "local",
    workers: int | None = None,
    destination: str | Destination = "engine",
    shape: RowFormat | None = None,
    model: str | None = None,
    max_examples: int = 5,
    count_tokens: bool = True,
) -> Report:
    """Check a large file and count its tokens, on all processors.

    The findings are those of `check_file`, with either engine.

    Args:
        path: The file; JSONL is divided into ranges, other formats are read by one process.
        engine: "local" for processes on this machine, "ray" for Ray Data: the connected
            cluster, or a local one.
        workers: Processes, or ranges for Ray; default: as many as suit the machine.
        destination: Destination of the data: a name from `PROFILES`, or a `Profile`.
        shape: Shape that the rows should have; detected by default.
        model: Model to be trained; sets token limit and encoding where the destination knows it.
        max_examples: Locations to keep for each finding; 0 for all.
        count_tokens: Whether to count the tokens of every row.

    Raises:
        DatasetError: The engine or the destination is unknown, or Ray is not installed.
    """
    options = CheckOptions(
        destination=destination_named(destination),
        row_format=shape,
        model=model,
        max_examples=max_examples,
        count_tokens=count_tokens,
        workers=workers or os.cpu_count() or 1,
        executor=engine,
        partitions=workers,
    )
    return _check_path(Path(path), options)


def _check_path(
    path: Path, options: CheckOptions, opening: Callable[[Path], Source] = open_path
) -> Report:
    destination = options.destination
    try:
        source = opening(path)
        report = check_source(source, options)
        report.findings += file_findings(path, source.format, destination)
    except (UnreadableError, OSError) as error:
        report = Report(str(path), destination.name, options.row_format or "prompt_completion")
        report.findings = [
            make_finding("file-unreadable", LocationCounter(1, 1), detail=str(error))
        ]
    report.sort()
    return report


def check_source(source: Source, options: CheckOptions) -> Report:
    """Check the rows of a source, which is read once.

    Raises:
        DatasetError: The destination is unknown.
        UnreadableError: The source cannot be read at all.
    """
    settings, run = _run_checks(source, options)
    destination = options.destination
    report = Report(
        name=source.name,
        profile=destination.name,
        shape=settings.row_format,
        rows=run.validator.rows,
        lines=run.validator.lines,
        bytes=source.size,
        task=settings.task,
        prompt_format=settings.prompt_format,
        encoding=settings.encoding if settings.token_limit or settings.count_tokens else None,
        token_limit=settings.token_limit,
    )
    if settings.count_tokens:
        report.tokens, report.longest_row = run.tokens.tokens, run.tokens.longest
    report.findings = run.conclude(destination.severities, _path_of_lines(source))
    report.findings += row_count_findings(report, destination)
    if report.rows:
        report.findings += destination_findings(destination, settings.row_format, options.model)
    report.sort()
    return report


def _run_checks(source: Source, options: CheckOptions) -> tuple[CheckSettings, CheckRun]:
    """Observe all rows: here, in processes that share the file, or on Ray."""
    if options.executor not in {"local", "ray"}:
        raise DatasetError(f"Unknown engine {options.executor!r}: choose 'local' or 'ray'.")
    if not isinstance(source, JsonLines) or (options.executor == "local" and options.workers <= 1):
        settings, batches = resolve_settings(source, options)
        with closing(batches):
            return settings, CheckRun(settings).observe(batches)
    from .parallel import WorkerPool, check_on_ray  # noqa: PLC0415 - loads what processes need

    if options.executor == "ray":
        settings, batches = resolve_settings(source, options)
        batches.close()
        return settings, check_on_ray(source.path, settings, options.partitions)
    with WorkerPool(source.path, options.workers) as workers:
        settings, batches = resolve_settings(source, options)
        if not workers.processes:
            return settings, CheckRun(settings).observe(batches)
        batches.close()
        return settings, workers.check(settings)


def _path_of_lines(source: Source) -> Path | None:
    """Return the file whose lines the rows are, if there is one."""
    if isinstance(source, FileSource) and source.rows_are_lines:
        return source.path
    return None
