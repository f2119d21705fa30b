"""The fast decoders give the same result as the strict one."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith import datasets
from tunesmith.datasets.checks.prompt_format_check import _only_at_end
from tunesmith.datasets.readers import byte_scan
from tunesmith.datasets.readers.byte_scan import scan_strings
from tunesmith.datasets.readers.json_lines import JsonLines

TEXTS = st.text(alphabet=st.sampled_from('ab"\\/u0\n\t\x08\x0c\x1f{}:é😀\ud83d\ude00'), max_size=12)


@given(st.dictionaries(TEXTS, TEXTS, max_size=3), st.booleans())
def test_quotes_and_doubtful_escapes_are_found_in_the_bytes(row, ascii_only):
    text = json.dumps(row, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    written = json.loads(text)
    strings = [*written, *written.values()]
    bad = any(
        (character < " " and character not in "\t\n\r") or "\ud800" <= character <= "\udfff"
        for string in strings
        for character in string
    )
    for found in (scan_strings(text), byte_scan._scan_in_python(text)):
        assert found.quotes == 2 * len(strings)
        assert not (found.safe and bad and ascii_only)


def test_safe_escapes_take_the_fast_path():
    pytest.importorskip("numpy")
    row = {"prompt": 'C:\\new\\bin \\frac{1}{2} "é" 😀 \\" \\\\', "completion": "naïve\n"}
    assert scan_strings(json.dumps(row).encode()) == (8, True)
    for text in ('"\\b"', '"\\f"', '"\\u001f"', '"\\ud83d"', '"\\ude00\\ud83d"', '"\\\\\\b"'):
        assert not scan_strings(text.encode()).safe


@given(st.lists(st.text("ab\n#", max_size=8), min_size=1, max_size=4), st.text("ab\n#", max_size=4))
def test_a_mark_only_at_the_end_is_found_in_one_search(texts, mark):
    for tail in ("", mark):
        whole = [text + tail for text in texts]
        each = all(text.endswith(mark) and mark not in text[:-1] for text in whole)
        assert _only_at_end(whole, mark) == (each or not mark)


CHAT = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]}
TURNED = {"messages": [dict(reversed(message.items())) for message in CHAT["messages"]]}


@pytest.mark.parametrize(
    ("odd", "finding"),
    [
        ('{"messages": []}', "messages-empty"),
        ('{"messages": [{"role": "user", "content": "Hi"}]}', "assistant-missing"),
        (json.dumps(CHAT).replace("Ho", " "), "content-empty"),
        (json.dumps(CHAT).replace('"Ho"', '"Ho", "content": "Hm"'), "json-duplicate-key"),
        (json.dumps(CHAT).replace("Ho", "a\\fb"), "control-character"),
        (json.dumps(CHAT).replace("Ho", "\\ud83d"), "lone-surrogate"),
    ],
)
def test_one_odd_conversation_among_plain_ones_is_found(tmp_path, odd, finding):
    path = tmp_path / "chat.jsonl"
    rows = [json.dumps(CHAT).replace("Hi", f"Hi {number}") for number in range(3_000)]
    rows[2_000] = odd
    path.write_text("\n".join(rows), encoding="utf-8")
    report = datasets.check_file(path)
    assert {found.id: found.examples[0].line for found in report.findings} == {finding: 2_001}


def test_the_same_conversation_is_found_however_it_is_read(tmp_path):
    path = tmp_path / "chat.jsonl"
    rows = [json.dumps(CHAT).replace("Hi", f"Hi {number}") for number in range(20_000)]
    rows[10] = json.dumps(CHAT)
    rows[19_990:] = ["{", json.dumps(TURNED)]  # read line by line
    path.write_text("\n".join(rows), encoding="utf-8")
    report = datasets.check_file(path)
    found = {
        finding.id: [location.line for location in finding.examples] for finding in report.findings
    }
    assert found == {"json-syntax": [19_991], "duplicate-rows": [19_992]}


def test_rows_keep_the_order_of_their_keys(tmp_path):
    path = tmp_path / "chat.jsonl"
    path.write_text("".join(json.dumps(TURNED) + "\n" for _ in range(9_000)), encoding="utf-8")
    batches = list(JsonLines(path).batches())
    assert len(batches) > 1
    for batch in batches:
        assert json.dumps(batch.values[-1]) == json.dumps(TURNED)
