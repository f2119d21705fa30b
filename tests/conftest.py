"""What all tests share: an environment without the shell's own settings, and a tiny engine."""

import gc
import os
import re
import signal
import sys
from pathlib import Path

import hypothesis
import pytest

from tunesmith.testing import write_tiny_home, write_tiny_model

# Settings of the shell are not the tests' own: each test sets what it needs. What only tests read
# (TUNESMITH_TEST_…, TUNESMITH_CHAOS_… and the like) stays, and so do proxies, which lead to the
# package index; servers on this machine are reached without them.
_SETTINGS = re.compile(
    r"(AZURE_OPENAI|OPENAI)_.*"
    r"|TUNESMITH_(ADMIN_KEY|API_KEY|BASE_URL|CUSTOM_HEADERS|DATABASE_URL|HOME|LOG|ORG_ID|PROJECT_ID)"
    r"|CONDA_PREFIX|VIRTUAL_ENV|COLUMNS|LINES"
)
for _name in list(os.environ):
    if _SETTINGS.fullmatch(_name):
        del os.environ[_name]
for _name in ("no_proxy", "NO_PROXY"):
    os.environ[_name] = ",".join(filter(None, ["127.0.0.1,localhost,::1", os.environ.get(_name)]))

# Of what is collected nothing is garbage; see `pytest_collection_finish`.
gc.disable()

# Started in the background of a script, pytest inherits an ignored SIGINT; the programs whose
# Ctrl-C is tested would inherit it, too.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A busy machine is no reason to fail.
hypothesis.settings.register_profile(
    "tunesmith", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("tunesmith")


@pytest.fixture(scope="session")
def index_is_out_of_reach():
    """Ends a test whose downloads failed: skipped on a machine without an index, failed in CI."""
    return pytest.fail if os.environ.get("CI") else pytest.skip


@pytest.fixture(scope="session")
def shared_tiny_home(tmp_path_factory):
    """A state folder in which every known model name selects the tiny model."""
    from tunesmith.engine.home import Home

    folder = tmp_path_factory.mktemp("shared")
    return Home(write_tiny_home(folder / "home", write_tiny_model(folder / "tiny")))


@pytest.fixture(scope="session")
def tiny_engine(shared_tiny_home):
    """An engine with the tiny model, in its own process, for all tests of the session."""
    from tunesmith import engine

    with engine.start(home=shared_tiny_home.root) as server:
        yield server


TESTS = Path(__file__).parent
# Fixtures that need torch, a whole engine or another server's program.
SLOW_FIXTURES = frozenset({"tiny_base_model", "shared_tiny_home", "tiny_engine", "postgresql"})
# Files that import torch; trainings, whole engines, browsers, other clients, type checkers.
SLOW_FILES = (
    "test_compiled_decoder.py",
    "test_devices.py",
    "test_fused_decoder.py",
    "test_general_batches.py",
    "test_local_backend.py",
    "test_memory_budget.py",
    "test_pull.py",
    "test_rounded_head.py",
    "test_sampler.py",
    "test_train_from_scratch.py",
    "test_weight_prepacking.py",
)
SLOW_FOLDERS = (
    "clients",
    "typing",
    "engine/dashboard",
    "engine/jobs",
    "engine/training",
    "engine/transfer",
)


@pytest.hookimpl(wrapper=True, optionalhook=True)
def pytest_xdist_auto_num_workers():
    """Have `-n auto` start one process more than there are cores: many tests wait for engines."""
    count = yield
    return count if os.environ.get("PYTEST_XDIST_AUTO_NUM_WORKERS") else count + 1


# Folders whose files share engines, trainings and browsers.
RUN_BY_ONE_PROCESS = ("engine/api", "engine/dashboard", "engine/transfer")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Have `--dist loadfile` keep some folders together as it keeps the tests of a file."""
    if config.option.dist != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid):
            file = super()._split_scope(nodeid)
            folder = file.rpartition("/")[0].removeprefix("tests/")
            return folder if folder in RUN_BY_ONE_PROCESS else file

    return Scheduling(config, log)


def pytest_ignore_collect(collection_path, config):
    """Have the fast tier not even import what is slow as a whole."""
    is_slow = collection_path.name in SLOW_FILES or _place(collection_path) in SLOW_FOLDERS
    return True if is_slow and config.option.markexpr == "not slow" else None


def _place(path):
    return path.relative_to(TESTS).as_posix()


def pytest_collection_modifyitems(items):
    """Mark the slow tests, so that `-m "not slow"` is the fast tier."""
    for item in items:
        parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
        names = {value for value in parameters if isinstance(value, str)} | {*item.fixturenames}
        if (
            names & SLOW_FIXTURES
            or _place(item.path.parent) in SLOW_FOLDERS
            or item.path.name in SLOW_FILES
            or item.get_closest_marker("real")
            or item.get_closest_marker("vllm")
        ):
            item.add_marker("slow")


# Each process of the fast tier would spend seconds on loading it.
LOADS_TORCH = "It loads torch: add its file to SLOW_FILES, or mark it slow."


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    before = "torch" in sys.modules
    report = yield
    if _is_torch_new(collector.config, before=before):
        report.outcome, report.longrepr = "failed", LOADS_TORCH
    return report


@pytest.fixture(autouse=True)
def _fast_tests_load_no_torch(request):
    before = "torch" in sys.modules
    yield
    if _is_torch_new(request.config, before=before):
        pytest.fail(LOADS_TORCH)


def _is_torch_new(config, *, before):
    return config.option.markexpr == "not slow" and not before and "torch" in sys.modules


def pytest_collection_finish():
    """Have the garbage collector leave the seven hundred thousand objects of the tests alone.

    Looking at them all takes half a second, a hundred times in the fast tier.
    """
    gc.freeze()
    gc.enable()
