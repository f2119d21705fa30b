"""The peak memory of a program that a test starts; on Linux."""

from __future__ import annotations

# Not `ru_maxrss`: that keeps what the parent had when it forked.
PEAK = r"""
import re
from pathlib import Path


def peak_mebibytes():
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024


"""
