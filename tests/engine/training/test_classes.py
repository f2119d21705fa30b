"""Classes of any number of tokens: told apart, measured, and refused where that is impossible."""

from __future__ import annotations

import csv
import itertools
import json

import numpy as np
import pytest

from tunesmith.engine.domain.errors import TrainingError
from tunesmith.engine.training import train
from tunesmith.engine.training.class_scores import ClassScores, ClassTree
from tunesmith.engine.training.classification import Classes, check_classes

pytestmark = pytest.mark.filterwarnings(
    "ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"
)

NUMBERS = [f" {n}\n" for n in (*range(5), 10, 11, 100)]


@pytest.fixture
def in_32_bits(monkeypatch):
    """Train in 32 bits, so that another implementation finds the same numbers."""
    import torch

    from tunesmith.engine.training import preparation

    monkeypatch.setattr(preparation, "best_dtype", lambda _device: torch.float32)


def numbered_rows(classes, count, start=0):
    """Rows in which the first word decides the class."""
    return [
        {
            "prompt": f"{chr(97 + n % len(classes)) * 3} {n} ->",
            "completion": classes[n % len(classes)],
        }
        for n in range(start, start + count)
    ]


def result_rows(outcome):
    with outcome.results_path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


class Oracle:
    """Scores classes with the saved model by brute force: one pass for each prefix of a class."""

    def __init__(self, base, adapter):
        import torch
        from peft import PeftModel
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.torch = torch
        self.tokenizer = AutoTokenizer.from_pretrained(base)
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        self.model = PeftModel.from_pretrained(model, adapter).eval()

    def tokens(self, text):
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def probabilities(self, prompt, classes):
        """Return the probability of each class: at each token, among the classes' tokens."""
        tokens = [self.tokens(name) for name in classes]
        scores = []
        for own in tokens:
            score = 1.0
            for length, token in enumerate(own):
                among = sorted({t[length] for t in tokens if t[:length] == own[:length]})
                logits = self.next_logits(self.tokens(prompt) + own[:length])[among]
                score *= float(logits.softmax(dim=-1)[among.index(token)])
            scores.append(score)
        assert sum(scores) == pytest.approx(1)
        return scores

    def next_logits(self, ids):
        with self.torch.no_grad():
            bos = [self.tokenizer.bos_token_id] if self.tokenizer("")["input_ids"] else []
            return self.model(self.torch.tensor([bos + ids])).logits[0, -1].double()


@pytest.mark.usefixtures("in_32_bits")
@pytest.mark.parametrize("recipe", ["fast", "lora"])
@pytest.mark.parametrize(
    "classes", [[" 0", " 1", " 2"], NUMBERS, [" very good", " very bad", " fine and well"]]
)
def test_metrics_of_classes_of_several_tokens_agree_with_independent_ones(  # noqa: PLR0917
    make_spec, recorder, make_file, tiny_base_model, recipe, classes
):
    from sklearn import metrics as oracle

    validation = numbered_rows(classes, 3 * len(classes), start=1000)
    for row, other in zip(validation[::4], validation[1::4], strict=False):
        row["completion"] = other["completion"]  # wrong labels, so that not all can be right
    spec = make_spec(
        training_path=make_file("numbers.jsonl", numbered_rows(classes, 10 * len(classes))),
        validation_path=make_file("numbers-valid.jsonl", validation),
        compute_classification_metrics=True,
        classification_n_classes=len(classes),
        learning_rate_multiplier=40.0,
        n_epochs=6,
        recipe=recipe,
    )
    outcome = train(spec, recorder())
    found = {
        name.removeprefix("classification/"): float(value)
        for name, value in result_rows(outcome)[-1].items()
        if name.startswith("classification/")
    }
    model = Oracle(tiny_base_model, outcome.output_path)
    predicted = [
        classes[int(np.argmax(model.probabilities(row["prompt"], classes)))] for row in validation
    ]
    actual = [row["completion"] for row in validation]
    assert found == pytest.approx(
        {
            "accuracy": oracle.accuracy_score(actual, predicted),
            "weighted_f1_score": oracle.f1_score(
                actual, predicted, average="weighted", zero_division=0
            ),
        }
    )
    assert 0.1 < found["accuracy"] < 1


@pytest.mark.usefixtures("in_32_bits")
def test_metrics_of_two_numbers_agree_with_independent_ones(
    make_spec, recorder, make_file, tiny_base_model
):
    from sklearn import metrics as oracle

    classes = [" 10\n", " 1\n"]
    validation = numbered_rows(classes, 40, start=1000)
    validation[3]["completion"] = validation[4]["completion"]  # not everything can be right
    spec = make_spec(
        training_path=make_file("numbers.jsonl", numbered_rows(classes, 40)),
        validation_path=make_file("numbers-valid.jsonl", validation),
        compute_classification_metrics=True,
        classification_positive_class=" 1",
        classification_betas=[0.5, 2],
        learning_rate_multiplier=4.0,
        n_epochs=3,
    )
    outcome = train(spec, recorder())
    last = result_rows(outcome)[-1]
    model = Oracle(tiny_base_model, outcome.output_path)
    probability = np.array([model.probabilities(row["prompt"], classes)[1] for row in validation])
    actual = np.array([row["completion"] == " 1\n" for row in validation])
    predicted = probability >= 0.5
    expected = {
        "accuracy": oracle.accuracy_score(actual, predicted),
        "precision": oracle.precision_score(actual, predicted, zero_division=0),
        "recall": oracle.recall_score(actual, predicted, zero_division=0),
        "f0.5": oracle.fbeta_score(actual, predicted, beta=0.5, zero_division=0),
        "f2.0": oracle.fbeta_score(actual, predicted, beta=2, zero_division=0),
        "auroc": oracle.roc_auc_score(actual, probability),
        "auprc": oracle.average_precision_score(actual, probability),
    }
    found = {name: float(last[f"classification/{name}"]) for name in expected}
    assert found == pytest.approx(expected, abs=1e-6)


def test_the_job_says_how_to_ask_for_a_class(make_spec, recorder, make_file):
    for classes, advice in (
        ([" 0", ' "'], "takes 2 tokens: a completion request with max_tokens=2 and temperature=0"),
        ([" 3", " 4"], "max_tokens=1 and temperature=0 returns one"),
        ([" 1\n", " 100\n"], "max_tokens=3, temperature=0 and the stop sequence returns one"),
        ([" 1", " very bad"], "nothing marks their end"),
    ):
        observer = recorder()
        path = make_file("few.jsonl", numbered_rows(classes, 8))
        spec = make_spec(
            f"job{len(advice)}",
            training_path=path,
            validation_path=path,
            compute_classification_metrics=True,
            classification_n_classes=2,
            n_epochs=1,
        )
        train(spec, observer)
        (note,) = [message for key, message in observer.notes if key == "classes"]
        assert advice in note


def test_the_most_likely_class_is_found_without_computing_every_branch():
    random = np.random.default_rng(7)
    words = [
        t for n in (1, 2, 3) for t in itertools.product(range(3), repeat=n) if random.random() < 0.7
    ]
    classes = [(*tokens, 9) for tokens in words]
    tree = ClassTree(classes)
    actual = random.integers(0, len(classes), 50)
    logits = random.normal(size=(50, len(tree.branches), len(tree.tokens))).astype(np.float32) * 3
    scores = ClassScores(tree, 50)
    computed = 0
    for example, label in enumerate(actual):
        for branch in tree.paths[label]:
            scores.add(example, branch, logits[example, branch])
            computed += 1
    while missing := scores.missing():
        for example, branch in missing:
            scores.add(example, branch, logits[example, branch])
            computed += 1
    assert computed < 50 * len(tree.branches) / 2
    predicted = []
    for example in range(50):
        exact = []
        for label, tokens in enumerate(classes):
            score = 0.0
            for branch in tree.paths[label]:
                found = tree.branches[branch]
                row = logits[example, branch][found.tokens].astype(float)
                token = tokens[len(found.prefix)]
                own = [tree.tokens[i] for i in found.tokens].index(token)
                score += row[own] - np.log(np.exp(row).sum())
            exact.append(score)
        predicted.append(int(np.argmax(exact)))
    right = np.mean(np.array(predicted) == actual)
    measured = scores.metrics(Classes([str(c) for c in classes], classes, actual, None, []))
    assert measured["accuracy"] == pytest.approx(right)


@pytest.mark.parametrize(
    ("tokens", "settings", "complaint"),
    [
        ({" 1": [5, 1], " 10": [5, 1, 0]}, {}, "' 10' begin with those of ' 1'"),
        ({" 1": [5, 1], " 10": [5, 1, 0]}, {}, "End every completion with the same stop sequence"),
        ({" \u212b": [5], " \u00c5": [5]}, {}, "the same tokens for this base model"),
        ({" a": [1], " b": [2], " c": [3]}, {}, "is 2, but the files have 3 different completions"),
        ({" a": [1], "": []}, {}, "not chats"),
    ],
)
def test_classes_that_cannot_be_told_apart_are_refused(tokens, settings, complaint):
    values = {"n_classes": 2, "positive_class": None, "decode": repr} | settings
    with pytest.raises(TrainingError, match=complaint.replace("(", r"\(")):
        check_classes(tokens, **values)


def test_a_result_file_of_numbers_has_both_columns(make_spec, recorder, make_file):
    path = make_file("numbers.jsonl", numbered_rows(NUMBERS, 16))
    spec = make_spec(
        training_path=path,
        validation_path=path,
        compute_classification_metrics=True,
        classification_n_classes=len(NUMBERS),
    )
    observer = recorder()
    rows = result_rows(train(spec, observer))
    assert json.loads(rows[-1]["classification/accuracy"]) == pytest.approx(
        observer.steps[-1].classification["accuracy"]
    )
