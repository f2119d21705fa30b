"""Bringing an organisation's fine-tuning home: what it has, an archive of it, proof, the switch.

Each step is a function here and a command of `tunesmith migrate`. The steps of the archive work
with both clients: given an `AsyncClient` they return a coroutine. Those that record and compare
are two functions each, `record` and `record_async`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunesmith._lazy import lazy_exports

if TYPE_CHECKING:
    from .archive import Archive as Archive
    from .archive import ArchivedFile as ArchivedFile
    from .archive import ArchivedJob as ArchivedJob
    from .archive import ArchiveError as ArchiveError
    from .archive import Gap as Gap
    from .base_advice import Base as Base
    from .base_advice import Machine as Machine
    from .batch_recorder import record_batch as record_batch
    from .batch_recorder import record_batch_async as record_batch_async
    from .comparing import compare as compare
    from .comparing import compare_async as compare_async
    from .comparison import Case as Case
    from .comparison import Comparison as Comparison
    from .comparison import Measure as Measure
    from .comparison import compare_recordings as compare_recordings
    from .comparison_page import to_html as to_html
    from .comparison_report import to_json as to_json
    from .comparison_report import to_markdown as to_markdown
    from .exports import ExportedJob as ExportedJob
    from .exports import export_plan as export_plan
    from .plan_file import PlanError as PlanError
    from .plan_file import read_plan as read_plan
    from .plan_file import write_plan as write_plan
    from .planning import Plan as Plan
    from .planning import PlannedJob as PlannedJob
    from .planning import plan as plan
    from .prompts import PromptFile as PromptFile
    from .prompts import archived_prompts as archived_prompts
    from .prompts import read_prompts as read_prompts
    from .prompts import sample_prompts as sample_prompts
    from .pull_archive import PullReport as PullReport
    from .pull_archive import pull as pull
    from .recorder import RecordOutcome as RecordOutcome
    from .recorder import record as record
    from .recorder import record_async as record_async
    from .recording_cost import CostEstimate as CostEstimate
    from .recording_cost import Prices as Prices
    from .recording_cost import estimate_cost as estimate_cost
    from .recordings import Prompt as Prompt
    from .recordings import Recording as Recording
    from .recordings import RecordingError as RecordingError
    from .requirements import Requirement as Requirement
    from .requirements import RequirementResult as RequirementResult
    from .requirements import check_requirement as check_requirement
    from .requirements import parse_requirement as parse_requirement
    from .shutdown_dates import Shutdown as Shutdown
    from .shutdown_dates import base_model as base_model
    from .shutdown_dates import shutdown_of as shutdown_of
    from .statistics import Interval as Interval
    from .statistics import McNemar as McNemar
    from .statistics import bootstrap_mean as bootstrap_mean
    from .statistics import grouped_rate as grouped_rate
    from .statistics import holm as holm
    from .statistics import mcnemar as mcnemar
    from .statistics import sign_flip_test as sign_flip_test
    from .statistics import wilson as wilson
    from .take_inventory import Inventory as Inventory
    from .take_inventory import InventoryFile as InventoryFile
    from .take_inventory import InventoryModel as InventoryModel
    from .take_inventory import inventory as inventory
    from .training import TrainedJob as TrainedJob
    from .training import train as train
    from .training import train_async as train_async
    from .verify_archive import Fault as Fault
    from .verify_archive import Verification as Verification
    from .verify_archive import verify as verify

lazy_exports(globals())
