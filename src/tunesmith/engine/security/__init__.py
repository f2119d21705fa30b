"""Access control: keys, roles, organisations, rate limits."""
