"""The quickstart's steps that need no server."""

import pytest

from tunesmith.quickstart.evaluate import score
from tunesmith.quickstart.snippet import python_lines
from tunesmith.quickstart.tweets import balanced, parse_tweets, write_csv

LINES = (
    "1\t2.5\tI love &amp; adore it\r\n"
    "2\t-1.5\tI hate it\r\n"
    "3\t0.4\tIt is a thing\r\n"
    "4\t1.0\tI love &amp; adore it\r\n"
    "5\t3.0\tGreat,\tas ever\r\n"
)


def test_tweets_near_neutral_and_repeated_ones_are_left_out():
    tweets = parse_tweets(LINES)
    assert [(tweet.text, tweet.sentiment) for tweet in tweets] == [
        ("I love & adore it", "positive"),
        ("I hate it", "negative"),
        ("Great, as ever", "positive"),
    ]


def test_classes_are_balanced_and_the_choice_is_always_the_same():
    tweets = parse_tweets(LINES)
    chosen = balanced(tweets)
    assert sorted(tweet.sentiment for tweet in chosen) == ["negative", "positive"]
    assert chosen == balanced(tweets)


def test_the_csv_quotes_what_needs_it(tmp_path):
    write_csv(parse_tweets(LINES), tmp_path / "tweets.csv")
    assert (tmp_path / "tweets.csv").read_text().splitlines()[3] == '"Great, as ever",positive'


def test_scores_are_shares_of_right_answers():
    found = score(["positive", "I"], ["positive", "negative"], ["positive", "negative"])
    assert (found.answer, found.choice) == (0.5, 1.0)
    assert (found.answers, found.choices) == (2, 2)
    some = score(["positive", "I"], ["negative"], ["positive", "negative"])
    assert (some.choice, some.choices) == (0.0, 1)


@pytest.mark.parametrize("backend", [None, "http://h/v1"])
def test_the_lines_of_python_are_a_dozen_or_so_and_parse(backend):
    lines = python_lines("tweets.csv", model="ada", n_epochs=2, backend=backend)
    compile(lines, "lines", "exec")
    assert len(lines.splitlines()) <= 18
