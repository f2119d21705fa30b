"""What stands at the top level: workflows, tasks, the container's files, the advice to install."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
INSTALLED_FROM_A_CLONE = "start.md#install"
NAMES_A_PACKAGE = re.compile(r"pip install ['\"]?tunesmith\b")


def pyproject():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_every_action_is_pinned_to_a_commit_with_its_version_beside_it(workflow):
    used = re.findall(r"uses: (.+)", workflow.read_text(encoding="utf-8"))
    assert used
    for one in used:
        assert re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", one), one


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_grants_nothing_but_what_its_jobs_name(workflow):
    parsed = yaml.safe_load(workflow.read_text(encoding="utf-8"))
    assert parsed["permissions"] == {}
    for name, job in parsed["jobs"].items():
        assert job["permissions"], name
        assert job["timeout-minutes"] <= 60, name


def test_zizmor_finds_no_fault_in_the_workflows():
    program = shutil.which("zizmor", path=Path(sys.executable).parent) or shutil.which("zizmor")
    if program is None:
        pytest.skip("zizmor is not installed; it is part of the extra dev")
    command = [program, "--offline", "--no-progress", ROOT / ".github"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_the_workflow_tests_every_python_that_the_package_names():
    parsed = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    matrix = parsed["jobs"]["client"]["strategy"]["matrix"]
    named = {
        one.rpartition(" ")[2]
        for one in pyproject()["project"]["classifiers"]
        if re.search(r":: 3\.\d+$", one)
    }
    assert set(matrix["python"]) >= named
    assert {one.partition("-")[0] for one in matrix["os"]} == {"ubuntu", "macos", "windows"}


def test_contributing_lists_the_tasks_that_there_are():
    listed = re.findall(r"(?m)^\| `poe ([\w-]+)` \|", (ROOT / "CONTRIBUTING.md").read_text("utf-8"))
    assert set(listed) == set(pyproject()["tool"]["poe"]["tasks"])


def test_the_container_files_name_what_is_there():
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    for service in compose["services"].values():
        assert f"AS {service['build']['target']}\n" in dockerfile
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), "published to this machine only"
    extras = pyproject()["project"]["optional-dependencies"]
    for named in re.findall(r"ARG EXTRAS=(.+)", dockerfile):
        assert set(named.split(",")) <= set(extras)
    json.loads((ROOT / ".devcontainer/devcontainer.json").read_text(encoding="utf-8"))


def test_the_readme_s_terminal_shows_commands_of_the_start_page():
    picture = ROOT / "docs/images/terminal.svg"
    assert f"]({picture.relative_to(ROOT)})" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert picture.stat().st_size < 30_000
    svg = ET.parse(picture)  # noqa: S314 - our own
    # A typed command goes over several lines of the screen; only its first begins with "$ ".
    lines = svg.iterfind(".//{*}text[@class='typed']")
    typed = "".join(f"{line.text or ''} " for line in lines).split("$ ")[1:]
    assert len(typed) == 3
    start = (ROOT / "docs/start.md").read_text(encoding="utf-8")
    model = re.compile(r"-m ada:ft-\S+")
    for command in typed:
        assert model.sub('-m "$model"', " ".join(command.split())) in start


def test_every_page_that_installs_the_package_says_what_works_until_it_is_published():
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    for page in pages:
        text = page.read_text(encoding="utf-8")
        if NAMES_A_PACKAGE.search(text) and page.name not in {"dependencies.md", "start.md"}:
            assert INSTALLED_FROM_A_CLONE in text, page
