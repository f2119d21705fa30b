"""Training data: read it, check it, fix it, split it, write it.

```python
from tunesmith import datasets

dataset = datasets.read("tweets.csv", prompt="text", completion="label")
print(dataset.check())
train, validation = dataset.plan().apply().split(validation=0.2)
train.write("train.jsonl")
```

Every name is loaded when it is first used; nothing here needs an extra until a format, a token
count or an engine asks for one.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tunesmith.datasets import templates, tokens
    from tunesmith.datasets.check import check_file, profile
    from tunesmith.datasets.dataset import Dataset, Plan, Split, read
    from tunesmith.datasets.dataset_errors import BrokenRowError, DatasetError, UnreadableError
    from tunesmith.datasets.destinations import DESTINATIONS as PROFILES
    from tunesmith.datasets.destinations import Destination as Profile
    from tunesmith.datasets.findings import Finding, Location
    from tunesmith.datasets.format_inference import infer_prompt_format
    from tunesmith.datasets.overlap import check_overlap
    from tunesmith.datasets.prompt_format import PromptFormat
    from tunesmith.datasets.report import Report
    from tunesmith.datasets.rows import Row
    from tunesmith.datasets.rows import RowFormat as Shape

__all__ = [
    "PROFILES",
    "BrokenRowError",
    "Dataset",
    "DatasetError",
    "Finding",
    "Location",
    "Plan",
    "Profile",
    "PromptFormat",
    "Report",
    "Row",
    "Shape",
    "Split",
    "UnreadableError",
    "check_file",
    "check_overlap",
    "infer_prompt_format",
    "profile",
    "read",
    "templates",
    "tokens",
]

_MODULES = frozenset({"templates", "tokens"})

_HOMES = {
    "PROFILES": ("destinations", "DESTINATIONS"),
    "BrokenRowError": ("dataset_errors", "BrokenRowError"),
    "Dataset": ("dataset", "Dataset"),
    "DatasetError": ("dataset_errors", "DatasetError"),
    "Finding": ("findings", "Finding"),
    "Location": ("findings", "Location"),
    "Plan": ("dataset", "Plan"),
    "Profile": ("destinations", "Destination"),
    "PromptFormat": ("prompt_format", "PromptFormat"),
    "Report": ("report", "Report"),
    "Row": ("rows", "Row"),
    "Shape": ("rows", "RowFormat"),
    "Split": ("dataset", "Split"),
    "UnreadableError": ("dataset_errors", "UnreadableError"),
    "check_file": ("check", "check_file"),
    "check_overlap": ("overlap", "check_overlap"),
    "infer_prompt_format": ("format_inference", "infer_prompt_format"),
    "profile": ("check", "profile"),
    "read": ("dataset", "read"),
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = home
    value = getattr(import_module(f"{__name__}.{module}"), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
