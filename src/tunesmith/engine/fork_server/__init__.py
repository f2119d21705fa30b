"""Processes that compute, forked from one that has loaded PyTorch and transformers already.

`server` is that process, `client` starts it and asks it for forks. Knows neither jobs nor requests:
who asks names the module that the new process runs.
"""

from .client import ForkedProcess, ForkServer, is_supported

__all__ = ["ForkServer", "ForkedProcess", "is_supported"]
