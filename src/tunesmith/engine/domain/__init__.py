"""What every part of the engine agrees on: its errors. No HTTP, no database, no torch."""
