"""The wire objects, each loaded when it is first used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunesmith._lazy import lazy_exports

if TYPE_CHECKING:
    from tunesmith.core.modes import Async as Async
    from tunesmith.core.modes import Sync as Sync

    from .base import TERMINAL_STATUSES as TERMINAL_STATUSES
    from .base import WireModel as WireModel
    from .batches import Batch as Batch
    from .batches import BatchError as BatchError
    from .batches import BatchErrors as BatchErrors
    from .batches import BatchRequestCounts as BatchRequestCounts
    from .batches import BatchStatus as BatchStatus
    from .batches import BatchUsage as BatchUsage
    from .chat import ChatCompletion as ChatCompletion
    from .chat import ChatCompletionChoice as ChatCompletionChoice
    from .chat import ChatCompletionChunk as ChatCompletionChunk
    from .chat import ChatCompletionChunkChoice as ChatCompletionChunkChoice
    from .chat import ChatCompletionDeleted as ChatCompletionDeleted
    from .chat import ChatCompletionDelta as ChatCompletionDelta
    from .chat import ChatCompletionFunctionCall as ChatCompletionFunctionCall
    from .chat import ChatCompletionFunctionCallDelta as ChatCompletionFunctionCallDelta
    from .chat import ChatCompletionLogprobs as ChatCompletionLogprobs
    from .chat import ChatCompletionMessage as ChatCompletionMessage
    from .chat import ChatCompletionMessageToolCall as ChatCompletionMessageToolCall
    from .chat import ChatCompletionStoreMessage as ChatCompletionStoreMessage
    from .chat import ChatCompletionTokenLogprob as ChatCompletionTokenLogprob
    from .chat import ChatCompletionToolCallDelta as ChatCompletionToolCallDelta
    from .chat import ChatCompletionTopLogprob as ChatCompletionTopLogprob
    from .chat_events import ChatCompletionStreamEvent as ChatCompletionStreamEvent
    from .chat_events import ChunkEvent as ChunkEvent
    from .chat_events import ContentDeltaEvent as ContentDeltaEvent
    from .chat_events import ContentDoneEvent as ContentDoneEvent
    from .chat_events import (
        FunctionToolCallArgumentsDeltaEvent as FunctionToolCallArgumentsDeltaEvent,
    )
    from .chat_events import (
        FunctionToolCallArgumentsDoneEvent as FunctionToolCallArgumentsDoneEvent,
    )
    from .chat_events import LogprobsContentDeltaEvent as LogprobsContentDeltaEvent
    from .chat_events import LogprobsContentDoneEvent as LogprobsContentDoneEvent
    from .chat_events import LogprobsRefusalDeltaEvent as LogprobsRefusalDeltaEvent
    from .chat_events import LogprobsRefusalDoneEvent as LogprobsRefusalDoneEvent
    from .chat_events import ParsedChatCompletion as ParsedChatCompletion
    from .chat_events import ParsedChatCompletionMessage as ParsedChatCompletionMessage
    from .chat_events import ParsedChoice as ParsedChoice
    from .chat_events import ParsedFunction as ParsedFunction
    from .chat_events import ParsedFunctionToolCall as ParsedFunctionToolCall
    from .chat_events import RefusalDeltaEvent as RefusalDeltaEvent
    from .chat_events import RefusalDoneEvent as RefusalDoneEvent
    from .completions import Completion as Completion
    from .completions import CompletionChoice as CompletionChoice
    from .completions import CompletionLogprobs as CompletionLogprobs
    from .completions import CompletionTokensDetails as CompletionTokensDetails
    from .completions import CompletionUsage as CompletionUsage
    from .completions import PromptTokensDetails as PromptTokensDetails
    from .evals import Eval as Eval
    from .evals import EvalRun as EvalRun
    from .evals import EvalRunError as EvalRunError
    from .evals import EvalRunModelUsage as EvalRunModelUsage
    from .evals import EvalRunOutputItem as EvalRunOutputItem
    from .evals import EvalRunOutputItemResult as EvalRunOutputItemResult
    from .evals import EvalRunResultCounts as EvalRunResultCounts
    from .evals import EvalRunTestingCriteriaResult as EvalRunTestingCriteriaResult
    from .files import FileDeleted as FileDeleted
    from .files import FileObject as FileObject
    from .files import FilePurpose as FilePurpose
    from .files import FileStatus as FileStatus
    from .fine_tuning import FineTuningJob as FineTuningJob
    from .fine_tuning import FineTuningJobCheckpoint as FineTuningJobCheckpoint
    from .fine_tuning import FineTuningJobCheckpointMetrics as FineTuningJobCheckpointMetrics
    from .fine_tuning import FineTuningJobError as FineTuningJobError
    from .fine_tuning import FineTuningJobEvent as FineTuningJobEvent
    from .fine_tuning import FineTuningJobHyperparameters as FineTuningJobHyperparameters
    from .fine_tuning import FineTuningJobIntegration as FineTuningJobIntegration
    from .fine_tuning import FineTuningJobIntegrationWandb as FineTuningJobIntegrationWandb
    from .fine_tuning import FineTuningJobMethod as FineTuningJobMethod
    from .fine_tuning import FineTuningJobMethodConfig as FineTuningJobMethodConfig
    from .fine_tuning import FineTuningJobStatus as FineTuningJobStatus
    from .fine_tuning import FineTuningJobSummary as FineTuningJobSummary
    from .graders import CheckpointPermission as CheckpointPermission
    from .graders import CheckpointPermissionDeleted as CheckpointPermissionDeleted
    from .graders import GraderRunErrors as GraderRunErrors
    from .graders import GraderRunMetadata as GraderRunMetadata
    from .graders import GraderRunResponse as GraderRunResponse
    from .graders import GraderValidateResponse as GraderValidateResponse
    from .legacy_fine_tunes import FineTune as FineTune
    from .legacy_fine_tunes import FineTuneEvent as FineTuneEvent
    from .legacy_fine_tunes import FineTuneHyperparams as FineTuneHyperparams
    from .legacy_fine_tunes import FineTuneStatus as FineTuneStatus
    from .model_exports import ExportFormat as ExportFormat
    from .model_exports import ModelExport as ModelExport
    from .model_exports import ModelExportComparison as ModelExportComparison
    from .model_exports import ModelExportDeleted as ModelExportDeleted
    from .model_exports import ModelExportError as ModelExportError
    from .model_exports import ModelExportStatus as ModelExportStatus
    from .model_exports import Quantization as Quantization
    from .model_routes import ModelRoute as ModelRoute
    from .model_routes import ModelRouteDeleted as ModelRouteDeleted
    from .model_routes import RouteAgreement as RouteAgreement
    from .model_routes import RouteCurvePoint as RouteCurvePoint
    from .model_routes import RouteDecision as RouteDecision
    from .model_routes import RouteSide as RouteSide
    from .models import Model as Model
    from .models import ModelDeleted as ModelDeleted
    from .organization import Cost as Cost
    from .organization import CostAmount as CostAmount
    from .organization import CostBucket as CostBucket
    from .organization import Costs as Costs
    from .organization import Project as Project
    from .organization import ProjectRateLimit as ProjectRateLimit
    from .pages import ListPage as ListPage
    from .uploads import Upload as Upload
    from .uploads import UploadPart as UploadPart
    from .uploads import UploadStatus as UploadStatus

lazy_exports(globals())
