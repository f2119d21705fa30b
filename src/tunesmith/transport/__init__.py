"""The API's network: drivers that run flows, the transports they send with, streams and bodies."""
