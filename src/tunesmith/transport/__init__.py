"""The rooms that do network I/O: transports, drivers, streams, uploads and downloads."""
