"""The cost of checks and of preparation is bounded: bytes decide before tokens, rows not fields."""

from __future__ import annotations

import json

import pytest
from tests.support.script import Script

from tunesmith import datasets
from tunesmith.datasets import tokens
from tunesmith.datasets.checks.row_hashes import RowHashes
from tunesmith.datasets.findings import LocationCounter
from tunesmith.datasets.pairs import StoredPairs, pairs
from tunesmith.datasets.prepare import prepare_data
from tunesmith.datasets.readers.json_lines import JsonLines


@pytest.fixture
def counted(monkeypatch):
    """Record the lengths of the texts whose tokens are counted."""
    lengths = []
    encoder = tokens.encoder("r50k_base")
    count, count_batch = type(encoder).count, type(encoder).count_batch

    def recorded(self, text):
        lengths.append(len(text))
        return count(self, text)

    def recorded_batch(self, texts):
        lengths.extend(map(len, texts))
        return count_batch(self, texts)

    monkeypatch.setattr(type(encoder), "count", recorded)
    monkeypatch.setattr(type(encoder), "count_batch", recorded_batch)
    return lengths


def test_the_tokens_of_a_row_that_is_certainly_too_long_are_not_counted(tmp_path, counted):
    path = tmp_path / "a.jsonl"
    rows = [{"prompt": "word " * 200_000, "completion": f" {k}"} for k in range(3)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    finding = next(f for f in datasets.check_file(path).findings if f.id == "token-limit")
    assert (finding.count, finding.examples[0].line) == (3, 1)
    assert "at least 7,813" in finding.message
    assert max(counted, default=0) < 10_000


def test_thousands_of_unknown_fields_are_counted_and_few_located(tmp_path, monkeypatch):
    located = []
    add = LocationCounter.add
    monkeypatch.setattr(LocationCounter, "add", lambda *args: (located.append(1), add(*args)))
    path = tmp_path / "a.csv"
    names = [f"c{k}" for k in range(3000)]
    path.write_text(
        ",".join([*names, "prompt", "completion"]) + "\n" + (",".join("x" * 3002) + "\n") * 5
    )
    finding = next(f for f in datasets.check_file(path).findings if f.id == "unknown-field")
    assert (finding.count, len(finding.examples)) == (15_000, 5)
    assert len(located) < 100


def test_stored_pairs_are_read_once_and_are_the_same_every_time():
    rows = [{"prompt": f"ä{k}\ud800", "completion": "x" * (k % 50)} for k in range(5_000)]
    reads = []

    def source():
        reads.append(1)
        yield from rows

    stored = StoredPairs(source())
    expected = list(pairs(rows))
    first, second = iter(pairs(stored)), iter(pairs(stored))
    assert [next(first), next(second)] == [expected[0]] * 2
    assert list(pairs(stored)) == expected
    assert list(first) == expected[1:]
    assert reads == [1]


def test_a_preparation_reads_its_source_a_few_times_only(tmp_path, monkeypatch):
    path = tmp_path / "a.jsonl"
    rows = [{"prompt": f"question {k}", "completion": f"answer {k}"} for k in range(200)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    reads = []
    batches = JsonLines.batches

    def recorded(self, *arguments):
        reads.append(1)
        return batches(self, *arguments)

    monkeypatch.setattr(JsonLines, "batches", recorded)
    prepared = prepare_data(path, Script())
    assert len(prepared.training.read_text().splitlines()) == 200
    assert len(reads) <= 10


def test_hashes_are_handed_over_in_files(tmp_path):
    import pickle

    hashes = RowHashes()
    hashes.extend(bytes(range(80)), bytes(reversed(range(80))))
    expected = [(list(left), list(right)) for left, right in hashes.parts()]
    hashes.shared_folder = str(tmp_path)
    handed = pickle.dumps(hashes)
    restored = pickle.loads(handed)  # noqa: S301 - made above
    assert (restored.count, len(list(tmp_path.iterdir()))) == (10, 2)
    assert [(list(left), list(right)) for left, right in restored.parts()] == expected
    restored.extend(bytes(8), bytes(8))
    assert sum(len(left) for left, _ in restored.parts()) == 11
