"""lm-eval against an engine: multiple choice, perplexity and generation; completions and chat.

The tasks are its own kinds on a few rows of a local file, since no data set is downloaded here.
Usage: python use_lm_eval.py BASE_URL TRAINING_FILE MODEL
"""

import json
import os
import sys
import tempfile
from pathlib import Path

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}

import lm_eval
from lm_eval.tasks import TaskManager

base_url, _, model = sys.argv[1:4]

CHOICE = """
task: moods
output_type: multiple_choice
doc_to_text: "{{text}} ->"
doc_to_choice: ["positive", "negative"]
doc_to_target: label
metric_list: [{metric: acc}, {metric: acc_norm}]
"""
ROLLING = """
task: texts
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{text}}"
metric_list: [{metric: word_perplexity}, {metric: byte_perplexity}]
"""
GENERATED = """
task: written
output_type: generate_until
doc_to_text: "{{text}} ->"
doc_to_target: "{{label}}"
generation_kwargs: {until: ["\\n", "###", "Q:", "A:", "END"], max_gen_toks: 5, do_sample: false}
metric_list: [{metric: exact_match}]
"""


def write_tasks(folder: Path) -> None:
    rows = [
        {"text": f"I {verb} the {thing}", "label": mood}
        for thing in ("sea", "game", "phone")
        for verb, mood in (("love", "positive"), ("hate", "negative"))
    ]
    data = folder / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = f"""
dataset_path: json
dataset_kwargs: {{data_files: {{test: '{data}'}}}}
test_split: test
"""
    for number, task in enumerate((CHOICE, ROLLING, GENERATED)):
        (folder / f"task{number}.yaml").write_text(task + source)


def evaluate(kind: str, path: str, tasks: list[str], **options: object) -> dict[str, dict]:
    arguments = {"model": model, "base_url": f"{base_url}{path}", **options}
    report = lm_eval.simple_evaluate(
        model=kind,
        model_args=arguments,
        tasks=tasks,
        task_manager=manager,
        bootstrap_iters=0,
        apply_chat_template=kind == "local-chat-completions",
    )
    return report["results"]


with tempfile.TemporaryDirectory() as folder:
    write_tasks(Path(folder))
    manager = TaskManager(include_path=folder, include_defaults=False)
    all_tasks = ["moods", "texts", "written"]
    # The tokenizer is the engine's, found by lm-eval itself: no torch, no local copy.
    batched = evaluate("local-completions", "/completions", all_tasks, batch_size=4)
    single = evaluate("local-completions", "/completions", all_tasks, num_concurrent=4)
    text = evaluate("local-completions", "/completions", ["moods"], tokenized_requests=False)
    assert batched["moods"]["acc,none"] == single["moods"]["acc,none"] == text["moods"]["acc,none"]
    for name in ("word_perplexity,none", "byte_perplexity,none"):
        one, other = batched["texts"][name], single["texts"][name]
        assert abs(one - other) <= 0.01 * one, (one, other)
    print(batched)
    chat = evaluate("local-chat-completions", "/chat/completions", ["written"], num_concurrent=2)
    assert "exact_match,none" in chat["written"]
print("ok")
