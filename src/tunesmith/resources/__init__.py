"""The operations of the API, each declared once as a flow and offered in every mode."""
