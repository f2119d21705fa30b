"""From tokens to text, exactly: bytes of each token, whole characters only, stops cut.

A token stands for bytes, not for text: a character may be split over tokens, and a
stop sequence may begin in the middle of one token and end in another. `TokenBytes`
says what bytes a token stands for; `AnswerText` joins them and gives out only text
that no later token can change: never half a character, never what may turn out to be
the beginning of a stop sequence.
"""

from __future__ import annotations

import codecs
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["AnswerText", "TextPiece", "TokenBytes", "token_label"]


def token_label(data: bytes) -> str:
    r"""Return a token's bytes as text, or as "bytes:\xNN…" where they are no whole characters."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)


class TokenBytes:
    """What bytes each token of a tokenizer stands for.

    Byte-level vocabularies (GPT-2's and its heirs') and SentencePiece's with byte
    fallback are read exactly; of any other the tokenizer's own decoding of single
    tokens is taken.

    Args:
        tokenizer: A transformers tokenizer.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._kind = _decoder_kind(tokenizer)
        self._special: set[int] = set(tokenizer.all_special_ids)
        self._added: dict[int, str] = {
            number: token.content for number, token in tokenizer.added_tokens_decoder.items()
        }
        for number, token in tokenizer.added_tokens_decoder.items():
            if token.special:
                self._special.add(number)
        self._known: dict[int, bytes] = {}

    def is_special(self, token: int) -> bool:
        """Return True for a control token, which is no part of the text."""
        return token in self._special

    def __getitem__(self, token: int) -> bytes:
        """Return the bytes that a token stands for; a control token stands for its name."""
        known = self._known.get(token)
        if known is None:
            known = self._known[token] = self._read(token)
        return known

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
    """Return the characters that byte-level vocabularies write bytes with.

    Printable Latin-1 characters stand for themselves; the other bytes, in order, for
    the characters from U+0100 on (the table of GPT-2's tokenizer).
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    table = {chr(byte): bytes([byte]) for byte in printable}
    table.update({chr(256 + place): bytes([byte]) for place, byte in enumerate(others)})
    return table


_BYTE_CHARACTERS = _byte_characters()


def _byte_of_character(character: str) -> bytes:
    return _BYTE_CHARACTERS.get(character) or character.encode()


@dataclass(frozen=True, slots=True)
class TextPiece:
    """Text that has become final, and the tokens that became final with it.

    Attributes:
        tokens: Numbers of the tokens, counted from the answer's first.
    """

    text: str
    tokens: range


@dataclass(slots=True)
class AnswerText:
    """The text of one answer as it grows.

    Args:
        stops: Texts that end the answer.

    Attributes:
        stopped: True once a stop sequence was found; the text ends before it.
        starts: Where each token begins, in characters from the answer's beginning.
    """

    stops: Sequence[str] = ()
    stopped: bool = False
    text: str = ""
    starts: list[int] = field(default_factory=list)
    _ends: list[int] = field(default_factory=list)
    _whole: int = 0
    _given_characters: int = 0
    _given_tokens: int = 0
    _decoder: Any = field(
        default_factory=lambda: codecs.getincrementaldecoder("utf-8")(errors="replace")
    )

    def push(self, data: bytes) -> None:
        """Add the bytes of the next token (none, for a control token)."""
        if data and not _continues_character(data):
            self.text += self._decoder.decode(b"", final=True)  # what was begun has no end
        start = len(self.text)
        self.text += self._decoder.decode(data)
        self.starts.append(start)
        self._ends.append(len(self.text))
        # A token that ends within a character ends with that character.
        for token in range(self._whole, len(self._ends)):
            self._ends[token] = len(self.text)
        if not self._decoder.getstate()[0]:
            self._whole = len(self._ends)
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
            tokens = self._given_tokens
            while tokens < len(self.starts) and not (
                self.stopped and self.starts[tokens] >= characters
            ):
                tokens += 1
        else:
            characters = len(self.text) - self._held_back()
            tokens = self._given_tokens
            while tokens < self._whole and self._ends[tokens] <= characters:
                tokens += 1
        piece = TextPiece(
            self.text[self._given_characters : characters], range(self._given_tokens, tokens)
        )
        self._given_characters, self._given_tokens = characters, tokens
        return piece

    def _held_back(self) -> int:
        """Return the length of the longest ending that may be the beginning of a stop sequence."""
        longest = 0
        for stop in self.stops:
            for length in range(min(len(stop) - 1, len(self.text)), longest, -1):
                if self.text.endswith(stop[:length]):
                    longest = length
                    break
        return longest


def _continues_character(data: bytes) -> bool:
    """Return True if the first byte can only stand within a character (10xxxxxx, RFC 3629)."""
    return data[0] & 0xC0 == 0x80  # noqa: PLR2004
