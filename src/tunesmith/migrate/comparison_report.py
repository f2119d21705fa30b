"""A comparison as JSON and as Markdown, and how its numbers are written for people.

Answers of models are hostile text: they are escaped, and control characters are shown as what they
are. The HTML page is `comparison_page`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from tunesmith.progress.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from .comparison import Case, Comparison, Confusion, Measure
    from .requirements import RequirementResult
    from .statistics import Interval

__all__ = ["MEANINGS", "to_json", "to_markdown"]

REPORT_VERSION: Final = 1
_MOST_CHARACTERS = 6000  # of an answer or a prompt that is shown
MOST_CLASSES = 30

MEANINGS: Final[Mapping[str, str]] = {
    "agreement": "the same calls, the same JSON where JSON was asked for, else the same text",
    "exact_match": "the same text to the letter",
    "class_agreement": "both name the same class",
    "tool_choice": "the same functions are called, or none",
    "tool_calls": "the same functions are called with the same arguments",
    "json_fields": "share of the JSON's fields that have the same value",
    "first_token": "probability of the first token that both share",
    "similarity": "similarity of the texts",
    "answered": "a whole answer: no error, no refusal, not cut off, not empty",
    "reference_match": "does the same as the data set's own answer",
    "json_valid": "is JSON where JSON was asked for",
    "schema_valid": "follows the JSON schema that was asked for",
    "arguments_valid": "arguments of calls follow the tools' schemas",
    "characters": "length of the text",
    "completion_tokens": "tokens of the answer, as each service counts them",
    "seconds": "time to the whole answer",
    "token_logprob": "mean log probability of the answer's own tokens",
    "shared_logprob": "log probability per byte of the beginning that both answers share",
}
"""What each measure says, for people."""


def to_dict(
    comparison: Comparison,
    requirements: Sequence[RequirementResult] = (),
    *,
    cases: int | None = None,
) -> dict[str, Any]:
    """Return a comparison as plain JSON data.

    Args:
        comparison: From `compare`.
        requirements: Their results.
        cases: How many cases to list, the worst first; None for all.
    """
    return {
        "version": REPORT_VERSION,
        "old_model": comparison.old_model,
        "new_model": comparison.new_model,
        "prompts": comparison.prompts,
        "conversations": comparison.conversations,
        "recorded_twice": comparison.twice,
        "left_out": {
            "no_old_answer": comparison.old_failed,
            "not_asked": comparison.not_asked,
        },
        "by_source": dict(comparison.by_source),
        "level": comparison.level,
        "seed": comparison.seed,
        "warnings": comparison.warnings,
        "requirements": [_requirement_data(one) for one in requirements],
        "measures": [_measure_data(one) for one in comparison.measures],
        "confusion": None
        if comparison.confusion is None
        else _confusion_data(comparison.confusion),
        "recordings": {"old": dict(comparison.old_facts), "new": dict(comparison.new_facts)},
        "cases": [_case_data(one) for one in comparison.cases[:cases]],
    }


def to_json(
    comparison: Comparison,
    requirements: Sequence[RequirementResult] = (),
    *,
    cases: int | None = None,
) -> str:
    """Return a comparison as JSON, in ASCII; see `to_dict`."""
    return (
        json.dumps(to_dict(comparison, requirements, cases=cases), indent=2, ensure_ascii=True)
        + "\n"
    )


def to_markdown(
    comparison: Comparison, requirements: Sequence[RequirementResult] = (), *, cases: int = 10
) -> str:
    """Return a comparison as Markdown, with its worst cases."""
    return "\n".join(_markdown(comparison, requirements, cases)) + "\n"


def summary(comparison: Comparison) -> str:
    """Return what was compared, in a sentence."""
    return f"{comparison.new_model} against {comparison.old_model}: {counted(comparison)}"


def counted(comparison: Comparison) -> str:
    """Return how much was compared, in words."""
    return (
        f"{comparison.prompts} prompts in {comparison.conversations} conversations, "
        f"{comparison.twice} recorded twice"
    )


def rows_of(comparison: Comparison) -> list[list[str]]:
    """Return the measures as rows: name, new, old or ceiling, difference, p, prompts."""
    return [
        [
            measure.name,
            shown_interval(measure.value, measure),
            "-" if measure.old is None else shown_interval(measure.old, measure),
            "-"
            if measure.difference is None
            else shown_interval(measure.difference, measure, sign="+"),
            shown_p(measure),
            str(measure.prompts),
        ]
        for measure in comparison.measures
    ]


HEADER: Final = ("measure", "new", "old or ceiling", "difference", "p", "prompts")


def shown_interval(interval: Interval, measure: Measure, sign: str = "") -> str:
    """Return an estimate with its interval, as people read it."""
    if measure.kind == "number":
        values = (interval.estimate, interval.low, interval.high)
        value, low, high = (_number(one, sign) for one in values)
        return f"{value} [{low}, {high}]"
    factor = 100
    value, low, high = (
        f"{one * factor:{sign}.1f}" for one in (interval.estimate, interval.low, interval.high)
    )
    return f"{value} % [{low}, {high}]"


def _number(value: float, sign: str) -> str:
    """Return a number with four digits at most, and none beyond a thousandth."""
    if abs(value) >= 10:  # noqa: PLR2004 - digits
        return f"{value:{sign}.4g}" if abs(value) < 1e4 else f"{value:{sign},.0f}"  # noqa: PLR2004
    text = f"{value:{sign}.3f}".rstrip("0").rstrip(".")
    return "0" if text in {"-0", "+0", "0"} else text


def shown_p(measure: Measure) -> str:
    """Return a corrected p-value, as people read it."""
    if measure.p_corrected is None:
        return "-"
    return "< 0.001" if measure.p_corrected < 0.001 else f"{measure.p_corrected:.3f}"  # noqa: PLR2004


def _interval_data(interval: Interval | None) -> dict[str, float] | None:
    if interval is None:
        return None
    return {"value": interval.estimate, "low": interval.low, "high": interval.high}


def _measure_data(measure: Measure) -> dict[str, Any]:
    test = measure.mcnemar
    return {
        "name": measure.name,
        "meaning": MEANINGS.get(measure.name, "score of this grader"),
        "kind": measure.kind,
        "is_rate": measure.is_rate,
        "prompts": measure.prompts,
        "conversations": measure.conversations,
        "new": _interval_data(measure.value),
        "ceiling" if measure.kind == "agreement" else "old": _interval_data(measure.old),
        "difference": _interval_data(measure.difference),
        "paired": measure.paired,
        "mcnemar": None
        if test is None
        else {"only_old": test.first_only, "only_new": test.second_only, "p": test.p},
        "p": measure.p,
        "p_holm": measure.p_corrected,
    }


def _requirement_data(result: RequirementResult) -> dict[str, Any]:
    return {
        "requirement": result.requirement.text,
        "met": result.is_met,
        "interval": _interval_data(result.interval),
        "reason": result.reason,
    }


def _confusion_data(confusion: Confusion) -> dict[str, Any]:
    return {
        "classes": list(confusion.classes),
        "counts": [list(row) for row in confusion.counts],
        "agreement": [_interval_data(one) for one in confusion.agreement],
        "kappa": confusion.kappa,
    }


def _case_data(case: Case) -> dict[str, Any]:
    values = {
        name: {"old": value[0], "new": value[1]} if isinstance(value, tuple) else value
        for name, value in case.values.items()
    }
    return {
        "prompt": case.prompt.id,
        "source": case.prompt.source,
        "origin": case.prompt.origin,
        "badness": case.badness,
        "request": dict(case.prompt.body),
        "old": case.old.shown,
        "new": case.new.shown,
        "values": values,
    }


def shown_prompt(body: Mapping[str, Any]) -> str:
    """Return what was asked, as people read it."""
    if "messages" not in body:
        return str(body.get("prompt"))
    lines: list[str] = []
    for message in body["messages"]:
        content = message.get("content") if isinstance(message, dict) else message
        role = message.get("role") if isinstance(message, dict) else "?"
        text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
        if isinstance(message, dict) and message.get("tool_calls"):
            text = f"{text} {json.dumps(message['tool_calls'], ensure_ascii=False)}"
        lines.append(f"{role}: {text}")
    return "\n".join(lines)


def shortened(text: str) -> str:
    """Return a text as it is shown: control characters visible, and cut where it is very long."""
    shown = printable(text)
    if len(shown) > _MOST_CHARACTERS:
        return f"{shown[:_MOST_CHARACTERS]}… ({len(shown):,} characters)"
    return shown


def _markdown(
    comparison: Comparison, requirements: Sequence[RequirementResult], cases: int
) -> Iterator[str]:
    yield f"# {_marked(summary(comparison))}"
    yield ""
    for result in requirements:
        yield f"- **{'met' if result.is_met else 'not met'}** {_marked(result.reason)}"
    for warning in comparison.warnings:
        yield f"- {_marked(warning)}"
    if requirements or comparison.warnings:
        yield ""
    yield f"Intervals at {comparison.level:.0%}; p-values corrected by Holm."
    yield ""
    yield f"| {' | '.join(HEADER)} |"
    yield "|---|---:|---:|---:|---:|---:|"
    for row in rows_of(comparison):
        yield f"| {' | '.join(map(_marked, row))} |"
    if comparison.confusion is not None:
        yield ""
        yield from _markdown_confusion(comparison.confusion)
    bad = [case for case in comparison.cases if is_worse(case)][:cases]
    if bad:
        yield ""
        yield "## Worst cases"
    for case in bad:
        yield ""
        yield f"### {_marked(case.prompt.origin or case.prompt.id[:12])}"
        for name, text in (
            ("asked", shown_prompt(case.prompt.body)),
            ("old", case.old.shown),
            ("new", case.new.shown),
        ):
            yield ""
            yield f"{name}:"
            yield ""
            yield from (f"    {line}" for line in shortened(text).splitlines() or [""])


def _markdown_confusion(confusion: Confusion) -> Iterator[str]:
    names = confusion.classes[:MOST_CLASSES]
    yield f"| old ↓ new → | {' | '.join(map(_marked, names))} |"
    yield f"|---|{'---:|' * len(names)}"
    for name, row in zip(names, confusion.counts, strict=False):
        yield f"| {_marked(name)} | {' | '.join(map(str, row[: len(names)]))} |"


def _marked(text: str) -> str:
    """Return text escaped for Markdown, on one line."""
    for mark in "\\`*_{}[]<>#|":
        text = text.replace(mark, f"\\{mark}")
    return " ".join(printable(text).split())


def is_worse(case: Case) -> bool:
    """Return whether an answer differs or is worse; probabilities of equal ones always differ."""
    return any(
        value[0] is not None and value[1] is not None and value[1] < value[0]
        if isinstance(value, tuple)
        else value < 1
        for name, value in case.values.items()
        if name != "first_token"
    )
