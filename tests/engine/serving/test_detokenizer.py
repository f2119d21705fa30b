"""Text is released complete: no half characters, no starts of stop sequences."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from tunesmith.engine.serving.detokenizer import IncrementalDetokenizer, TokenBytes, token_label

TEXTS = st.text(st.sampled_from("ab c#\n€😀é"), max_size=24)


@st.composite
def split_texts(draw):
    """A text as the bytes of tokens, split anywhere, characters included."""
    data = draw(TEXTS).encode()
    cuts = sorted(draw(st.sets(st.integers(0, len(data)), max_size=12)) | {0, len(data)})
    return data, [data[one:other] for one, other in itertools.pairwise(cuts)]


@given(split_texts(), st.lists(st.text("ab#\n€", min_size=1, max_size=4), max_size=4))
def test_any_split_gives_the_text_up_to_the_first_stop(split, stops):
    data, parts = split
    text = data.decode()
    expected, found = text, []
    for end in itertools.accumulate(map(len, parts)):  # the first stop to be complete counts
        seen = data[:end].decode(errors="ignore")
        found = [place for stop in stops if (place := seen.find(stop)) >= 0]
        if found:
            expected = text[: min(found)]
            break
    answer = IncrementalDetokenizer(stops=stops)
    given_out, tokens = "", []
    for part in parts:
        answer.append(part)
        if answer.stopped:
            break
        piece = answer.take(final=False)
        given_out += piece.text
        tokens += piece.tokens
        assert text.startswith(given_out)
        assert len(given_out) <= len(expected)
        assert not any(given_out.endswith(stop) for stop in stops)
    piece = answer.take(final=True)
    given_out += piece.text
    tokens += piece.tokens
    assert given_out == expected
    assert answer.stopped == bool(found)
    assert tokens == list(range(len(tokens)))
    assert all(answer.starts[token] < len(expected) for token in tokens) or not found


def test_a_character_that_never_ends_is_left_out():
    answer = IncrementalDetokenizer()
    answer.append("é".encode() + "€".encode()[:2])
    assert answer.take(final=True).text == "é"


def test_bytes_that_are_no_text_are_marked():
    answer = IncrementalDetokenizer()
    for part in (b"a\xff", b"b"):
        answer.append(part)
    assert answer.take(final=True).text == "a�b"


def test_offsets_after_a_character_without_end():
    answer = IncrementalDetokenizer()
    for part in ("€".encode()[:2], b"b", "€".encode()[:1], "€".encode()[1:], b"c"):
        answer.append(part)
    assert answer.take(final=True).text == "\ufffdb€c"
    assert answer.starts == [0, 1, 2, 2, 3]


def test_labels():
    assert token_label(b" positive") == " positive"
    assert token_label("€".encode()[:2]) == r"bytes:\xe2\x82"


def test_byte_level_tokens(tiny_base_model):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_base_model)
    names = TokenBytes(tokenizer)
    text = "I love \t naïve 😀 text\n\n###\n\n"
    ids = tokenizer.encode(text)
    assert b"".join(names[token] for token in ids).decode() == text
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert names.is_special(end)
    assert names[end] == b"<|im_end|>"


def test_sentencepiece_tokens():
    from tokenizers import Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    vocabulary = {"<unk>": 0, "▁the": 1, "▁sea": 2, "s": 3}
    vocabulary |= {f"<0x{byte:02X}>": 4 + byte for byte in range(256)}
    backend = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True))
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    backend.decoder = decoders.Sequence(steps)
    names = TokenBytes(PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>"))
    assert [names[token] for token in (1, 2, 3)] == [b" the", b" sea", b"s"]
    assert b"".join(names[4 + byte] for byte in "€".encode()).decode() == "€"
