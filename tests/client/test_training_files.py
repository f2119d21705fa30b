"""From a path to a model that knows its prompt format, on the engine's own API."""

from __future__ import annotations

from tunesmith.datasets import PromptFormat
from tunesmith.testing import simulate

ROWS = (
    '{"prompt": "good ->", "completion": " yes\\n"}\n{"prompt": "bad ->", "completion": " no\\n"}\n'
)
FORMAT = PromptFormat(separator=" ->", stop="\n")


def test_the_model_knows_the_format_saved_beside_its_training_file(tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_text(ROWS)
    with simulate() as engine, engine.client() as client:
        bare = client.fine_tunes.create(training_file=path).wait(poll=0.01)
        FORMAT.save(tmp_path / "train.format.json")
        legacy = client.fine_tunes.create(training_file=path).wait(poll=0.01)
        job = client.fine_tuning.jobs.create(model="gpt-4o-mini", training_file=path)
        formats = [
            (client.models.retrieve(name).model_extra or {}).get("prompt_format")
            for name in (bare.fine_tuned_model, legacy.fine_tuned_model)
        ]
        assert formats == [None, FORMAT.to_dict()]
        assert job.training_file == legacy.training_files[0].id
        assert len(list(client.files.list(purpose="fine-tune"))) == 2
