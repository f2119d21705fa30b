"""A comparison as one HTML page that stands alone.

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

from .comparison_report import (
    HEADER,
    MEANINGS,
    MOST_CLASSES,
    counted,
    is_worse,
    rows_of,
    shortened,
    shown_prompt,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .comparison import Comparison, Confusion, Measure
    from .requirements import RequirementResult

__all__ = ["to_html"]

_MOST_WORDS = 400  # of an answer whose differences are marked
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


def to_html(
    comparison: Comparison, requirements: Sequence[RequirementResult] = (), *, cases: int = 100
) -> str:
    """Return a comparison as one HTML page that stands alone, with its worst cases."""
    return "\n".join(_html(comparison, requirements, cases)) + "\n"


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
    yield f"<h1>{title}</h1><p>{counted(comparison)}.</p>"
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
    names = confusion.classes[:MOST_CLASSES]
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
    bad = [case for case in comparison.cases if is_worse(case)]
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
        yield f"<pre>{escape(shortened(shown_prompt(case.prompt.body)))}</pre>"
        old, new = _marked_differences(shortened(case.old.shown), shortened(case.new.shown))
        yield f'<div class="sides"><div>old<pre>{old}</pre></div>'
        yield f"<div>new<pre>{new}</pre></div></div></details>"


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
