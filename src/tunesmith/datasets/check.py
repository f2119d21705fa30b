"""Run all checks on a source and report: `check_source`, and `check_file` for a file as it is."""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith.datasets import readers
from tunesmith.datasets.check_options import CheckOptions
from tunesmith.datasets.checks import sample as samples
from tunesmith.datasets.checks.counts import count_findings, file_findings
from tunesmith.datasets.checks.examination import Examination
from tunesmith.datasets.checks.near import near_duplicate_findings
from tunesmith.datasets.checks.sampled import sampled_findings
from tunesmith.datasets.checks.settings import Settings
from tunesmith.datasets.dataset_errors import DatasetError, UnreadableError
from tunesmith.datasets.destinations import destination_named
from tunesmith.datasets.findings import LocationCounter
from tunesmith.datasets.readers.delimited import Delimited, PlainText
from tunesmith.datasets.readers.json_lines import JsonLines
from tunesmith.datasets.report import Report
from tunesmith.datasets.rules import make_finding

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from tunesmith.datasets.destinations import Destination, TokenLimit
    from tunesmith.datasets.parallel import Team
    from tunesmith.datasets.prompt_format import PromptFormat
    from tunesmith.datasets.readers import Source
    from tunesmith.datasets.rows import RowFormat

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
) -> Report:
    """Check a file as it is, the way its destination will read it.

    The file is streamed: memory does not grow with it. Bad data never raises; a file that cannot
    be read at all is a finding, too.

    Args:
        path: The file. What is not JSONL is checked and gets the error `file-format`.
        profile: Where the data goes: a name from `PROFILES`, or a profile.
        shape: Shape that the rows should have; found out without it.
        prompt_format: Format to hold prompt/completion rows against; found out without it.
        model: Model to be trained; decides token limit and encoding where the profile knows it.
        max_examples: Locations to keep for each finding; 0 for all.
        count_tokens: Whether to count the tokens of every row.
        near_duplicates: Whether to look for rows that are almost the same; takes longer, and
            256 bytes of memory a row.
        workers: Processes that read ranges of the file side by side.

    Returns:
        The report; `report.ok` tells whether the file can be used.

    Raises:
        DatasetError: The profile is not known.
    """
    options = CheckOptions(
        destination=profile,
        shape=shape,
        prompt_format=prompt_format,
        model=model,
        max_examples=max_examples,
        count_tokens=count_tokens,
        near_duplicates=near_duplicates,
        workers=workers,
    )
    return _check_path(Path(path), options)


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
    """Check a large file and count its tokens, on as many processors as there are.

    The findings are those of `check_file`, whatever the engine.

    Args:
        path: The file; JSONL is divided, other formats are read by one process.
        engine: "local" for processes on this machine, "ray" for Ray Data: the cluster that is
            connected, or a local one.
        workers: Processes, or parts for Ray; without it, as many as suit the machine.
        destination: Where the data goes: a name from `PROFILES`, or a profile.
        shape: Shape that the rows should have; found out without it.
        model: Model to be trained; decides token limit and encoding where the profile knows it.
        max_examples: Locations to keep for each finding; 0 for all.
        count_tokens: Whether to count the tokens of every row.

    Raises:
        DatasetError: The engine or the profile is not known, or Ray is not installed.
    """
    options = CheckOptions(
        destination=destination,
        shape=shape,
        model=model,
        max_examples=max_examples,
        count_tokens=count_tokens,
        workers=workers or os.cpu_count() or 1,
        executor=engine,
        partitions=workers,
    )
    return _check_path(Path(path), options)


def _check_path(path: Path, options: CheckOptions) -> Report:
    destination = destination_named(options.destination)
    try:
        source = readers.source_of_path(path)
        report = check_source(source, options)
        report.findings += file_findings(path, source.format, destination)
    except (UnreadableError, OSError) as error:
        report = Report(str(path), destination.name, options.shape or "prompt_completion")
        report.findings = [
            make_finding("file-unreadable", LocationCounter(1, 1), detail=str(error))
        ]
    report.sort()
    return report


def check_source(source: Source, options: CheckOptions) -> Report:
    """Check the rows of a source.

    Raises:
        DatasetError: The profile is not known.
        UnreadableError: The source cannot be read at all.
    """
    destination = destination_named(options.destination)
    with _team(source, options) as team:
        settings = _settle(source, options, destination)
        examination = _examine(source, settings, options, team)
    path = _path_of_lines(source)
    report = Report(
        name=source.name,
        profile=destination.name,
        shape=settings.shape,
        rows=examination.rules.rows,
        lines=examination.rules.lines,
        bytes=source.size,
        task=settings.task,
        prompt_format=settings.prompt_format,
        encoding=settings.encoding if settings.token_limit or settings.count_tokens else None,
        token_limit=settings.token_limit,
    )
    if options.count_tokens:
        report.tokens = examination.token_counts.tokens
        report.longest_row = examination.token_counts.longest
    report.findings = examination.conclude(destination, path)
    if not any(finding.id == "leading-whitespace" for finding in report.findings):
        # Without a space before completions the boundary moves for that reason alone.
        report.findings += sampled_findings(source, settings)
    if options.near_duplicates:
        report.findings += near_duplicate_findings(source, options.max_examples)
    report.findings += count_findings(report, destination)
    report.sort()
    return report


def _path_of_lines(source: Source) -> Path | None:
    """Return the file whose lines the rows are, if there is one."""
    return source.path if isinstance(source, JsonLines | Delimited | PlainText) else None


def _settle(source: Source, options: CheckOptions, destination: Destination) -> Settings:
    sample = samples.sample_of(source)
    shape = options.shape or samples.row_format_of_sample(sample)
    limit = destination.token_limit(shape, options.model)
    prompt_format, task = options.prompt_format, None
    if shape == "prompt_completion":
        inference = samples.infer(sample)
        if inference is not None:
            task = inference.task
            prompt_format = prompt_format or inference.format
    return Settings(
        shape=shape,
        max_examples=options.max_examples,
        prompt_format=prompt_format,
        format_given=options.prompt_format is not None,
        task=task,
        token_limit=limit.tokens if limit else None,
        encoding=_encoding(limit, options.model),
        count_tokens=options.count_tokens,
        sampled=len(sample),
    )


def _encoding(limit: TokenLimit | None, model: str | None) -> str:
    if limit is not None:
        return limit.encoding
    if model is None:
        return "r50k_base"
    from tunesmith.datasets import tokens  # noqa: PLC0415 - as needed

    try:
        return tokens.encoding_for_model(model)
    except tokens.UnknownEncodingError:
        return "r50k_base"


def _team(source: Source, options: CheckOptions) -> AbstractContextManager[Team | None]:
    """Start the processes that will share the file, if there are to be any."""
    if options.executor not in {"local", "ray"}:
        raise DatasetError(f"Unknown engine {options.executor!r}: choose 'local' or 'ray'.")
    if options.executor == "ray" or options.workers < 2 or not isinstance(source, JsonLines):  # noqa: PLR2004
        return nullcontext()
    from tunesmith.datasets.parallel import Team  # noqa: PLC0415 - it loads what processes need

    return Team(source.path, options.workers)


def _examine(
    source: Source, settings: Settings, options: CheckOptions, team: Team | None
) -> Examination:
    if team is not None:
        return team.examine(settings)
    if isinstance(source, JsonLines) and options.executor == "ray":
        from tunesmith.datasets.parallel import examine_on_ray  # noqa: PLC0415 - as needed

        return examine_on_ray(source.path, settings, options.partitions)
    return Examination.start(settings).observe(source.batches())
