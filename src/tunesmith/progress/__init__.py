"""How far a job is, and how it is shown: one source for the SDK's `follow` and the command line."""
