"""Models leave the engine, as PEFT adapter, merged weights, GGUF or for Ollama, and come in.

An export is a folder. It is loaded again before it appears under its name, and its logits are
compared with those of the model that the engine serves; one that differs by more than the
rounding of its format is refused. Knows the folders of models and how a job is recorded, no HTTP
and no command line.
"""

from __future__ import annotations

from .archive import Archive, write_archive
from .export import ExportReport, export_model, number_of_steps
from .model_import import import_adapter
from .model_source import ModelSource, find_model
from .transfer_errors import ExportError, ImportModelError
from .upload import HubCommit, upload_to_hub

__all__ = [
    "Archive",
    "ExportError",
    "ExportReport",
    "HubCommit",
    "ImportModelError",
    "ModelSource",
    "export_model",
    "find_model",
    "import_adapter",
    "number_of_steps",
    "upload_to_hub",
    "write_archive",
]
