"""Incremental detokenization: exact bytes of each token, whole characters, stop sequences cut.

A token stands for bytes, not for text: a character may be split over tokens, and a stop
sequence may begin in the middle of one token and end in another. `TokenBytes` returns the
bytes of a token; `IncrementalDetokenizer` joins them and releases only text that no later
token can change: never half a character, never what may be the start of a stop sequence.
"""

from __future__ import annotations

import codecs
import functools
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "IncrementalDetokenizer",
    "TextPiece",
    "TokenBytes",
    "partial_stop_length",
    "token_label",
]

_NORMALIZER_MARGIN = 4


def token_label(data: bytes) -> str:
    r"""Return a token's bytes as text, or as "bytes:\xNN…" where they are not whole characters."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)


class TokenBytes:
    """The bytes that each token of a tokenizer stands for.

    Byte-level vocabularies (as GPT-2's) and SentencePiece's with byte fallback are read
    exactly; for any other, the tokenizer decodes the single token.

    Args:
        tokenizer: A transformers tokenizer.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._kind = _decoder_kind(tokenizer)
        self._special: set[int] = set(tokenizer.all_special_ids)
        self._added: dict[int, str] = {
            token_id: token.content for token_id, token in tokenizer.added_tokens_decoder.items()
        }
        for token_id, token in tokenizer.added_tokens_decoder.items():
            if token.special:
                self._special.add(token_id)
        self._cache: dict[int, bytes] = {}

    @functools.cached_property
    def longest(self) -> int:
        """Most bytes of a text that one token stands for.

        A normalizer may shorten the text before it is cut into tokens, by blanks mostly; a margin
        is left for that.
        """
        is_byte_level = self._kind == "byte-level"  # then a name has one character for each byte
        names = self._tokenizer.get_vocab()
        most = max(len(name) if is_byte_level else len(name.encode()) for name in names)
        backend = getattr(self._tokenizer, "backend_tokenizer", None)
        shortens = getattr(backend, "normalizer", None) is not None
        return most * (_NORMALIZER_MARGIN if shortens else 1)

    def is_special(self, token: int) -> bool:
        """Return True for a control token, which is not part of the text."""
        return token in self._special

    def __getitem__(self, token: int) -> bytes:
        """Return the bytes that a token stands for; a control token stands for its name."""
        data = self._cache.get(token)
        if data is None:
            data = self._cache[token] = self._read(token)
        return data

    def _read(self, token: int) -> bytes:
        added = self._added.get(token)
        if added is not None:
            return added.encode()
        name = self._tokenizer.convert_ids_to_tokens(token)
        if name is None:  # an id beyond the vocabulary, as padded embeddings have
            return b""
        if self._kind == "byte-level":
            return b"".join(_byte_of_character(character) for character in name)
        if self._kind == "sentencepiece":
            if len(name) == len("<0x00>") and name.startswith("<0x") and name.endswith(">"):
                return bytes([int(name[3:5], 16)])
            return bytes(name.replace("\u2581", " "), "utf-8")
        return bytes(self._tokenizer.decode([token], skip_special_tokens=False), "utf-8")


def _decoder_kind(tokenizer: Any) -> str:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return "other"
    decoder = json.loads(backend.to_str()).get("decoder") or {}
    parts = decoder.get("decoders", [decoder])
    kinds = {part.get("type") for part in parts}
    if "ByteLevel" in kinds:
        return "byte-level"
    if kinds & {"ByteFallback", "Metaspace"}:
        return "sentencepiece"
    return "other"


def _byte_characters() -> dict[str, bytes]:
    """Return the characters by which byte-level vocabularies name bytes, and those bytes.

    Printable Latin-1 characters stand for themselves; the other bytes, in order, for
    the characters from U+0100 on (the table of GPT-2's tokenizer).
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    table = {chr(byte): bytes([byte]) for byte in printable}
    table.update({chr(256 + index): bytes([byte]) for index, byte in enumerate(others)})
    return table


_BYTE_CHARACTERS = _byte_characters()


def _byte_of_character(character: str) -> bytes:
    return _BYTE_CHARACTERS.get(character) or character.encode()


@dataclass(frozen=True, slots=True)
class TextPiece:
    """Text that has become final, and the tokens that became final with it.

    Attributes:
        tokens: Indices of the tokens, counted from the answer's first.
    """

    text: str
    tokens: range


@dataclass(slots=True)
class IncrementalDetokenizer:
    """The text of one sequence as it grows.

    Args:
        stops: Stop sequences.

    Attributes:
        stopped: True once a stop sequence was found; the text ends before it.
        starts: Where each token begins, in characters from the start of the answer.
        ends: Where each token ends; one that ends within a character ends with that character.
        complete_tokens: How many tokens end at the end of a character.
    """

    stops: Sequence[str] = ()
    stopped: bool = False
    text: str = ""
    starts: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    complete_tokens: int = 0
    _taken_characters: int = 0
    _taken_tokens: int = 0
    _decoder: Any = field(
        default_factory=lambda: codecs.getincrementaldecoder("utf-8")(errors="replace")
    )

    def append(self, data: bytes) -> None:
        """Add the bytes of the next token (none, for a control token)."""
        if data and not _continues_character(data):
            self.text += self._decoder.decode(b"", final=True)  # the last one stays incomplete
        start = len(self.text)
        self.text += self._decoder.decode(data)
        self.starts.append(start)
        self.ends.append(len(self.text))
        for token in range(self.complete_tokens, len(self.ends)):
            self.ends[token] = len(self.text)
        if not self._decoder.getstate()[0]:
            self.complete_tokens = len(self.ends)
        cuts = [
            found
            for stop in self.stops
            if (found := self.text.find(stop, max(0, start - len(stop) + 1))) >= 0
        ]
        if cuts:
            self.stopped = True
            self.text = self.text[: min(cuts)]

    def take(self, *, final: bool) -> TextPiece:
        """Return what has become final since the last call; with `final`, all that is left.

        A character that is still incomplete at the end is left out.
        """
        if final:
            characters = len(self.text)
            tokens = self._taken_tokens
            while tokens < len(self.starts) and not (
                self.stopped and self.starts[tokens] >= characters
            ):
                tokens += 1
        else:
            characters = len(self.text) - partial_stop_length(self.text, self.stops)
            tokens = self._taken_tokens
            while tokens < self.complete_tokens and self.ends[tokens] <= characters:
                tokens += 1
        piece = TextPiece(
            self.text[self._taken_characters : characters], range(self._taken_tokens, tokens)
        )
        self._taken_characters, self._taken_tokens = characters, tokens
        return piece


def partial_stop_length(text: str, stops: Sequence[str]) -> int:
    """Return the length of the longest end of a text that may be the start of a stop sequence."""
    longest = 0
    for stop in stops:
        for length in range(min(len(stop) - 1, len(text)), longest, -1):
            if text.endswith(stop[:length]):
                longest = length
                break
    return longest


def _continues_character(data: bytes) -> bool:
    """Return True if the first byte continues a character (10xxxxxx, RFC 3629)."""
    return data[0] & 0xC0 == 0x80  # noqa: PLR2004
