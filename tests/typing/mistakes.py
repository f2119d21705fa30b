"""Mistakes that a type checker must find: one on each line marked so."""

from __future__ import annotations

from tunesmith import AsyncClient, Client


def mistakes(client: Client) -> None:
    client.fine_tuning.jobs.create(training_file="file-1")  # mistake
    client.fine_tuning.jobs.create(model="m", training_file="f", seeed=3)  # mistake
    client.fine_tuning.jobs.create(model="m", training_file="f", seed="three")  # mistake
    client.completions.create(model="m", prompt="p", max_token=3)  # mistake
    client.completions.create(model="m", prompt="p", stream=True).choices  # mistake
    client.files.retrieve(3)  # mistake
    client.chat.completions.parse(model="m", messages=[], response_format=3)  # mistake
    client.timeout = "three"  # mistake
    client.models.list().nothing  # mistake
    client.fine_tuning.jobs.retrieve("ftjob-1").wait(timeot=3)  # mistake
    client.fine_tunes.retrieve("ft-1").wait(on_event=lambda event: event.data)  # mistake


async def forgotten(client: AsyncClient) -> None:
    job = await client.fine_tuning.jobs.retrieve("ftjob-1")
    job.refresh().status  # mistake
