"""Finds credentials that somebody pasted into texts: metadata, events, graders, training rows.

Only the kind is told, never the value. Texts are fed in pieces of any size.
"""

from __future__ import annotations

import re
from collections import Counter

__all__ = ["SecretScanner"]

# A match that crosses the end of a piece is found with the next one.
_OVERLAP = 200
_KINDS = {
    "API key": rb"\b(?:sk|rk|pk)-[A-Za-z0-9_-]{20,}",
    "AWS access key": rb"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",
    "GitHub token": rb"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{40,})",
    "Hugging Face token": rb"\bhf_[A-Za-z0-9]{30,}",
    "Slack token": rb"\bxox[abprs]-[A-Za-z0-9-]{10,}",
    "Google API key": rb"\bAIza[A-Za-z0-9_-]{35}",
    "private key": rb"-----BEGIN [A-Z ]*PRIVATE KEY-----",
    "signed URL": rb"[?&](?:X-Amz-Signature|sig|Signature)=[A-Za-z0-9%+/=_-]{16,}",
}
_ANY = re.compile(
    b"|".join(b"(?P<k%d>%b)" % (at, pattern) for at, pattern in enumerate(_KINDS.values()))
)
_NAMES = {f"k{at}": name for at, name in enumerate(_KINDS)}


class SecretScanner:
    """Counts what looks like a credential in one text."""

    def __init__(self) -> None:
        self.found: Counter[str] = Counter()
        self._rest = b""

    def feed(self, piece: bytes) -> None:
        """Search the next piece of the text."""
        text = self._rest + piece
        end = max(0, len(text) - _OVERLAP)
        kept = end
        for match in _ANY.finditer(text):
            # One that may go on in the next piece is left for it.
            if match.end() > len(text) - 1 and match.start() >= end:
                kept = min(kept, match.start())
                break
            self.found[_NAMES[str(match.lastgroup)]] += 1
            kept = max(kept, match.end())
        self._rest = text[kept:]

    def finish(self) -> Counter[str]:
        """Search what is left, and return how often each kind was found."""
        for match in _ANY.finditer(self._rest):
            self.found[_NAMES[str(match.lastgroup)]] += 1
        self._rest = b""
        return self.found
