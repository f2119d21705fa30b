"""The wire objects, each loaded when it is first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .base import (
        TERMINAL_STATUSES,
        WireModel,
    )
    from .chat import (
        ChatCompletion,
        ChatCompletionChoice,
        ChatCompletionChunk,
        ChatCompletionChunkChoice,
        ChatCompletionDeleted,
        ChatCompletionDelta,
        ChatCompletionFunctionCall,
        ChatCompletionFunctionCallDelta,
        ChatCompletionLogprobs,
        ChatCompletionMessage,
        ChatCompletionMessageToolCall,
        ChatCompletionStoreMessage,
        ChatCompletionTokenLogprob,
        ChatCompletionToolCallDelta,
        ChatCompletionTopLogprob,
    )
    from .chat_events import (
        ChatCompletionStreamEvent,
        ChunkEvent,
        ContentDeltaEvent,
        ContentDoneEvent,
        FunctionToolCallArgumentsDeltaEvent,
        FunctionToolCallArgumentsDoneEvent,
        LogprobsContentDeltaEvent,
        LogprobsContentDoneEvent,
        LogprobsRefusalDeltaEvent,
        LogprobsRefusalDoneEvent,
        ParsedChatCompletion,
        ParsedChatCompletionMessage,
        ParsedChoice,
        RefusalDeltaEvent,
        RefusalDoneEvent,
    )
    from .completions import (
        Completion,
        CompletionChoice,
        CompletionLogprobs,
        CompletionTokensDetails,
        CompletionUsage,
        PromptTokensDetails,
    )
    from .files import (
        FileDeleted,
        FileObject,
        FilePurpose,
        FileStatus,
    )
    from .fine_tuning import (
        FineTuningJob,
        FineTuningJobCheckpoint,
        FineTuningJobCheckpointMetrics,
        FineTuningJobError,
        FineTuningJobEvent,
        FineTuningJobHyperparameters,
        FineTuningJobIntegration,
        FineTuningJobIntegrationWandb,
        FineTuningJobMethod,
        FineTuningJobMethodConfig,
        FineTuningJobStatus,
        FineTuningJobSummary,
    )
    from .graders import (
        CheckpointPermission,
        CheckpointPermissionDeleted,
        GraderRunErrors,
        GraderRunMetadata,
        GraderRunResponse,
        GraderValidateResponse,
    )
    from .legacy_fine_tunes import (
        FineTune,
        FineTuneEvent,
        FineTuneHyperparams,
        FineTuneStatus,
    )
    from .models import (
        Model,
        ModelDeleted,
    )
    from .pages import (
        ListPage,
    )
    from .uploads import (
        Upload,
        UploadPart,
        UploadStatus,
    )

_HOMES = {
    "base": (
        "TERMINAL_STATUSES",
        "WireModel",
    ),
    "chat": (
        "ChatCompletion",
        "ChatCompletionChoice",
        "ChatCompletionChunk",
        "ChatCompletionChunkChoice",
        "ChatCompletionDeleted",
        "ChatCompletionDelta",
        "ChatCompletionFunctionCall",
        "ChatCompletionFunctionCallDelta",
        "ChatCompletionLogprobs",
        "ChatCompletionMessage",
        "ChatCompletionMessageToolCall",
        "ChatCompletionStoreMessage",
        "ChatCompletionTokenLogprob",
        "ChatCompletionToolCallDelta",
        "ChatCompletionTopLogprob",
    ),
    "chat_events": (
        "ChatCompletionStreamEvent",
        "ChunkEvent",
        "ContentDeltaEvent",
        "ContentDoneEvent",
        "FunctionToolCallArgumentsDeltaEvent",
        "FunctionToolCallArgumentsDoneEvent",
        "LogprobsContentDeltaEvent",
        "LogprobsContentDoneEvent",
        "LogprobsRefusalDeltaEvent",
        "LogprobsRefusalDoneEvent",
        "ParsedChatCompletion",
        "ParsedChatCompletionMessage",
        "ParsedChoice",
        "RefusalDeltaEvent",
        "RefusalDoneEvent",
    ),
    "completions": (
        "Completion",
        "CompletionChoice",
        "CompletionLogprobs",
        "CompletionTokensDetails",
        "CompletionUsage",
        "PromptTokensDetails",
    ),
    "files": (
        "FileDeleted",
        "FileObject",
        "FilePurpose",
        "FileStatus",
    ),
    "legacy_fine_tunes": (
        "FineTune",
        "FineTuneEvent",
        "FineTuneHyperparams",
        "FineTuneStatus",
    ),
    "fine_tuning": (
        "FineTuningJob",
        "FineTuningJobCheckpoint",
        "FineTuningJobCheckpointMetrics",
        "FineTuningJobError",
        "FineTuningJobSummary",
        "FineTuningJobEvent",
        "FineTuningJobHyperparameters",
        "FineTuningJobIntegration",
        "FineTuningJobIntegrationWandb",
        "FineTuningJobMethod",
        "FineTuningJobMethodConfig",
        "FineTuningJobStatus",
    ),
    "graders": (
        "CheckpointPermission",
        "CheckpointPermissionDeleted",
        "GraderRunErrors",
        "GraderRunMetadata",
        "GraderRunResponse",
        "GraderValidateResponse",
    ),
    "models": (
        "Model",
        "ModelDeleted",
    ),
    "pages": ("ListPage",),
    "uploads": (
        "Upload",
        "UploadPart",
        "UploadStatus",
    ),
}

__all__ = [
    "TERMINAL_STATUSES",
    "ChatCompletion",
    "ChatCompletionChoice",
    "ChatCompletionChunk",
    "ChatCompletionChunkChoice",
    "ChatCompletionDeleted",
    "ChatCompletionDelta",
    "ChatCompletionFunctionCall",
    "ChatCompletionFunctionCallDelta",
    "ChatCompletionLogprobs",
    "ChatCompletionMessage",
    "ChatCompletionMessageToolCall",
    "ChatCompletionStoreMessage",
    "ChatCompletionStreamEvent",
    "ChatCompletionTokenLogprob",
    "ChatCompletionToolCallDelta",
    "ChatCompletionTopLogprob",
    "CheckpointPermission",
    "CheckpointPermissionDeleted",
    "ChunkEvent",
    "Completion",
    "CompletionChoice",
    "CompletionLogprobs",
    "CompletionTokensDetails",
    "CompletionUsage",
    "ContentDeltaEvent",
    "ContentDoneEvent",
    "FileDeleted",
    "FileObject",
    "FilePurpose",
    "FileStatus",
    "FineTune",
    "FineTuneEvent",
    "FineTuneHyperparams",
    "FineTuneStatus",
    "FineTuningJob",
    "FineTuningJobCheckpoint",
    "FineTuningJobCheckpointMetrics",
    "FineTuningJobError",
    "FineTuningJobEvent",
    "FineTuningJobHyperparameters",
    "FineTuningJobIntegration",
    "FineTuningJobIntegrationWandb",
    "FineTuningJobMethod",
    "FineTuningJobMethodConfig",
    "FineTuningJobStatus",
    "FineTuningJobSummary",
    "FunctionToolCallArgumentsDeltaEvent",
    "FunctionToolCallArgumentsDoneEvent",
    "GraderRunErrors",
    "GraderRunMetadata",
    "GraderRunResponse",
    "GraderValidateResponse",
    "ListPage",
    "LogprobsContentDeltaEvent",
    "LogprobsContentDoneEvent",
    "LogprobsRefusalDeltaEvent",
    "LogprobsRefusalDoneEvent",
    "Model",
    "ModelDeleted",
    "ParsedChatCompletion",
    "ParsedChatCompletionMessage",
    "ParsedChoice",
    "PromptTokensDetails",
    "RefusalDeltaEvent",
    "RefusalDoneEvent",
    "Upload",
    "UploadPart",
    "UploadStatus",
    "WireModel",
]


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            value = getattr(importlib.import_module(f".{home}", __name__), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
