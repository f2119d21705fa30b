"""The certificates that the environment names as trusted: what a TLS context depends on."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

from tunesmith.errors import ConfigurationError

__all__ = ["check_certificates", "trusted_certificates"]


def trusted_certificates() -> tuple[object, ...]:
    """Return SSL_CERT_FILE and SSL_CERT_DIR with their states; it changes when they do."""
    found: list[object] = []
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        path = os.environ.get(name)
        found.append(path)
        if path:
            try:
                state = Path(path).stat()
            except OSError:
                continue
            found += [state.st_mtime_ns, state.st_size, state.st_ino]
    return tuple(found)


def check_certificates() -> None:
    """Check that the environment names certificates that can be read.

    Raises:
        ConfigurationError: It does not.
    """
    file, folder = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    if not (file or folder):
        return
    name, path = ("SSL_CERT_FILE", file) if file else ("SSL_CERT_DIR", folder)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(file or None, folder or None)
    except OSError as error:  # ssl.SSLError is one, too
        reason = error.strerror or str(error)
    else:
        return
    raise ConfigurationError(
        f"The trusted certificates cannot be read: {name} is {path!r} ({reason}). It must be a "
        "file with certificates in PEM format, or be unset."
    )
