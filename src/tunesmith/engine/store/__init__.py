"""What the engine keeps: a database and a folder of files by content."""
