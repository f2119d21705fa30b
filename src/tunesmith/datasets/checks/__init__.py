"""The checks: each observes batches of rows, merges and concludes; `base` has the contract."""
