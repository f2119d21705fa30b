"""Rows that every test of `migrate` can use."""

import json
from pathlib import Path

import pytest


@pytest.fixture
def validation_file(tmp_path: Path) -> Path:
    path = tmp_path / "valid.jsonl"
    rows = [
        {"messages": [
            {"role": "system", "content": "Say the feeling."},
            {"role": "user", "content": f"{text} {number}"},
            {"role": "assistant", "content": label},
        ]}
        for number in range(10)
        for text, label in (("I love it", "positive"), ("I hate it", "negative"))
    ]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
