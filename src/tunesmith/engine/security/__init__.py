"""Who may do what: keys, roles, organisations, limits."""
