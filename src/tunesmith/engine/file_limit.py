"""The limit of open files, which is one of connections, too. It knows no connection."""

from __future__ import annotations

__all__ = ["connections_allowed", "raise_file_limit"]

_MOST_FILES = 1 << 16
_RESERVE = 192
"""Descriptors for the database (two pools of 15 connections, two files each), 40 threads that
read or write files, and the pipes to workers."""


def raise_file_limit() -> None:
    """Raise the soft limit of open files to the hard one, or to 65,536 if that is less."""
    try:
        import resource  # noqa: PLC0415 - not on every platform
    except ModuleNotFoundError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def connections_allowed() -> float:
    """Return how many connections may be open at a time; infinity if nothing limits them."""
    try:
        import resource  # noqa: PLC0415 - not on every platform
    except ModuleNotFoundError:
        return float("inf")
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return float("inf")
    return max(soft - _RESERVE, soft // 4)
