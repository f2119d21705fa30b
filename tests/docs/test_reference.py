"""The reference pages are what the program itself says."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "scripts" / "build_reference.py"


def test_the_reference_pages_are_up_to_date():
    command = [sys.executable, SCRIPT, "--check"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
