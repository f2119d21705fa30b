"""Jobs: the queue, the processes that work on it, and what they say about it."""
