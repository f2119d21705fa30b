"""The steps of the quickstart, in order, told on stdout.

It can be interrupted at any point and run again: downloads are kept, files of the same
content are not uploaded twice, and a job that was left unfinished is followed further.
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

from .evaluate import Answer, Score, ask, choose, score
from .prepare import prepare
from .snippet import python_lines
from .tweets import CLASSES, fetch_tweets

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

    from tunesmith.client import Client
    from tunesmith.engine.home import Home
    from tunesmith.types.legacy_fine_tunes import FineTune

    from .prepare import Prepared
    from .tweets import Tweet

__all__ = ["Options", "run", "tell"]

# Tweets end with "->": none of them contains it. A class is one token, so nothing marks its end.
FORMAT = PromptFormat(separator=" ->", stop="")
SUFFIX = "tweets"
SHOWN_ANSWERS = 5
# Fewer and larger steps than the default of 0.2 % of the examples: faster on a CPU.
BATCH_SIZE = 8
# The embedded engine takes a seed here too, so that every run tells the same story.
SEED = 1
# To have the base model choose costs several times as much as to ask it, so it chooses for these.
CHOICES = 64


@dataclass(frozen=True, slots=True)
class Options:
    """What the command was asked.

    Attributes:
        home: The engine's state folder.
        output: Folder for the files that a person may want to look at.
        backend: Base URL of a running server; None starts one.
        api_key: Key for that server.
        model: Base model by any name that the server knows.
        n_epochs: Passes over the training data.
    """

    home: Home
    output: Path
    backend: str | None = None
    api_key: str | None = None
    model: str = "ada"
    n_epochs: int = 1


def run(options: Options) -> Score:
    """Fetch what is needed, tell the story, and return the fine-tuned model's score.

    Raises:
        TunesmithError: A step failed; the message says which and what to do.
    """
    started = time.monotonic()
    tweets = _fetch(options)
    downloaded = time.monotonic()
    result = tell(tweets, options)
    done = time.monotonic()
    print(
        f"Done in {done - started:.0f} s, {downloaded - started:.0f} s of it for downloads. "
        f"The files are in {options.output}."
    )
    return result


def tell(tweets: Sequence[Tweet], options: Options) -> Score:
    """Tell the story of these tweets and return the fine-tuned model's score on those held out."""
    options.output.mkdir(parents=True, exist_ok=True)
    prepared = _prepare(tweets, options)
    with _client(options) as client:
        job = _train(client, prepared, options)
        _show_results(job, options.output)
        result = _compare(client, job, prepared, options.model)
    _show_snippet(prepared, options)
    return result


def _heading(text: str) -> None:
    print(f"\n== {text}", flush=True)


def _say(text: str) -> None:
    print(textwrap.fill(text, 88, break_on_hyphens=False, break_long_words=False), flush=True)


def _fetch(options: Options) -> list[Tweet]:
    _heading("1. A base model and real data")
    with progress_bar() as report:
        if options.backend is None:
            from tunesmith.engine.models.pull import pull

            base = pull(options.model, options.home, report)
            told = f"Base model {base.id} ({base.license or 'see its card'}), in {base.path}."
        else:
            told = f"The base model is {options.model} of {options.backend}."
        tweets = fetch_tweets(
            options.home.downloads,
            lambda done, total: report("downloading tweets", done, total),
        )
    _say(told)
    _say(
        f"{len(tweets):,} real tweets with a clear sentiment, as many positive as negative (from "
        "the vaderSentiment package, MIT licence)."
    )
    return tweets


def _prepare(tweets: Sequence[Tweet], options: Options) -> Prepared:
    _heading("2. Prepare")
    prepared = prepare(tweets, options.output, FORMAT)
    _say(
        f"{prepared.training_rows:,} rows to train on, {prepared.validation_rows:,} to validate "
        f"with, {len(prepared.held_out):,} held out. Tweets that are nearly the same are on one "
        f"side. Each prompt ends with {FORMAT.separator!r}, each completion starts with a space."
    )
    return prepared


@contextmanager
def _client(options: Options) -> Generator[Client]:
    """Yield a client of the named server, or of one that lives as long as the story."""
    if options.backend is not None:
        from tunesmith.client import Client

        with Client(options.api_key, base_url=options.backend) as client:
            yield client
        return
    from tunesmith import engine

    with engine.start(home=options.home.root) as server, server.client() as client:
        yield client


def _train(client: Client, prepared: Prepared, options: Options) -> FineTune[Client]:
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
        _say_interrupted(job, options)
        raise SystemExit(INTERRUPTED) from None
    if job.status != "succeeded":
        message = job.events[-1].message if job.events else "it gave no reason"
        raise TunesmithError(f"Job {job.id} {job.status}: {message}")
    return job


def _unfinished(client: Client, training: str) -> FineTune[Client] | None:
    """Return the job that an interrupted run left behind, if there is one."""
    for job in client.fine_tunes.list():
        if not job.is_terminal and [file.id for file in job.training_files] == [training]:
            _say("An earlier run left this job unfinished; it goes on.")
            return job
    return None


def _say_interrupted(job: FineTune, options: Options) -> None:
    if options.backend is None:
        _say(
            f"Interrupted. Job {job.id} keeps its last checkpoint: run `tunesmith quickstart` "
            "again and it goes on from there."
        )
    else:
        _say(
            f"Interrupted. Job {job.id} goes on by itself. Run the same command again to follow "
            f"it, or cancel it with: tunesmith -b {options.backend} api fine_tunes.cancel "
            f"-i {job.id}"
        )


def _show_results(job: FineTune[Client], output: Path) -> None:
    _heading("4. Results")
    results = job.results()
    results.to_csv(output / "results.csv")
    results.plot(output / "curves.png", title=job.fine_tuned_model)
    print(results.summary())
    print(f"Curves: {output / 'curves.png'}   Figures: {output / 'results.csv'}")


def _compare(client: Client, job: FineTune, prepared: Prepared, base: str) -> Score:
    _heading(f"5. Base and fine-tuned model on {len(prepared.held_out)} held-out tweets")
    prompts = [prompt for prompt, _ in prepared.held_out]
    labels = [FORMAT.parse_completion(completion) for _, completion in prepared.held_out]
    tuned = str(job.fine_tuned_model)
    answers: dict[str, list[Answer]] = {}
    scores: dict[str, Score] = {}
    with progress_bar() as report:
        for kind, model in (("base", base), ("fine-tuned", tuned)):
            what = f"asking the {kind} model"
            answers[kind] = ask(
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
                else [_likeliest(answer) for answer in answers[kind]]
            )
            scores[kind] = score([answer.label for answer in answers[kind]], choices, labels)
    _show_scores(scores)
    _show_answers(answers, prompts, labels)
    return scores["fine-tuned"]


def _likeliest(answer: Answer) -> str:
    known = answer.probabilities
    return max(known, key=known.__getitem__) if known else answer.label


def _show_scores(scores: dict[str, Score]) -> None:
    rows = [
        ("accuracy: the answer is the right class", *(f"{s.answer:.1%}" for s in scores.values())),
        ("the right class is the likelier one", *(f"{s.choice:.1%}" for s in scores.values())),
    ]
    print(table(("", *(f"{kind} model" for kind in scores)), rows))
    _say(
        "How they are counted: in the first row an answer counts if its text is the class that "
        "people gave. A base model was never told to answer with a class, so the second row only "
        "asks which of the two it finds likelier after the prompt (on the first "
        f"{scores['base'].chosen} tweets for the base model; guessing gives 50 %)."
    )


def _show_answers(
    answers: dict[str, list[Answer]], prompts: Sequence[str], labels: Sequence[str]
) -> None:
    print()
    rows = [
        (
            FORMAT.parse_prompt(prompts[place]),
            labels[place],
            *(repr(answers[kind][place].text) for kind in answers),
        )
        for place in range(min(SHOWN_ANSWERS, len(prompts)))
    ]
    print(table(("tweet", "people say", *(f"{kind} model" for kind in answers)), rows))
    place, answer = min(
        enumerate(answers["fine-tuned"]),
        key=lambda item: max(item[1].probabilities.values(), default=1),
    )
    print(f"\nWhere the fine-tuned model is least sure: {FORMAT.parse_prompt(prompts[place])}")
    for name, probability in sorted(answer.probabilities.items(), key=lambda item: -item[1]):
        print(f"  {printable(name):10} {probability:6.1%}  {'#' * round(40 * probability)}")


def _show_snippet(prepared: Prepared, options: Options) -> None:
    _heading("The same in Python")
    print(
        python_lines(
            str(prepared.source),
            model=options.model,
            n_epochs=options.n_epochs,
            backend=options.backend,
        )
    )
