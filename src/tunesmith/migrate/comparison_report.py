"""A comparison as JSON, as Markdown, and as one HTML page that stands alone.

The page has no script and refers to nothing outside itself; a policy in it forbids both. Answers of
models are hostile text: they are escaped, and control characters are shown as what they are.
"""

from __future__ import annotations

import difflib
import json
import re
import time
from html import escape
from typing import TYPE_CHECKING, Any, Final

from tunesmith._version import __version__
from tunesmith.progress.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from .comparison import Case, Comparison, Confusion, Measure
    from .requirements import RequirementResult
    from .statistics import Interval

__all__ = ["MEANINGS", "to_html", "to_json", "to_markdown"]

REPORT_VERSION: Final = 1
_MOST_WORDS = 400  # of an answer whose differences are marked
_MOST_CHARACTERS = 6000  # of an answer or a prompt that is shown
_MOST_CLASSES = 30

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


def to_html(
    comparison: Comparison, requirements: Sequence[RequirementResult] = (), *, cases: int = 100
) -> str:
    """Return a comparison as one HTML page that stands alone, with its worst cases."""
    return "\n".join(_html(comparison, requirements, cases)) + "\n"


def summary(comparison: Comparison) -> str:
    """Return what was compared, in a sentence."""
    return f"{comparison.new_model} against {comparison.old_model}: {_counted(comparison)}"


def _counted(comparison: Comparison) -> str:
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


def _short(text: str) -> str:
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
    bad = [case for case in comparison.cases if _is_worse(case)][:cases]
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
            yield from (f"    {line}" for line in _short(text).splitlines() or [""])


def _markdown_confusion(confusion: Confusion) -> Iterator[str]:
    names = confusion.classes[:_MOST_CLASSES]
    yield f"| old ↓ new → | {' | '.join(map(_marked, names))} |"
    yield f"|---|{'---:|' * len(names)}"
    for name, row in zip(names, confusion.counts, strict=False):
        yield f"| {_marked(name)} | {' | '.join(map(str, row[: len(names)]))} |"


def _marked(text: str) -> str:
    """Return text escaped for Markdown, on one line."""
    for mark in "\\`*_{}[]<>#|":
        text = text.replace(mark, f"\\{mark}")
    return " ".join(printable(text).split())


_STYLE: Final = """
:root { color-scheme: light dark; --line: #8885; --old: #b3261e22; --new: #1b7f3b22; }
h1 { overflow-wrap: anywhere; font-size: 1.5rem; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { border-bottom: 1px solid var(--line); padding: .3rem .7rem; text-align: right; }
th:first-child, td:first-child { text-align: left; }
td small { display: block; opacity: .7; } td:not(:first-child) { white-space: nowrap; }
.facts td { text-align: left; white-space: normal !important; overflow-wrap: anywhere; }
.facts td:first-child { min-width: 14rem; }
.wide { overflow-x: auto; }
.met { color: #1b7f3b; } .unmet { color: #b3261e; }
.same { background: #8882; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: .3rem 0; padding: .6rem;
  background: #8881; border-radius: .3rem; unicode-bidi: plaintext; }
del { background: var(--old); } ins { background: var(--new); text-decoration: none; }
.sides { display: grid; grid-template-columns: 1fr 1fr; gap: 1rem; }
summary { cursor: pointer; padding: .4rem 0; }
svg { vertical-align: middle; }
"""


def _html(
    comparison: Comparison, requirements: Sequence[RequirementResult], cases: int
) -> Iterator[str]:
    title = escape(printable(f"{comparison.new_model} against {comparison.old_model}"))
    yield '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
    yield (
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">"
    )
    yield '<meta name="referrer" content="no-referrer">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{title}</title><style>{_STYLE}</style></head><body>"
    yield f"<h1>{title}</h1><p>{_counted(comparison)}.</p>"
    if requirements or comparison.warnings:
        yield "<ul>"
        for result in requirements:
            kind = "met" if result.is_met else "unmet"
            yield f'<li class="{kind}">{escape(printable(result.reason))}</li>'
        for warning in comparison.warnings:
            yield f"<li>{escape(printable(warning))}</li>"
        yield "</ul>"
    yield from _html_measures(comparison)
    if comparison.confusion is not None:
        yield from _html_confusion(comparison.confusion)
    yield from _html_cases(comparison, cases)
    yield from _html_origin(comparison)
    yield "</body></html>"


def _html_measures(comparison: Comparison) -> Iterator[str]:
    yield "<h2>Measures</h2>"
    yield (
        f"<p>Intervals at {comparison.level:.0%}. The ceiling of an agreement is how far the old "
        "model agrees with itself where it was asked twice, and is compared there alone; a "
        "difference is paired, prompt by prompt; p-values are corrected by Holm for the number of "
        "tests.</p>"
    )
    yield '<div class="wide"><table><thead><tr>'
    yield "".join(f"<th>{escape(name)}</th>" for name in (*HEADER, "")) + "</tr></thead><tbody>"
    for measure, row in zip(comparison.measures, rows_of(comparison), strict=True):
        meaning = MEANINGS.get(measure.name, "score of this grader")
        name = f"{escape(printable(row[0]))}<small>{escape(meaning)}</small>"
        cells = "".join(f"<td>{_interval_cell(cell)}</td>" for cell in row[1:])
        yield f"<tr><td>{name}</td>{cells}<td>{_bars(measure)}</td></tr>"
    yield "</tbody></table></div>"


def _interval_cell(text: str) -> str:
    """Return a value with its interval below it, neither of them broken."""
    value, bracket, rest = text.partition(" [")
    return escape(value) + (f"<small>[{escape(rest)}</small>" if bracket else "")


def _bars(measure: Measure) -> str:
    """Return the intervals of new and old as a drawing, 0 at the left and 1 at the right."""
    if measure.kind == "number":
        return ""
    lines: list[str] = []
    for height, interval, colour in ((7, measure.value, "#1b7f3b"), (15, measure.old, "#888")):
        if interval is None:
            continue
        low, high, value = (
            2 + 120 * min(1.0, max(0.0, one))
            for one in (interval.low, interval.high, interval.estimate)
        )
        lines.append(
            f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{height}" y2="{height}" stroke="{colour}" '
            f'stroke-width="2"/><circle cx="{value:.1f}" cy="{height}" r="3" fill="{colour}"/>'
        )
    return (
        '<svg width="124" height="22" role="img" aria-label="intervals, new above old">'
        '<line x1="2" x2="122" y1="20" y2="20" stroke="#8885"/>' + "".join(lines) + "</svg>"
    )


def _html_confusion(confusion: Confusion) -> Iterator[str]:
    names = confusion.classes[:_MOST_CLASSES]
    kappa = "" if confusion.kappa is None else f" Cohen's kappa {confusion.kappa:.3f}."
    more = len(confusion.classes) - len(names)
    hidden = f" {more} more classes are in the JSON." if more else ""
    yield f"<h2>Classes</h2><p>Rows: the old model. Columns: the new one.{kappa}{hidden}</p>"
    head = "".join(f"<th>{escape(printable(name))}</th>" for name in names)
    yield (
        f'<div class="wide"><table><thead><tr><th></th>{head}<th>agreement</th></tr></thead><tbody>'
    )
    for place, name in enumerate(names):
        cells = "".join(
            f'<td class="same">{count}</td>' if place == column else f"<td>{count}</td>"
            for column, count in enumerate(confusion.counts[place][: len(names)])
        )
        interval = confusion.agreement[place]
        share = (
            "-"
            if interval is None
            else f"{interval.estimate:.1%} [{interval.low:.1%}, {interval.high:.1%}]"
        )
        yield f"<tr><td>{escape(printable(name))}</td>{cells}<td>{share}</td></tr>"
    yield "</tbody></table></div>"


def _html_cases(comparison: Comparison, cases: int) -> Iterator[str]:
    bad = [case for case in comparison.cases if _is_worse(case)]
    yield "<h2>Worst cases</h2>"
    some = f"; the worst {cases} are here" if len(bad) > cases else ""
    verb = "differs or is worse" if len(bad) == 1 else "differ or are worse"
    yield f"<p>Of {comparison.prompts} answers {len(bad) or 'none'} {verb}{some}.</p>"
    for number, case in enumerate(bad[:cases]):
        opened = " open" if number < 5 else ""  # noqa: PLR2004 - what fits on a screen or two
        values = ", ".join(_shown_value(name, value) for name, value in case.values.items())
        origin = escape(printable(case.prompt.origin or case.prompt.id[:12]))
        yield f"<details{opened}><summary><b>{origin}</b> ({case.prompt.source}) "
        yield f"{escape(printable(values))}</summary>"
        yield f"<pre>{escape(_short(shown_prompt(case.prompt.body)))}</pre>"
        old, new = _marked_differences(_short(case.old.shown), _short(case.new.shown))
        yield f'<div class="sides"><div>old<pre>{old}</pre></div>'
        yield f"<div>new<pre>{new}</pre></div></div></details>"


def _is_worse(case: Case) -> bool:
    """Return whether an answer differs or is worse; probabilities of equal ones always differ."""
    return any(
        value[0] is not None and value[1] is not None and value[1] < value[0]
        if isinstance(value, tuple)
        else value < 1
        for name, value in case.values.items()
        if name != "first_token"
    )


def _shown_value(name: str, value: Any) -> str:
    if isinstance(value, tuple):
        old, new = ("-" if one is None else f"{one:.2g}" for one in value)
        return f"{name} {old} → {new}"
    return f"{name} {value:.2g}"


def _marked_differences(old: str, new: str) -> tuple[str, str]:
    """Return both texts as HTML, with the words marked that only one of them has."""
    words: list[list[str]] = [re.findall(r"\s+|\w+|[^\w\s]", text) for text in (old, new)]
    if max(map(len, words)) > 2 * _MOST_WORDS:  # the time to compare grows with their square
        return escape(old), escape(new)
    parts: tuple[list[str], list[str]] = ([], [])
    matcher = difflib.SequenceMatcher(None, words[0], words[1], autojunk=False)
    for kind, start, end, new_start, new_end in matcher.get_opcodes():
        texts = (
            escape("".join(words[0][start:end])),
            escape("".join(words[1][new_start:new_end])),
        )
        for side, mark in ((0, "del"), (1, "ins")):
            text = texts[side]
            parts[side].append(text if kind == "equal" or not text else f"<{mark}>{text}</{mark}>")
    return "".join(parts[0]), "".join(parts[1])


def _html_origin(comparison: Comparison) -> Iterator[str]:
    yield '<h2>How this was made</h2><table class="facts"><tbody>'
    sources = ", ".join(f"{count} {name}" for name, count in comparison.by_source.items())
    lines: dict[str, object] = {
        "prompts by source": sources,
        "left out: no old answer": comparison.old_failed,
        "left out: new model not asked": comparison.not_asked,
        "seed of the resampling": comparison.seed,
        "tunesmith": __version__,
        "made": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    }
    for side, facts in (("old", comparison.old_facts), ("new", comparison.new_facts)):
        for name in ("model", "base_url", "purpose", "settings"):
            if name in facts:
                lines[f"{side}: {name}"] = facts[name]
    for name, value in lines.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        yield f"<tr><td>{escape(name)}</td><td>{escape(printable(text))}</td></tr>"
    yield "</tbody></table>"
