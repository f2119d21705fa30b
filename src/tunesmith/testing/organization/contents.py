"""Everything that a recorded organisation has: besides its training, what its models answered.

Made from a seed when it is asked for, as `training_facts` says.
"""

from __future__ import annotations

import json
from typing import Any

from .tasks import TASKS
from .training_contents import PROJECT_NAMES, TrainingContents, exact_grader
from .training_facts import BASES, COMPLETION_BASES, DAY, FineTuned

__all__ = ["Contents"]


class Contents(TrainingContents):
    """The objects of an organisation; the arguments are those of `TrainingFacts`."""

    # Stored completions, batches, evals

    def stored_id(self, project: int, position: int) -> str:
        """Return the id of a stored completion; position 0 is the oldest."""
        return f"chatcmpl-{self.token('stored', project, position)}"

    def stored_number(self, project: int, position: int) -> int:
        """Return the number of the prompt that a stored completion answers."""
        return 50_000_000 + self._draw(1_000_000, "stored", project, position)

    def stored_model(self, project: int, position: int) -> FineTuned | None:
        """Return the model that a stored completion came from."""
        models = [one for one in self.models_of(project) if one.base not in COMPLETION_BASES]
        return models[self._draw(len(models), "by", project, position)] if models else None

    def batch_pairs(self, project: int) -> list[tuple[int, int | None]]:
        """Return the batches of a project, newest first: input file and answers, if they remain."""
        inputs = [one for one in self._files_of[project] if self.purpose(one) == "batch"]
        outputs = [one for one in self._files_of[project] if self.purpose(one) == "batch_output"]
        pairs = zip(inputs, [*outputs, *[None] * len(inputs)], strict=False)
        return list(pairs)

    def batch(self, input_file: int, output_file: int | None) -> dict[str, Any]:
        """Return a batch object."""
        created, lines = self.file_created(input_file) + 60, max(4, self.rows // 4)
        return {
            "id": f"batch_{self.token('batch', input_file)}",
            "object": "batch",
            "endpoint": "/v1/chat/completions",
            "model": BASES[self.service][0],
            "errors": None,
            "input_file_id": self.file_id(input_file),
            "completion_window": "24h",
            "status": "completed",
            "output_file_id": None if output_file is None else self.file_id(output_file),
            "error_file_id": None,
            "created_at": created,
            "in_progress_at": created + 60,
            "expires_at": created + DAY,
            "finalizing_at": created + 3000,
            "completed_at": created + 3600,
            "failed_at": None,
            "expired_at": None,
            "cancelling_at": None,
            "cancelled_at": None,
            "request_counts": {"total": lines, "completed": lines, "failed": 0},
            "metadata": {"week": str(created // (7 * DAY))},
        }

    def eval_ids(self, project: int) -> list[str]:
        """Return the evals of a project, oldest first."""
        return [f"eval_{self.token('eval', project, at, length=32)}" for at in range(3)]

    def eval(self, project: int, position: int) -> dict[str, Any]:
        """Return an eval object."""
        return {
            "object": "eval",
            "id": self.eval_ids(project)[position],
            "data_source_config": {
                "type": "custom",
                "schema": {"type": "object", "properties": {"item": {"type": "object"}}},
            },
            "testing_criteria": [{**exact_grader(), "id": f"exact-{position}"}],
            "name": f"{TASKS[position % len(TASKS)].name} are right",
            "created_at": self.now - (90 - position) * DAY,
            "metadata": {},
        }

    def eval_run_ids(self, project: int, position: int) -> list[str]:
        """Return the runs of an eval, oldest first."""
        return [f"evalrun_{self.token('run', project, position, at, length=32)}" for at in range(2)]

    def eval_run(self, project: int, position: int, run: int) -> dict[str, Any]:
        """Return a run; every second one reads a file."""
        files = [one for one in self._files_of[project] if self.purpose(one) == "evals"]
        source: dict[str, Any] = {"type": "file_content", "content": [{"item": {"text": "…"}}]}
        if run and files:
            source = {"type": "file_id", "id": self.file_id(files[position % len(files)])}
        items = self.eval_item_count
        return {
            "object": "eval.run",
            "id": self.eval_run_ids(project, position)[run],
            "eval_id": self.eval_ids(project)[position],
            "report_url": "https://platform.openai.com/evaluations/report",
            "status": "completed",
            "model": BASES[self.service][0],
            "name": f"run {run}",
            "created_at": self.now - (80 - position - run) * DAY,
            "result_counts": {"total": items, "errored": 0, "failed": 0, "passed": items},
            "per_model_usage": None,
            "per_testing_criteria_results": None,
            "data_source": {"type": "jsonl", "source": source},
            "error": None,
            "metadata": {},
        }

    eval_item_count: int = 30
    """The items of each run of an eval."""

    def eval_item(self, project: int, position: int, run: int, item: int) -> dict[str, Any]:
        """Return one item of a run."""
        task = TASKS[position % len(TASKS)]
        number = 60_000_000 + item
        text, right = task.prompt(number), task.solve(task.prompt(number))
        said = right["content"] or json.dumps(right["tool_calls"])
        return {
            "object": "eval.run.output_item",
            "id": f"outputitem_{self.token('item', project, position, run, item, length=32)}",
            "created_at": self.now - 70 * DAY + item,
            "run_id": self.eval_run_ids(project, position)[run],
            "eval_id": self.eval_ids(project)[position],
            "status": "pass",
            "datasource_item_id": item,
            "datasource_item": {"text": text, "answer": said},
            "results": [{"name": "exact", "sample": None, "passed": True, "score": 1.0}],
            "sample": {
                "input": task.messages(number),
                "output": [{"role": "assistant", "content": said}],
                "finish_reason": "stop",
                "model": BASES[self.service][0],
                "usage": {"total_tokens": 60, "completion_tokens": 10, "prompt_tokens": 50}
                | {"cached_tokens": 0},
                "error": None,
                "temperature": 0,
                "max_completion_tokens": 200,
                "top_p": 1,
                "seed": 42,
            },
        }

    # The organisation

    def project_object(self, position: int) -> dict[str, Any]:
        """Return a project object; the position after the last is that of the archived one."""
        archived = position == len(self.projects)
        return {
            "id": self.archived_project if archived else self.projects[position],
            "object": "organization.project",
            "name": PROJECT_NAMES[-1 if archived else position % 4],
            "created_at": self.now - 800 * DAY,
            "archived_at": self.now - 100 * DAY if archived else None,
            "status": "archived" if archived else "active",
        }

    def rate_limits(self) -> list[dict[str, Any]]:
        """Return the limits of each model, the same in every project."""
        return [
            {
                "object": "project.rate_limit",
                "id": f"rl-{base}",
                "model": base,
                "max_requests_per_1_minute": 600,
                "max_tokens_per_1_minute": 150_000,
                "batch_1_day_max_input_tokens": 2_000_000,
            }
            for base in BASES[self.service]
        ]

    def cost_bucket(self, day: int, project: int) -> dict[str, Any]:
        """Return what fine-tuning cost a project on one day, counted from 1970."""
        cents = self._draw(2000, "costs", day, project)
        return {
            "object": "organization.costs.result",
            "amount": {"value": cents / 100, "currency": "usd"},
            "line_item": "ft-gpt-4o-mini-2024-07-18, training",
            "project_id": self.projects[project],
        }
