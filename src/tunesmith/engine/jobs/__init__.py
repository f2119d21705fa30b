"""Jobs: the queue, the worker processes that carry them out, and the events they report.

Knows no HTTP. The training itself is `tunesmith.engine.training`.
"""
