"""The steps of the quickstart, in order, reported on stdout.

It can be interrupted at any point and run again: downloads are kept, files of the same
content are not uploaded twice, and an unfinished job is followed to its end.
"""

from __future__ import annotations

import textwrap
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunesmith.cli.api.follow import INTERRUPTED
from tunesmith.cli.output import table
from tunesmith.cli.progress_bar import progress_bar
from tunesmith.cli.training_files import resolve_file
from tunesmith.datasets import PromptFormat
from tunesmith.errors import TunesmithError
from tunesmith.progress.text import printable
from tunesmith.progress.views import open_view

from .evaluate import Answer, Score, choose, query, score
from .next_steps import next_steps, running_engine
from .prepare import prepare
from .snippet import python_lines
from .tweets import CLASSES, fetch_tweets

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

    from tunesmith.client import Client
    from tunesmith.core.modes import Sync
    from tunesmith.engine.home import Home
    from tunesmith.types.legacy_fine_tunes import FineTune

    from .prepare import Prepared
    from .tweets import Tweet

__all__ = ["Options", "run", "run_steps"]

# No tweet contains "->", so it separates. A class is one token, so it needs no stop sequence.
FORMAT = PromptFormat(separator=" ->", stop="")
SUFFIX = "tweets"
EXAMPLES = 5
# Fewer and larger steps than the default of 0.2 % of the examples: faster on a CPU.
BATCH_SIZE = 8
# The embedded engine takes a seed here too, so that every run gives the same result.
SEED = 1
# Scoring both classes costs several times as much as an answer, so the base model does it for
# these only.
CHOICES = 64


@dataclass(frozen=True, slots=True)
class Options:
    """The options of the command.

    Attributes:
        home: The engine's state folder.
        output: Folder for the output files.
        backend: Base URL of a running server; None uses the engine that runs on `home`, or starts
            one there.
        api_key: Key for the server.
        model: Base model, by any name that the server knows.
        n_epochs: Passes over the training data.
    """

    home: Home
    output: Path
    backend: str | None = None
    api_key: str | None = None
    model: str = "ada"
    n_epochs: int = 1


def run(options: Options) -> Score:
    """Download the data, run the steps, and return the fine-tuned model's score.

    Raises:
        TunesmithError: A step failed; the message says which and what to do.
    """
    started = time.monotonic()
    tweets = _fetch(options)
    downloaded = time.monotonic()
    result = run_steps(tweets, options)
    done = time.monotonic()
    print(
        f"Done in {done - started:.0f} s, {downloaded - started:.0f} s of it for downloads. "
        f"The files are in {options.output}."
    )
    return result


def run_steps(tweets: Sequence[Tweet], options: Options) -> Score:
    """Run all steps after the download; return the fine-tuned model's score on held-out tweets."""
    options.output.mkdir(parents=True, exist_ok=True)
    prepared = _prepare(tweets, options)
    with _client(options) as client:
        job = _train(client, prepared, options)
        _show_results(job, options.output)
        result = _compare(client, job, prepared, options.model)
    _show_snippet(prepared, options)
    _heading("Next")
    print(next_steps(options.home, options.backend, str(job.fine_tuned_model), prepared))
    return result


def _heading(text: str) -> None:
    print(f"\n== {text}", flush=True)


def _print_text(text: str) -> None:
    print(textwrap.fill(text, 88, break_on_hyphens=False, break_long_words=False), flush=True)


def _fetch(options: Options) -> list[Tweet]:
    _heading("1. A base model and real data")
    with progress_bar() as report:
        if options.backend is None:
            from tunesmith.engine.models.pull import pull

            base = pull(options.model, options.home, report)
            message = f"Base model {base.id} ({base.license or 'see its card'}), in {base.path}."
        else:
            message = f"The base model is {options.model} of {options.backend}."
        tweets = fetch_tweets(
            options.home.downloads,
            lambda done, total: report("downloading tweets", done, total),
        )
    _print_text(message)
    _print_text(
        f"{len(tweets):,} real tweets with a clear sentiment, as many positive as negative (from "
        "the vaderSentiment package, MIT licence)."
    )
    return tweets


def _prepare(tweets: Sequence[Tweet], options: Options) -> Prepared:
    _heading("2. Prepare")
    prepared = prepare(tweets, options.output, FORMAT)
    _print_text(
        f"{prepared.training_rows:,} rows to train on, {prepared.validation_rows:,} to validate "
        f"with, {len(prepared.held_out):,} held out. Tweets that are nearly the same are on one "
        f"side. Each prompt ends with {FORMAT.separator!r}, each completion starts with a space."
    )
    return prepared


@contextmanager
def _client(options: Options) -> Generator[Client]:
    """Yield a client of the server that is given or runs, or of one that is started here."""
    url = options.backend or running_engine(options.home)
    if url is not None:
        from tunesmith.client import Client

        if options.backend is None:
            _print_text(f"The engine that runs on {options.home.root} is used, at {url}.")
        with Client(options.api_key, base_url=url) as client:
            yield client
        return
    from tunesmith import engine

    with engine.start(home=options.home.root) as server, server.client() as client:
        yield client


def _train(client: Client, prepared: Prepared, options: Options) -> FineTune[Sync]:
    _heading("3. Upload and fine-tune")
    training = resolve_file(client, str(prepared.training))
    validation = resolve_file(client, str(prepared.validation))
    job = _unfinished(client, training) or client.fine_tunes.create(
        training_file=training,
        validation_file=validation,
        model=options.model,
        n_epochs=options.n_epochs,
        batch_size=BATCH_SIZE,
        compute_classification_metrics=True,
        classification_positive_class=FORMAT.format_completion(CLASSES[0]),
        suffix=SUFFIX,
        extra_body={"seed": SEED} if options.backend is None else None,
    )
    print(f"Job {job.id}", flush=True)
    try:
        job.follow(view=open_view())
    except KeyboardInterrupt:
        print()
        _print_interrupted(job, options)
        raise SystemExit(INTERRUPTED) from None
    if job.status != "succeeded":
        message = job.events[-1].message if job.events else "it gave no reason"
        raise TunesmithError(f"Job {job.id} {job.status}: {message}")
    return job


def _unfinished(client: Client, training: str) -> FineTune[Sync] | None:
    """Return the unfinished job of an interrupted run, if there is one."""
    for job in client.fine_tunes.list():
        if not job.is_terminal and [file.id for file in job.training_files] == [training]:
            _print_text("An earlier run left this job unfinished; it continues.")
            return job
    return None


def _print_interrupted(job: FineTune, options: Options) -> None:
    url = running_engine(options.home) if options.backend is None else None
    if url is not None:
        _print_text(
            f"Interrupted. Job {job.id} continues in the engine at {url}. Run the same command "
            f"again to follow it, or cancel it with: tunesmith -b {url} api fine_tunes.cancel "
            f"{job.id}"
        )
    elif options.backend is None:
        _print_text(
            f"Interrupted. Job {job.id} keeps its last checkpoint: run `tunesmith quickstart` "
            "again and it resumes from there."
        )
    else:
        _print_text(
            f"Interrupted. Job {job.id} continues on the server. Run the same command again to "
            f"follow it, or cancel it with: tunesmith -b {options.backend} api fine_tunes.cancel "
            f"-i {job.id}"
        )


def _show_results(job: FineTune[Sync], output: Path) -> None:
    _heading("4. Results")
    results = job.results()
    results.to_csv(output / "results.csv")
    results.plot(output / "curves.png", title=job.fine_tuned_model)
    print(results.summary())
    print(f"Curves: {output / 'curves.png'}   Results: {output / 'results.csv'}")


def _compare(client: Client, job: FineTune, prepared: Prepared, base: str) -> Score:
    _heading(f"5. Base and fine-tuned model on {len(prepared.held_out)} held-out tweets")
    prompts = [prompt for prompt, _ in prepared.held_out]
    labels = [FORMAT.parse_completion(completion) for _, completion in prepared.held_out]
    tuned = str(job.fine_tuned_model)
    answers: dict[str, list[Answer]] = {}
    scores: dict[str, Score] = {}
    with progress_bar() as report:
        for kind, model in (("base", base), ("fine-tuned", tuned)):
            what = f"querying the {kind} model"
            answers[kind] = query(
                client,
                model,
                prompts,
                FORMAT,
                CLASSES,
                progress=lambda done, what=what: report(what, done, len(prompts)),  # type: ignore[misc] # a default binds the loop's value
            )
            choices = (
                choose(client, model, prompts[:CHOICES], FORMAT, CLASSES)
                if kind == "base"
                else [_most_likely_class(answer) for answer in answers[kind]]
            )
            scores[kind] = score([answer.label for answer in answers[kind]], choices, labels)
    _show_scores(scores)
    _show_answers(answers, prompts, labels)
    return scores["fine-tuned"]


def _most_likely_class(answer: Answer) -> str:
    known = answer.probabilities
    return max(known, key=known.__getitem__) if known else answer.label


def _show_scores(scores: dict[str, Score]) -> None:
    rows = [
        ("accuracy: the answer is the right class", *(f"{s.answer:.1%}" for s in scores.values())),
        ("the right class is the more likely one", *(f"{s.choice:.1%}" for s in scores.values())),
    ]
    print(table(("", *(f"{kind} model" for kind in scores)), rows))
    _print_text(
        "First row: an answer counts if its text is the class that people gave. A base model was "
        "never trained to answer with a class, so the second row only compares how likely it "
        f"finds each class after the prompt (for the base model on the first "
        f"{scores['base'].choices} tweets; guessing gives 50 %)."
    )


def _show_answers(
    answers: dict[str, list[Answer]], prompts: Sequence[str], labels: Sequence[str]
) -> None:
    print()
    rows = [
        (
            FORMAT.parse_prompt(prompts[index]),
            labels[index],
            *(repr(answers[kind][index].text) for kind in answers),
        )
        for index in range(min(EXAMPLES, len(prompts)))
    ]
    print(table(("tweet", "label", *(f"{kind} model" for kind in answers)), rows))
    index, answer = min(
        enumerate(answers["fine-tuned"]),
        key=lambda item: max(item[1].probabilities.values(), default=1),
    )
    print(f"\nWhere the fine-tuned model is least sure: {FORMAT.parse_prompt(prompts[index])}")
    for name, probability in sorted(answer.probabilities.items(), key=lambda item: -item[1]):
        print(f"  {printable(name):10} {probability:6.1%}  {'#' * round(40 * probability)}")


def _show_snippet(prepared: Prepared, options: Options) -> None:
    _heading("The same in Python")
    print(
        python_lines(
            str(prepared.source),
            model=options.model,
            n_epochs=options.n_epochs,
            backend=options.backend or running_engine(options.home),
        )
    )
