"""A table of openai-python's operations for these resources against ours.

    python tests/unit/parity_with_openai.py PYTHON

PYTHON is an interpreter that has openai 3.54.0; this package is the one that runs the script.
Each method and each parameter of theirs is present here, or listed with the reason. The exit
status is 1 when something is missing without a reason.
"""

from __future__ import annotations

import json
import subprocess
import sys

RESOURCES = [
    "files", "uploads", "uploads.parts", "fine_tuning.jobs", "fine_tuning.jobs.checkpoints",
    "fine_tuning.checkpoints.permissions", "fine_tuning.alpha.graders", "completions",
    "chat.completions", "chat.completions.messages", "models", "batches", "evals", "evals.runs",
    "evals.runs.output_items", "admin.organization.projects",
    "admin.organization.projects.rate_limits", "admin.organization.usage",
]  # fmt: skip

_READING = "evals are read to be archived: the service closes them"
_ADMIN = "projects are read, not managed"
REASONS: dict[str, str] = {
    **dict.fromkeys(
        [f"evals.{name}" for name in ("create", "update", "delete")]
        + [f"evals.runs.{name}" for name in ("create", "cancel", "delete")],
        _READING,
    ),
    **dict.fromkeys(
        [f"admin.organization.projects.{name}" for name in ("create", "update", "archive")]
        + ["admin.organization.projects.rate_limits.update_rate_limit"],
        _ADMIN,
    ),
    **dict.fromkeys(
        [
            f"admin.organization.usage.{name}"
            for name in (
                "audio_speeches",
                "audio_transcriptions",
                "code_interpreter_sessions",
                "decisions",
                "completions",
                "embeddings",
                "file_search_calls",
                "images",
                "moderations",
                "vector_stores",
                "web_search_calls",
            )
        ],
        "costs are what a move needs to know",
    ),
    "Client(workload_identity)": "a function as api_key exchanges tokens where it likes",
    "Client(webhook_secret)": "no webhooks among these resources",
    "Client(provider)": "base_url and api_key, or AzureClient, name another provider",
    "Client(data_residency)": "base_url names the region's server",
    "Client(websocket_base_url)": "no websockets among these resources",
    "Client(_strict_response_validation)": "every response is validated",
    "Client(_enforce_credentials)": "a server on this machine needs no key, every other one does",
}

COLLECT = """
import inspect, json, sys
RESOURCES = json.loads(sys.argv[1])
MODULE, CLIENT = sys.argv[2:]
client = getattr(__import__(MODULE), CLIENT)(api_key="k", base_url="http://127.0.0.1:9/v1")
initial = inspect.signature(type(client).__init__).parameters
found = {"Client": [name for name in initial if name != "self"]}
for path in RESOURCES:
    owner = client
    for name in path.split("."):
        owner = getattr(owner, name)
    for name in dir(type(owner)):
        if name.startswith(("_", "with_")):
            continue
        method = getattr(type(owner), name, None)
        if not inspect.isfunction(method):
            continue
        parameters = [p for p in inspect.signature(method).parameters if p != "self"]
        found[f"{path}.{name}"] = parameters
print(json.dumps(found))
"""


def collected(python: str, module: str, client: str) -> dict[str, list[str]]:
    """Return the parameters of each operation of a client."""
    command = [python, "-c", COLLECT, json.dumps(RESOURCES), module, client]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found


def table(theirs: dict[str, list[str]], ours: dict[str, list[str]]) -> tuple[list[str], int]:
    """Return the lines of the table and the number of gaps without a reason."""
    lines = [f"{'operation':46} {'theirs':>6} {'here':>5}  missing"]
    gaps = 0
    for name, parameters in theirs.items():
        if name not in ours:
            reason = REASONS.get(name)
            gaps += reason is None
            lines.append(f"{name:46} {len(parameters):6} {'-':>5}  {reason or 'MISSING'}")
            continue
        missing = [one for one in parameters if one not in ours[name]]
        notes = []
        for one in missing:
            reason = REASONS.get(f"{name}({one})") or REASONS.get(f"({one})")
            gaps += reason is None
            notes.append(f"{one}: {reason or 'MISSING'}")
        here = len(parameters) - len(missing)
        lines.append(f"{name:46} {len(parameters):6} {here:5}  {'; '.join(notes)}".rstrip())
    more = sorted(set(ours) - set(theirs))
    lines.append(f"Only here: {', '.join(more)}")
    return lines, gaps


def main() -> None:
    """Print the table."""
    theirs = collected(sys.argv[1], "openai", "OpenAI")
    ours = collected(sys.executable, "tunesmith", "Client")
    lines, gaps = table(theirs, ours)
    sys.stdout.write("\n".join([*lines, f"Gaps without a reason: {gaps}", ""]))
    raise SystemExit(1 if gaps else 0)


if __name__ == "__main__":
    main()
