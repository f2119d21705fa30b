"""Vocabulary of every part of the engine: errors, jobs. No HTTP, no database, no torch."""
