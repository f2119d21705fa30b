"""The whole comparison: both recordings read, graders asked, the measures made.

Judges see one answer at a time and nothing that says whose it is, in an order that depends on the
prompts alone. The blocking and the asyncio function differ by the loop alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tunesmith.errors import TunesmithError
from tunesmith.graders import (
    Failure,
    Grader,
    Grading,
    JudgeAnswer,
    JudgeRequest,
    PythonSandbox,
    parse_grader,
    sample_of,
)

from .comparison import Comparison, compare_recordings, pairs_of
from .recordings import Recording, RecordingError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence

    from tunesmith.client import AsyncClient, Client
    from tunesmith.graders.definitions import TextMetric
    from tunesmith.graders.grading import Outcome
    from tunesmith.resources.bulk import MapResult

    from .comparison import Pair

__all__ = ["compare", "compare_async"]


def compare(
    old: Recording | str | os.PathLike[str],
    new: Recording | str | os.PathLike[str],
    *,
    graders: Sequence[Mapping[str, Any]] = (),
    client: Client | None = None,
    run_python: bool = False,
    classes: Sequence[str] | None = None,
    similarity: TextMetric = "rouge_l",
    concurrency: int = 16,
    level: float = 0.95,
    seed: int = 0,
) -> Comparison:
    """Compare a new model's recorded answers with an old one's.

    Args:
        old: The old model's recording, or its folder.
        new: The new model's, of the same prompts: ask it with `record`.
        graders: Definitions as the API takes them; each needs a name. They find the prompt's row
            as `item` (its own answer as `item.reference`), and the answer as `sample`.
        client: For the server that has the judges of score_model and label_model graders.
        run_python: Run the source code of python graders, in a sandbox. Only of graders that you
            have read.
        classes: The classes that answers name; None to recognise them, an empty list for none.
        similarity: The metric of text similarity.
        concurrency: Judges' requests at one time at most.
        level: Confidence of the intervals.
        seed: Of the bootstrap.

    Raises:
        RecordingError: No prompt has an answer in both recordings, or a grader has no name.
        GraderError: A grader cannot run.
    """
    work = _Work(_read(old), _read(new), graders, run_python=run_python)
    if work.needs_judges:
        judged = _needed(client).chat.completions.map(
            work.judge_requests(), concurrency=concurrency, ordered=False
        )
        for result in judged:
            work.accept(result)
    return work.comparison(classes=classes, similarity=similarity, level=level, seed=seed)


async def compare_async(
    old: Recording | str | os.PathLike[str],
    new: Recording | str | os.PathLike[str],
    *,
    graders: Sequence[Mapping[str, Any]] = (),
    client: AsyncClient | None = None,
    run_python: bool = False,
    classes: Sequence[str] | None = None,
    similarity: TextMetric = "rouge_l",
    concurrency: int = 16,
    level: float = 0.95,
    seed: int = 0,
) -> Comparison:
    """Do the same as `compare`, with an asyncio client for the judges.

    The statistics take a second or so of the processor: call it in a task of its own.
    """
    work = _Work(_read(old), _read(new), graders, run_python=run_python)
    if work.needs_judges:
        judged = _needed(client).chat.completions.map(
            work.judge_requests(), concurrency=concurrency, ordered=False
        )
        async for result in judged:
            work.accept(result)
    return work.comparison(classes=classes, similarity=similarity, level=level, seed=seed)


@dataclass(slots=True)
class _Graded:
    """One answer before one grader."""

    grader: str
    side: str
    prompt: str
    grading: Grading
    outcomes: dict[str, Outcome]


class _Work:
    """What has to be graded, and what came of it."""

    def __init__(
        self,
        old: Recording,
        new: Recording,
        graders: Sequence[Mapping[str, Any]],
        *,
        run_python: bool,
    ) -> None:
        self._old = old
        self._new = new
        self._waiting: list[tuple[_Graded, str]] = []
        self._sandbox = PythonSandbox() if run_python else None
        parsed = _named(graders)
        pairs, _, _ = pairs_of(old, new) if parsed else ([], 0, 0)
        self._graded = [
            _graded(name, grader, pair, side)
            for name, grader in parsed.items()
            for pair in pairs
            for side in ("old", "new")
        ]
        # Answers of both sides in one order that has nothing to do with whose they are.
        self._graded.sort(key=_blind_order)
        for one in self._graded:
            for key, task in one.grading.tasks.items():
                if isinstance(task, JudgeRequest):
                    self._waiting.append((one, key))
                elif self._sandbox is None:
                    raise RecordingError(
                        f"The grader {one.grader!r} runs Python code. Read it, then allow it: "
                        "run_python=True, or --run-python."
                    )

    @property
    def needs_judges(self) -> bool:
        return bool(self._waiting)

    def judge_requests(self) -> Iterator[dict[str, Any]]:
        for one, key in self._waiting:
            task = one.grading.tasks[key]
            assert isinstance(task, JudgeRequest)  # noqa: S101 - only these wait
            yield _judge_body(task)

    def accept(self, result: MapResult[Any]) -> None:
        one, key = self._waiting[result.index]
        one.outcomes[key] = _outcome_of(result)

    def comparison(self, **options: Any) -> Comparison:
        scores: dict[str, dict[tuple[str, str], float | None]] = {}
        faults: dict[str, str] = {}
        for one in self._graded:
            for key, task in one.grading.tasks.items():
                if not isinstance(task, JudgeRequest) and self._sandbox is not None:
                    one.outcomes[key] = self._sandbox.run(task)
            result = one.grading.conclude(one.outcomes)
            failed = result.explanation is not None
            if failed:
                faults.setdefault(one.grader, str(result.explanation))
            # An answer that a grader cannot read, such as text where JSON is due, scores 0; a judge
            # that does not answer says nothing about the answer.
            lost = (
                result.errors.model_grader_server_error or result.errors.python_grader_server_error
            )
            value = None if lost else result.reward
            if result.passed is not None and not lost:
                value = float(result.passed)
            scores.setdefault(one.grader, {})[one.side, one.prompt] = value
        comparison = compare_recordings(self._old, self._new, scores=scores, **options)
        for grader, fault in faults.items():
            count = sum(value is None for value in scores[grader].values())
            lost_text = f"; {count} answers have no score" if count else ""
            comparison.warnings.append(f"The grader {grader!r} met an error: {fault}{lost_text}")
        return comparison


def _graded(name: str, grader: Grader, pair: Pair, side: str) -> _Graded:
    answer = pair.old if side == "old" else pair.new
    sample = sample_of(
        answer.response if answer.response is not None and pair.prompt.is_chat else answer.text
    )
    return _Graded(name, side, pair.prompt.id, Grading(grader, sample, _item(pair)), {})


def _item(pair: Pair) -> dict[str, Any]:
    """Return what templates find as `item`: the row, its reference as text, and what was asked."""
    row = pair.prompt.item
    item: dict[str, Any] = dict(row) if isinstance(row, Mapping) else {"value": row}
    reference = pair.prompt.reference
    text = reference.get("content") if isinstance(reference, Mapping) else reference
    if isinstance(text, str):
        item.setdefault("reference", text)
    for name in ("messages", "prompt"):
        if name in pair.prompt.body:
            item[name] = pair.prompt.body[name]
    return item


def _named(graders: Sequence[Mapping[str, Any]]) -> dict[str, Grader]:
    named: dict[str, Grader] = {}
    for number, definition in enumerate(graders, start=1):
        grader = parse_grader(dict(definition))
        if not grader.name or grader.name in named:
            raise RecordingError(
                f"Grader {number} needs a name of its own, by which the report names it."
            )
        named[grader.name] = grader
    return named


def _blind_order(one: _Graded) -> str:
    text = f"{one.grader}\n{one.prompt}\n{one.side}"
    return hashlib.sha256(text.encode()).hexdigest()


def _judge_body(task: JudgeRequest) -> dict[str, Any]:
    sampling = dict(task.sampling)
    if "max_completions_tokens" in sampling:  # the graders' own spelling
        sampling["max_completion_tokens"] = sampling.pop("max_completions_tokens")
    return {
        "temperature": 0,
        **sampling,
        "model": task.model,
        "messages": task.messages,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "grade", "strict": True, "schema": task.schema},
        },
    }


def _outcome_of(result: MapResult[Any]) -> Outcome:
    if result.response is None:
        return Failure(str(result.error))
    message = result.response.choices[0].message
    usage = result.response.usage
    tokens = (
        {}
        if usage is None
        else {name: count for name, count in usage.to_dict().items() if isinstance(count, int)}
    )
    if message.refusal:
        return JudgeAnswer(message.refusal, tokens, is_refusal=True)
    return JudgeAnswer(message.content or "", tokens)


def _read(recording: Recording | str | os.PathLike[str]) -> Recording:
    return recording if isinstance(recording, Recording) else Recording.read(recording)


def _needed(client: Any) -> Any:
    if client is None:
        raise TunesmithError("A grader asks a model; pass client=… for the server that has it.")
    return client
