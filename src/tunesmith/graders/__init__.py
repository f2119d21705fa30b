"""Graders: how good an answer is, by text, by a model's judgement, by a formula, by own code.

    from tunesmith.graders import grade

    grader = {
        "type": "text_similarity",
        "name": "close",
        "input": "{{ sample.output_text }}",
        "reference": "{{ item.answer }}",
        "evaluation_metric": "rouge_l",
    }
    grade(grader, "the cat sat", {"answer": "the cat sat down"}).reward

The definitions are those of the API. Nothing here knows HTTP or a model: judges and the sandbox are
passed in (`grade`), or asked by whoever drives a `Grading`.
"""

from .definitions import Grader, GraderError, parse_grader
from .grading import (
    Failure,
    Grading,
    GradingErrors,
    GradingResult,
    JudgeAnswer,
    JudgeRequest,
    PythonRun,
    PythonValue,
    grade,
    sample_of,
)
from .python_sandbox import PythonSandbox

__all__ = [
    "Failure",
    "Grader",
    "GraderError",
    "Grading",
    "GradingErrors",
    "GradingResult",
    "JudgeAnswer",
    "JudgeRequest",
    "PythonRun",
    "PythonSandbox",
    "PythonValue",
    "grade",
    "parse_grader",
    "sample_of",
]
