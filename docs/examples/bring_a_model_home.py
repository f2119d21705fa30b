"""The whole way of one fine-tuned model from a hosted service to an engine, step by step.

    python docs/examples/bring_a_model_home.py                   # OpenAI
    python docs/examples/bring_a_model_home.py --service azure
    python docs/examples/bring_a_model_home.py --tiny            # a random model, to see the steps

Inventory, pull, record, plan, train, compare, mirror, cut: one command of `tunesmith migrate` each,
printed before it runs. The service is a recorded organisation on this machine, so nothing is paid
for and nothing leaves; with an account of your own the commands are the same, without
`--api-base`. The base model (135 million parameters) is downloaded if it is not there. What is
made stays in the folder `brought-home`; `report.html` in it is the comparison.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith import Client
from tunesmith import engine as engines
from tunesmith.testing import Quirks, recorded_organization, write_tiny_home, write_tiny_model

if TYPE_CHECKING:
    from tunesmith.testing import RecordedOrganization

BASE = "smollm2-135m-instruct"
KEY = {"openai": "OPENAI_API_KEY", "azure": "AZURE_OPENAI_API_KEY"}
INCOMPLETE, NOT_MET = 5, 4  # exit codes that are news and not failures


def run(*arguments: object, may_be: int = 0) -> str:
    """Run a command of tunesmith as it would be typed; return what it printed."""
    words = [str(one) for one in arguments]
    print(f"\n$ tunesmith {shlex.join(words)}", flush=True)
    command = [sys.executable, "-m", "tunesmith.cli", *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    shown = "(JSON)\n" if "--json" in words else done.stdout
    print(shown, end="", flush=True)
    if done.returncode not in {0, may_be}:
        raise SystemExit(f"It ended with the exit code {done.returncode}.")
    return done.stdout


TASKS = {"reviews", "tickets"}  # classes, which a model of this size learns in minutes


def choose(organization: RecordedOrganization, found: dict[str, Any]) -> dict[str, Any]:
    """Return the model to bring home: it answers, and the files that it learned from are there."""
    for model in found["models"]:
        files = [model["training_file"], model["validation_file"]]
        is_whole = all(one is not None and one["status"] == "ok" for one in files)
        known = organization.contents.fine_tuned(model["name"])
        if known is None or known.task is None or known.task.name not in TASKS:
            continue
        if organization.deployments and known.name not in organization.deployments.values():
            continue  # on Azure only what is deployed answers
        if model["answers"] and model["method"] == "supervised" and is_whole:
            return dict(model)
    raise SystemExit("No model of the organisation can be brought home whole.")


def bring_home(options: argparse.Namespace, organization: RecordedOrganization) -> None:
    folder = options.folder
    is_azure = options.service == "azure"
    keys = organization.keys
    os.environ[KEY[options.service]] = keys[organization.projects[0]]
    if is_azure:
        service = projects = ["--azure", organization.azure_endpoint]
    else:
        os.environ |= {
            "KEY_A": keys[organization.projects[0]],
            "OPENAI_ADMIN_KEY": organization.admin_key,
        }
        os.environ["KEY_B"] = keys[organization.projects[1]]
        service = ["--api-base", organization.base_url]
        projects = list(service)
        for project, variable in zip(organization.projects, ("KEY_A", "KEY_B"), strict=True):
            projects += ["--project", f"{project}={variable}"]

    print("# What is there, and until when?")
    run("migrate", "inventory", *projects)
    chosen = choose(organization, json.loads(run("migrate", "inventory", "--json", *projects)))
    asked = model = chosen["name"]
    if not is_azure:
        os.environ["OPENAI_API_KEY"] = keys[chosen["project"]]
    else:  # callers name a deployment there, and the API does not say what is behind it
        asked = next(name for name, one in organization.deployments.items() if one == model)
    named = "" if asked == model else f", which callers name {asked},"
    print(f"\nThe model {model}{named} is brought home.")

    print("\n# An archive of all of it")
    archive = folder / "archive"
    run("migrate", "pull", archive, *projects, may_be=INCOMPLETE)
    run("migrate", "verify", archive, may_be=INCOMPLETE)

    print("\n# The old model's answers, while it lives")
    recordings = folder / "recordings"
    asking = ["--archive", archive, "--sample", options.sample]
    asking += ["--archived-as", model] if asked != model else []
    asking += ["--twice", 0.2, "--purpose", "evaluation", "--yes", "-O", recordings]
    asking += ["--set", "max_completion_tokens=16"]  # for the new model, which is asked the same
    asking += ["--input-price", 0.3, "--output-price", 1.2, "--max-cost", 5]
    run("migrate", "record", "-m", asked, *asking, *service)

    print("\n# A local training for it; the plan is a file to edit")
    plan = folder / "plan.toml"
    run("migrate", "plan", archive, "-m", model, "--base", options.base, "-O", plan,
        "--home", options.home)  # fmt: skip

    with engines.start(options.home) as engine:
        os.environ["TUNESMITH_BASE_URL"] = engine.base_url
        trained = json.loads(run("migrate", "train", plan, "--json"))[0]
        new = trained["model"]
        print(f"{trained['status']}: {new}")

        print("\n# Does it do the same?")
        old = next(path.parent for path in recordings.glob("*/recording.json"))
        run("migrate", "compare", old, "--model", new, "--require", "agreement>=0.8",
            "--html", folder / "report.html", "--markdown", folder / "report.md",
            may_be=NOT_MET)  # fmt: skip

        switch(options, engine, organization, asked, new)
    print(f"\nThe comparison: {folder / 'report.html'}")


def switch(
    options: argparse.Namespace,
    engine: engines.Engine,
    organization: RecordedOrganization,
    name: str,
    new: str,
) -> None:
    """Let the old name lead home: beside the old service, for half of the users, for all."""
    kind = options.service
    url = organization.azure_endpoint if kind == "azure" else organization.base_url
    print("\n# The old name answers at home: first beside the old service")
    run("migrate", "upstream", "old", "--url", url, "--key-from", KEY[kind], "--kind", kind,
        "--home", options.home)  # fmt: skip
    with engine.client() as client:
        for stage in ("mirror", "percentage=50", "local"):
            changes = ["--to", new, "--upstream", "old"] if stage == "mirror" else []
            run("migrate", "serve", name, *changes, "--stage", stage)
            print(f"{stage}: {ask(client, options, name)}")
        print("\n# What was decided, and how far both agreed")
        run("migrate", "serve", name, "--decisions")
        run("migrate", "serve", "--list")


def ask(client: Client, options: argparse.Namespace, name: str) -> str:
    """Ask as callers do, with the old name, and return who answered how often."""
    rows = next((options.folder / "recordings").glob("*/requests.jsonl"))
    bodies = [json.loads(line)["body"] for line in rows.read_text(encoding="utf-8").splitlines()]
    sides: dict[str, int] = {}
    for number, body in enumerate(bodies[:8]):
        answer = client.chat.completions.with_raw_response.create(
            model=name, messages=body["messages"], max_tokens=16, user=f"user-{number}"
        )
        side = answer.headers["x-tunesmith-side"]
        sides[side] = sides.get(side, 0) + 1
    named = {"upstream": "the old service", "local": "the new model"}
    return ", ".join(f"{count} answered by {named[side]}" for side, count in sides.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--service", choices=("openai", "azure"), default="openai")
    parser.add_argument("--folder", type=Path, default=Path("brought-home"))
    parser.add_argument("--home", type=Path, help="the engine's state folder")
    parser.add_argument("--base", default=BASE, help="the base model to train")
    parser.add_argument("--sample", type=int, default=120, help="prompts to record")
    parser.add_argument("--tiny", action="store_true", help="a random model: seconds, no sense")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    options.folder = options.folder.absolute()
    if options.tiny:
        tiny = write_tiny_model(options.folder / "tiny")
        options.home, options.base = write_tiny_home(options.folder / "home", tiny), "tiny"
    options.home = options.home or options.folder / "home"
    quirks = Quirks(deleted=0.02, forbidden=0, expired=0.02)
    rows = 30 if options.tiny else 240
    with contextlib.ExitStack() as stack:
        organization = stack.enter_context(
            recorded_organization(options.service, files=150, jobs=40, rows=rows, quirks=quirks)
        )
        bring_home(options, organization)


if __name__ == "__main__":
    main()
