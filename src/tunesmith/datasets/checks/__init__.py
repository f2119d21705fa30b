"""The checks: folds over batches of rows. See `fold` for the contract."""
