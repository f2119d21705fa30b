"""Answers for a program that asks questions on the terminal."""

from __future__ import annotations


class Script:
    """Answers in order; after the last one the default."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.said = []
        self.asked = []

    def say(self, text):
        self.said.append(text)

    def ask(self, question, *, default):
        self.asked.append(question)
        return self.answers.pop(0) == "yes" if self.answers else default
