from __future__ import annotations

import numpy as np
import pytest

from tunesmith.engine.training.metrics import PredictionCounts, binary_metrics, multiclass_metrics


def test_the_guides_worked_example():
    completions = np.array([[1, 2], [0, 5], [4, 2]])
    predicted = np.array([[1, 1], [0, 5], [4, 2]])
    counts = PredictionCounts()
    correct = (completions == predicted).ravel()
    counts.add(np.ones(6), correct, np.repeat(np.arange(3), 2))
    assert counts.sequence_accuracy == pytest.approx(2 / 3)
    assert counts.token_accuracy == pytest.approx(5 / 6)


def test_tallies_add_up_over_batches():
    counts = PredictionCounts()
    counts.add(np.array([1.0, 3.0]), np.array([True, False]), np.array([0, 0]))
    counts.add(np.array([2.0]), np.array([True]), np.array([0]))
    assert (counts.mean_loss, counts.sequence_accuracy) == (2.0, 0.5)
    assert counts.token_accuracy == pytest.approx(2 / 3)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("ties", [False, True])
def test_binary_metrics_agree_with_scikit_learn(seed, ties):
    from sklearn import metrics as oracle

    random = np.random.default_rng(seed)
    count = int(random.integers(5, 60))
    actual = random.random(count) < 0.4
    actual[:2] = [True, False]
    probability = random.random(count)
    if ties:
        probability = np.round(probability, 1)
    predicted = probability >= 0.5
    ours = binary_metrics(actual, probability, [0.5, 1.0, 2.0])
    assert ours == pytest.approx(
        {
            "accuracy": oracle.accuracy_score(actual, predicted),
            "precision": oracle.precision_score(actual, predicted, zero_division=0),
            "recall": oracle.recall_score(actual, predicted, zero_division=0),
            **{
                f"f{beta}": oracle.fbeta_score(actual, predicted, beta=beta, zero_division=0)
                for beta in (0.5, 1.0, 2.0)
            },
            "auroc": oracle.roc_auc_score(actual, probability),
            "auprc": oracle.average_precision_score(actual, probability),
        }
    )


@pytest.mark.parametrize("seed", range(8))
def test_multiclass_metrics_agree_with_scikit_learn(seed):
    from sklearn import metrics as oracle

    random = np.random.default_rng(seed)
    actual = random.integers(0, 5, 40)
    predicted = np.where(random.random(40) < 0.6, actual, random.integers(0, 6, 40))
    assert multiclass_metrics(actual, predicted) == pytest.approx(
        {
            "accuracy": oracle.accuracy_score(actual, predicted),
            "weighted_f1_score": oracle.f1_score(
                actual, predicted, average="weighted", zero_division=0
            ),
        }
    )


def test_areas_are_left_out_where_one_class_is_missing():
    metrics = binary_metrics(np.array([True, True]), np.array([0.2, 0.9]))
    assert "auroc" not in metrics
    assert metrics["recall"] == 0.5
    assert binary_metrics(np.array([False]), np.array([0.1]))["precision"] == 0.0
