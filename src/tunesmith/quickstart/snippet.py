"""The lines of Python that do what the quickstart did. A test runs them unchanged."""

from __future__ import annotations

from string import Template

__all__ = ["python_lines"]

# The values of the user's run are filled in, so that the lines can be pasted and run.
LINES = Template("""\
from tunesmith import $imported

$open
    prompt_format = datasets.PromptFormat(separator=" ->", stop="")
    tweets = datasets.read($data, prompt="tweet", completion="sentiment")
    train, valid = tweets.plan(prompt_format=prompt_format).apply().split(validation=0.2)
    job = client.fine_tunes.create(
        training_file=train.write("train.jsonl"), validation_file=valid.write("valid.jsonl"),
        model=$model, n_epochs=$n_epochs, batch_size=8, compute_classification_metrics=True,
        classification_positive_class=" positive",
    )
    job = client.fine_tunes.wait(job.id, on_event=lambda event: print(event.message))
    answer = client.completions.create(
        model=job.fine_tuned_model, prompt=prompt_format.format_prompt("What a lovely day!"),
        **prompt_format.inference_parameters(classes=["positive", "negative"]),
    )
    print(answer.choices[0].text)
""")


def python_lines(data: str, *, model: str, n_epochs: int, backend: str | None) -> str:
    """Return the lines, for a running server or for one that they start themselves.

    Args:
        data: Path of the CSV file.
        model: Base model to start from.
        n_epochs: Passes over the data.
        backend: Base URL of the server; None starts the embedded engine.
    """
    if backend is None:
        imported = "datasets, engine"
        opening = "with engine.start() as server, server.client() as client:"
    else:
        imported = "Client, datasets"
        opening = f"with Client(base_url={backend!r}) as client:"
    return LINES.substitute(
        imported=imported,
        open=opening,
        data=repr(data),
        model=repr(model),
        n_epochs=n_epochs,
    )
