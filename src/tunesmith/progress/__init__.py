"""A job's progress and its display, for the SDK's `follow` and the command line."""
