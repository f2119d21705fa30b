"""Downloads of files from anywhere but the API: package indexes and plain web addresses.

Nothing here knows the API or its credentials.
"""
