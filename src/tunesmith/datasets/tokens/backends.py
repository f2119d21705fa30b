"""Encoders on top of other libraries: tiktoken (the reference), toktok (fast), Hugging Face."""

from __future__ import annotations

import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from tunesmith._install import install_command

from .encoder import Encoder, TokenizerUnavailableError, replace_surrogates
from .python_encoder import PythonEncoder
from .vocabulary import PATTERNS, character_class, load_ranks
from .word_counts import WordCounts

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

__all__ = ["Backend", "HuggingFaceEncoder", "TiktokenEncoder", "ToktokEncoder", "load_encoder"]

Backend: TypeAlias = Literal["auto", "toktok", "tiktoken", "python"]

_TOKTOK_ENCODINGS: Final = ("cl100k_base", "o200k_base")


class TiktokenEncoder:
    """tiktoken's merging with the vocabulary that ships with this package: the reference."""

    def __init__(self, encoding: str) -> None:
        import tiktoken  # noqa: PLC0415 - an extra

        self.name = encoding
        self._encoding = tiktoken.Encoding(
            name=encoding,
            pat_str=PATTERNS[encoding],
            mergeable_ranks=load_ranks(encoding),
            special_tokens={},
        )

        # Not its batch call, which is several times slower on short texts.
        self._words = WordCounts(lambda text: len(self.encode(text)))

    def count(self, text: str) -> int:
        """See `Encoder.count`."""
        return self._words.count(text)

    def count_batch(self, texts: Sequence[str]) -> list[int]:
        """See `Encoder.count_batch`."""
        return list(map(self._words.count, texts))

    def encode(self, text: str) -> list[int]:
        """See `Encoder.encode`."""
        return self._encoding.encode_ordinary(text)


class ToktokEncoder:
    """toktok-rs: counts several times faster, for cl100k_base and o200k_base.

    Its Unicode tables are newer than the reference's, so a text with a character that the reference
    does not know is counted in plain Python, which is rare, and takes less memory than tiktoken.
    """

    def __init__(self, encoding: str, *, threads: int = 1) -> None:
        import toktok  # noqa: PLC0415 - an extra  # pyright: ignore[reportMissingTypeStubs]

        self.name = encoding
        self._count: Any = toktok.batch_count
        self._threads = threads
        self._is_unknown = re.compile(f"[{character_class('unassigned')}]").match
        self._seen: set[str] = set()
        self._unknown: set[str] = set()

    def count(self, text: str) -> int:
        """See `Encoder.count`."""
        return self.count_batch([text])[0]

    def count_batch(self, texts: Sequence[str]) -> list[int]:
        """See `Encoder.count_batch`."""
        try:
            counts: list[int] = self._count(texts, self.name, threads=self._threads)
        except UnicodeEncodeError:
            texts = [replace_surrogates(text) for text in texts]
            counts = self._count(texts, self.name, threads=self._threads)
        unusual = [index for index, text in enumerate(texts) if not text.isascii()]
        if unusual and self._has_unknown("".join([texts[index] for index in unusual])):
            for index in unusual:
                if self._has_unknown(texts[index]):
                    counts[index] = self._exact.count(texts[index])
        return counts

    def _has_unknown(self, text: str) -> bool:
        """Return whether a text has a character unknown to the reference; each is checked once."""
        characters = set(text)
        fresh = characters - self._seen
        self._seen |= fresh
        self._unknown.update(filter(self._is_unknown, fresh))
        return not self._unknown.isdisjoint(characters)

    def encode(self, text: str) -> list[int]:
        """See `Encoder.encode`; toktok only counts, so plain Python encodes."""
        return self._exact.encode(text)

    @property
    def _exact(self) -> Encoder:
        return load_encoder(self.name, "python")


class HuggingFaceEncoder:
    """The tokenizer of an open model, without its special tokens."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        folder = Path(path)
        file = folder / "tokenizer.json" if folder.is_dir() else folder
        if not file.is_file():
            raise TokenizerUnavailableError(
                f"{file} does not exist: give the folder of a model or its tokenizer.json."
            )
        try:
            import tokenizers  # noqa: PLC0415 - comes with transformers
        except ImportError:
            raise TokenizerUnavailableError(
                "Counting with an open model's tokenizer needs the package tokenizers: "
                f"{install_command('tokenizers')}"
            ) from None
        self.name: str = str(file)
        self._tokenizer: Any = tokenizers.Tokenizer.from_file(str(file))
        # A length limit saved with the tokenizer would truncate the text before it is counted.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def count(self, text: str) -> int:
        """See `Encoder.count`."""
        return len(self.encode(text))

    def count_batch(self, texts: Sequence[str]) -> list[int]:
        """See `Encoder.count_batch`."""
        clean = [replace_surrogates(text) for text in texts]
        encodings = self._tokenizer.encode_batch(clean, add_special_tokens=False)
        return [len(encoding.ids) for encoding in encodings]

    def encode(self, text: str) -> list[int]:
        """See `Encoder.encode`."""
        clean = replace_surrogates(text)
        ids: list[int] = self._tokenizer.encode(clean, add_special_tokens=False).ids
        return ids


@cache
def load_encoder(encoding: str, backend: Backend = "auto") -> Encoder:
    """Return the encoder of a published vocabulary, loaded once for each back end.

    Args:
        encoding: One of `ENCODINGS`.
        backend: "auto" takes the fastest that is installed: toktok, tiktoken, plain Python.

    Raises:
        TokenizerUnavailableError: The requested back end is not installed, or does not
            know the encoding.
    """
    if backend == "auto":
        if encoding in _TOKTOK_ENCODINGS and _installed("toktok"):
            return load_encoder(encoding, "toktok")
        return load_encoder(encoding, "tiktoken" if _installed("tiktoken") else "python")
    if backend == "python":
        return PythonEncoder(encoding)
    package = {"toktok": "toktok-rs", "tiktoken": "tiktoken"}[backend]
    if not _installed(backend):
        raise TokenizerUnavailableError(
            f"The back end {backend!r} is not installed: {install_command(package)}"
        )
    if backend == "tiktoken":
        return TiktokenEncoder(encoding)
    if encoding not in _TOKTOK_ENCODINGS:
        raise TokenizerUnavailableError(
            f"toktok does not know {encoding}; it counts {' and '.join(_TOKTOK_ENCODINGS)}."
        )
    return ToktokEncoder(encoding)


@cache
def _installed(module: str) -> bool:
    return find_spec(module) is not None
