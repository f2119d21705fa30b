"""`tunesmith engine install vllm`: a real pip fills a real environment, from an index of files."""

from __future__ import annotations

import base64
import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tunesmith.engine.config import ServingConfig
from tunesmith.engine.domain.errors import EngineError
from tunesmith.engine.home import Home
from tunesmith.engine.serving import vllm_environment
from tunesmith.engine.serving.vllm_environment import (
    VLLM_VERSION,
    install_vllm,
    installed_program,
)

STAND_IN = Path(__file__).parents[2] / "support" / "vllm_stand_in.py"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="vLLM is made for Linux")


def write_wheel(folder, name, version, source, requires=()):
    """Write a wheel whose one module is also a program of the same name."""
    project = folder / "index" / name
    project.mkdir(parents=True)
    info = f"{name}-{version}.dist-info"
    needs = "".join(f"Requires-Dist: {requirement}\n" for requirement in requires)
    files = {
        f"{name}.py": source,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[console_scripts]\n{name} = {name}:main\n",
    }

    def digest(text):
        return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")

    lines = [f"{path},sha256={digest(text)},{len(text)}" for path, text in files.items()]
    files[f"{info}/RECORD"] = "\n".join([*lines, f"{info}/RECORD,,", ""])
    wheel = project / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    (project / "index.html").write_text(f'<a href="{wheel.name}">{wheel.name}</a>', "utf-8")


@pytest.fixture
def index(tmp_path, monkeypatch):
    """An index of files, in place of the package index; it has neither vLLM nor a newer pip."""
    (tmp_path / "index").mkdir()
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_CONSTRAINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", (tmp_path / "index").as_uri())
    monkeypatch.setattr(vllm_environment, "NEEDED_BYTES", 1 << 20)
    return tmp_path


def test_an_installation_that_was_interrupted_is_finished(
    index, serve, tiny_base_model, monkeypatch
):
    home = Home(index / "home")
    home.root.mkdir()
    reports = []
    # What vLLM needs is missing: as if the connection had broken.
    write_wheel(index, "vllm", VLLM_VERSION, STAND_IN.read_text("utf-8"), ["torch-of-vllm==2.14"])
    with pytest.raises(EngineError, match="torch-of-vllm"):
        install_vllm(home.vllm, lambda *report: reports.append(report), needs_gpu=False)
    assert installed_program(home.vllm) is None
    made = (home.vllm / "env" / "pyvenv.cfg").stat().st_mtime_ns

    write_wheel(index, "torch-of-vllm".replace("-", "_"), "2.14", "")
    (index / "index" / "torch_of_vllm").rename(index / "index" / "torch-of-vllm")
    assert install_vllm(home.vllm, lambda *report: reports.append(report), needs_gpu=False)
    assert (home.vllm / "env" / "pyvenv.cfg").stat().st_mtime_ns == made  # the same environment
    assert ("unpacking", 1, 1) in reports
    assert ("checking that vLLM starts", 1, 1) in reports

    # A second time there is nothing to do, with or without an index; and the engine uses it.
    monkeypatch.setenv("PIP_INDEX_URL", "https://127.0.0.1:9/simple")
    assert not install_vllm(home.vllm, lambda *report: reports.append(report), needs_gpu=False)
    (index / "stand-in").mkdir()
    monkeypatch.setenv("STAND_IN_FOLDER", str(index / "stand-in"))
    home.base_model_table.write_text(
        f'default = "tiny"\n[base.tiny]\npath = "{tiny_base_model}"\n', "utf-8"
    )
    with serve(home, {}, serving=ServingConfig("vllm")) as engine:
        answer = engine.post("completions", model="ada", prompt="I", max_tokens=3)
        assert answer.status_code == 200, answer.text


@pytest.mark.slow
def test_offline_it_says_so_and_what_to_do(index, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(EngineError, match="package index does not answer") as caught:
        install_vllm(index / "vllm", lambda *_: None, needs_gpu=False)
    assert "PIP_INDEX_URL" in str(caught.value)
    assert "run the command again" in str(caught.value)


def test_without_a_gpu_it_refuses_before_anything_is_downloaded(index, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    command = [sys.executable, "-m", "tunesmith.cli", "engine", "install", "vllm"]
    result = subprocess.run(
        [*command, "--home", str(index / "home")], capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert "nvidia-smi lists no GPU" in result.stderr
    assert "--without-gpu" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (index / "home" / "vllm").exists()


def test_a_python_that_vllm_does_not_support_is_named(index):
    old = index / "python3.10"
    old.write_text("#!/bin/sh\necho 3 10\n", "utf-8")
    old.chmod(0o755)
    with pytest.raises(EngineError, match=r"Python 3\.11 to 3\.14; .*python3\.10 is 3\.10"):
        install_vllm(index / "vllm", lambda *_: None, python=old, needs_gpu=False)
    with pytest.raises(EngineError, match="no Python that can be run"):
        install_vllm(index / "vllm", lambda *_: None, python=index / "none", needs_gpu=False)
