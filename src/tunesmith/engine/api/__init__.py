"""The HTTP API of the engine: routers, request bodies, and the mapping of domain errors to HTTP."""
