"""Base models: the catalog of their names, pulling and converting them, devices and dtypes."""
