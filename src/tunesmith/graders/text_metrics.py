"""The metrics of text similarity, each as the library defines it that its name is known from.

| Metric | Definition |
|---|---|
| `fuzzy_match` | `rapidfuzz.fuzz.ratio`, of the texts as they are |
| `bleu` | sacreBLEU's sentence BLEU: 13a tokens, up to 4-grams, exponential smoothing |
| `gleu` | `nltk.translate.gleu_score.sentence_gleu`, of 13a tokens |
| `meteor` | `nltk.translate.meteor_score`, of NLTK's word tokens, without the stage of synonyms |
| `rouge_1` to `rouge_5`, `rouge_l` | the F-measure of rouge-score, without stemming |
| `cosine` | the cosine of the word counts; no model of meaning takes part |

METEOR's third stage looks synonyms up in WordNet, a download; whether it is there must not change
a score, so words match by form and by stem only. rapidfuzz and NLTK are the extra `graders`.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from functools import lru_cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from tunesmith._install import install_extra

from .definitions import GraderError, TextMetric

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["similarity"]

MAX_CHARACTERS = 50_000
_ORDERS = 4

_ROUGE_WORD = re.compile(r"[a-z0-9]+")
_WORD = re.compile(r"\w+")
_13A = (
    (re.compile(r"([{-~\[-` -&(-+:-@/])"), r" \1 "),
    (re.compile(r"([^0-9])([.,])"), r"\1 \2 "),
    (re.compile(r"([.,])([^0-9])"), r" \1 \2"),
    (re.compile(r"([0-9])(-)"), r"\1 \2 "),
)
_ESCAPED = (("<skipped>", ""), ("-\n", ""), ("\n", " "), ("&quot;", '"'), ("&amp;", "&"))
_BRACKETS = (("&lt;", "<"), ("&gt;", ">"))


def similarity(metric: TextMetric, text: str, reference: str) -> float:
    """Return how similar a text is to a reference, 0 to 1.

    Raises:
        GraderError: A text is too long, or the metric's library is not installed.
    """
    if max(len(text), len(reference)) > MAX_CHARACTERS:
        raise GraderError(
            f"text_similarity compares texts of up to {MAX_CHARACTERS} characters; this one has "
            f"{max(len(text), len(reference))}."
        )
    if metric.startswith("rouge_") and metric != "rouge_l":
        return _rouge_n(text, reference, int(metric.removeprefix("rouge_")))
    return _METRICS[metric](text, reference)


def _fuzzy_match(text: str, reference: str) -> float:
    return float(_extra("rapidfuzz.fuzz").ratio(text, reference)) / 100


def _bleu(text: str, reference: str) -> float:
    hypothesis, expected = _tokens_13a(text), _tokens_13a(reference)
    logarithms: list[float] = []
    smoothing = 1.0
    for order in range(1, min(_ORDERS, len(hypothesis)) + 1):
        found = _ngrams(hypothesis, order)
        matches = (found & _ngrams(expected, order)).total()
        if order == 1 and not matches:
            return 0.0
        if not matches:
            smoothing *= 2
        logarithms.append(math.log((matches or 1 / smoothing) / found.total()))
    if not logarithms:
        return 0.0
    shortfall = min(0.0, 1 - len(expected) / len(hypothesis))
    return math.exp(shortfall + sum(logarithms) / len(logarithms))


def _gleu(text: str, reference: str) -> float:
    score = _extra("nltk.translate.gleu_score").sentence_gleu
    hypothesis, expected = _tokens_13a(text), _tokens_13a(reference)
    if not hypothesis or not expected:
        return 0.0
    return float(score([expected], hypothesis))


def _meteor(text: str, reference: str) -> float:
    """Compute METEOR with NLTK's parameters: alpha 0.9, beta 3, gamma 0.5."""
    tokens, stem = _word_tools()
    hypothesis, expected = tokens(text.lower()), tokens(reference.lower())
    pairs = _aligned(hypothesis, expected, stem)
    if not pairs:
        return 0.0
    precision, recall = len(pairs) / len(hypothesis), len(pairs) / len(expected)
    mean = precision * recall / (0.9 * precision + 0.1 * recall)
    pairs.sort()
    chunks = 1 + sum(
        (later[0] - earlier[0], later[1] - earlier[1]) != (1, 1)
        for earlier, later in itertools.pairwise(pairs)
    )
    return mean * (1 - 0.5 * (chunks / len(pairs)) ** 3)


def _aligned(
    hypothesis: Sequence[str], expected: Sequence[str], stem: Callable[[str], str]
) -> list[tuple[int, int]]:
    """Return which word matches which: by form, then by stem, from the end on."""
    pairs: list[tuple[int, int]] = []
    left, right = list(enumerate(hypothesis)), list(enumerate(expected))
    for form in (str, stem):
        places: dict[str, list[int]] = {}
        for place, word in right:
            places.setdefault(form(word), []).append(place)
        rest: list[tuple[int, str]] = []
        for place, word in reversed(left):
            candidates = places.get(form(word))
            if candidates:
                pairs.append((place, candidates.pop()))
            else:
                rest.append((place, word))
        taken = {place for _, place in pairs}
        left, right = rest[::-1], [one for one in right if one[0] not in taken]
    return pairs


@lru_cache(maxsize=1)
def _word_tools() -> tuple[Callable[[str], list[str]], Callable[[str], str]]:
    """Return NLTK's word tokenizer and its Porter stemmer; neither needs data files."""
    tokens = _extra("nltk.tokenize.destructive").NLTKWordTokenizer().tokenize
    stem = _extra("nltk.stem.porter").PorterStemmer().stem
    return tokens, stem


def _rouge_n(text: str, reference: str, order: int) -> float:
    found = _ngrams(_ROUGE_WORD.findall(text.lower()), order)
    expected = _ngrams(_ROUGE_WORD.findall(reference.lower()), order)
    return _f_measure((found & expected).total(), found.total(), expected.total())


def _rouge_l(text: str, reference: str) -> float:
    found = _ROUGE_WORD.findall(text.lower())
    expected = _ROUGE_WORD.findall(reference.lower())
    return _f_measure(_common_length(found, expected), len(found), len(expected))


def _common_length(one: Sequence[str], other: Sequence[str]) -> int:
    """Return the length of the longest common subsequence, a row of the table in one integer."""
    places: dict[str, int] = {}
    for place, word in enumerate(other):
        places[word] = places.get(word, 0) | 1 << place
    full = (1 << len(other)) - 1
    row = full
    for word in one:
        matches = row & places.get(word, 0)
        row = (row + matches | row - matches) & full
    return len(other) - row.bit_count()


def _cosine(text: str, reference: str) -> float:
    one, other = (Counter(_WORD.findall(part.casefold())) for part in (text, reference))
    product = sum(count * other[word] for word, count in one.items())
    lengths = math.sqrt(sum(n * n for n in one.values()) * sum(n * n for n in other.values()))
    return min(1.0, product / lengths) if lengths else 0.0


def _f_measure(matches: int, found: int, expected: int) -> float:
    return 2 * matches / (found + expected) if matches else 0.0


def _ngrams(tokens: Sequence[str], order: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(tokens[start : start + order]) for start in range(len(tokens) - order + 1))


def _tokens_13a(text: str) -> list[str]:
    """Return the tokens of mteval-v13a, which sacreBLEU scores by default."""
    for escape, plain in (*_ESCAPED, *_BRACKETS):
        text = text.replace(escape, plain)
    text = f" {text} "
    for pattern, spaced in _13A:
        text = pattern.sub(spaced, text)
    return text.split()


def _extra(module: str) -> Any:
    """Return a module of the extra `graders`.

    Raises:
        GraderError: It is not installed.
    """
    try:
        return import_module(module)
    except ImportError:
        raise GraderError(
            f"This metric needs {module.partition('.')[0]}, which is not installed: "
            f"{install_extra('graders')}"
        ) from None


_METRICS: dict[str, Callable[[str, str], float]] = {
    "cosine": _cosine,
    "fuzzy_match": _fuzzy_match,
    "bleu": _bleu,
    "gleu": _gleu,
    "meteor": _meteor,
    "rouge_l": _rouge_l,
}
