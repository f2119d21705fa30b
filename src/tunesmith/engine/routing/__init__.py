"""Names that lead to models: aliases, and the switch from another service to a model of the engine.

`api.routed_requests` puts the parts together: the table of routes, the side that answers, the
client of the other service, the comparison of answers and the log of decisions.
"""
