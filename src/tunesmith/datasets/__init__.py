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

from typing import TYPE_CHECKING

from tunesmith._lazy import lazy_exports

if TYPE_CHECKING:
    from . import templates as templates
    from . import tokens as tokens
    from .check import check_file as check_file
    from .check import profile as profile
    from .dataset import Dataset as Dataset
    from .dataset import Plan as Plan
    from .dataset import Split as Split
    from .dataset import read as read
    from .dataset_errors import BrokenRowError as BrokenRowError
    from .dataset_errors import DatasetError as DatasetError
    from .dataset_errors import UnreadableError as UnreadableError
    from .destinations import DESTINATIONS as _DESTINATIONS
    from .destinations import Destination as _Destination
    from .findings import Finding as Finding
    from .findings import Location as Location
    from .format_inference import infer_prompt_format as infer_prompt_format
    from .overlap import check_overlap as check_overlap
    from .prompt_format import PromptFormat as PromptFormat
    from .recognition import DATA_FORMATS as DATA_FORMATS
    from .recognition import DataFormat as DataFormat
    from .report import Report as Report
    from .rows import Row as Row
    from .rows import RowFormat as _RowFormat

    PROFILES = _DESTINATIONS
    Profile = _Destination
    Shape = _RowFormat

lazy_exports(globals())
