"""A book of Project Gutenberg: fetched by its number, and cut free of the header and the licence around it."""

from __future__ import annotations

import hashlib
import logging
import re
import shutil
from pathlib import Path
from typing import Any

from unroll.data.downloads import AbsentError, Backoff, download
from unroll.data.text_files import MIN_CHARACTERS, iter_unix_lines
from unroll.errors import DataError, DownloadError

logger = logging.getLogger(__name__)

BASE_URL = "https://www.gutenberg.org"
_PATHS = ("files/{ebook}/{ebook}-0.txt", "ebooks/{ebook}.txt.utf-8", "cache/epub/{ebook}/pg{ebook}.txt")

# the edition, and the cut, of the book's chapter: eBook 1268, file 1268-0.txt
CHAPTER_EBOOK = 1268
CHAPTER_BYTES = 1_171_600
CHAPTER_SHA256 = "355bfdc3f9b5e384b1918e817dd086ce0df97f4d294c69f032fb70b95c1e737c"
CHAPTER_CHARACTERS = 1_112_350
CHAPTER_DISTINCT = 80
_CHAPTER_START, _CHAPTER_END = "THE MYSTERIOUS ISLAND", "End of the Project Gutenberg"

_START = re.compile(r"\*\*\* ?START OF TH(?:E|IS) PROJECT GUTENBERG EBOOK[^*]*\*\*\*")
_END = re.compile(r"^(?:\*\*\* ?END OF TH(?:E|IS) PROJECT GUTENBERG EBOOK|End of (?:the )?Project Gutenberg)", re.M)


def fetch_book(
    ebook: int, folder: Path, mirror: Path | None, base_url: str = BASE_URL, backoff: Backoff | None = None
) -> dict[str, Any]:
    """Write text.txt from ``<mirror>/gutenberg/{ebook}-0.txt``, or else from the network; return its facts.

    Raises DownloadError saying what was tried, where neither gives the whole book.
    """
    tried = list[str]()
    scratch = folder / "_download.txt"
    for origin in _places(ebook, mirror):
        try:
            if origin == "mirror":
                shutil.copyfile(_mirrored(ebook, mirror), scratch)
            else:
                _download(ebook, scratch, base_url, backoff or Backoff())
            return {"origin": origin, **_cut_file(ebook, scratch, folder / "text.txt")}
        except DataError as error:
            logger.warning("eBook %d from the %s failed: %s", ebook, origin, error)
            tried.append(f"the {origin}: {error}")
        finally:
            scratch.unlink(missing_ok=True)
    raise DownloadError(
        f"Project Gutenberg's eBook {ebook} could not be had. Tried " + "; ".join(tried) + ". Connect to the network, "
        f"or set UNROLL_MIRROR to a folder that holds gutenberg/{ebook}-0.txt; --set data.source=sample needs neither."
    )


def cut_book(ebook: int, text: str) -> str:
    """The book without what Project Gutenberg put around it. ``text`` has ``\\n`` line ends.

    eBook 1268 is cut as in its chapter, from the first "THE MYSTERIOUS ISLAND" to the first "End of the Project
    Gutenberg"; others between the START and END lines, blank lines off. Raises DataError where these are missing.
    """
    if ebook == CHAPTER_EBOOK:
        start, end = text.find(_CHAPTER_START), text.find(_CHAPTER_END)
        if 0 <= start < end:
            return text[start:end]
    opening = _START.search(text)
    closing = _END.search(text, opening.end()) if opening else None
    if opening is None or closing is None:
        missing = "START" if opening is None else "END"
        raise DataError(
            f"the line '*** {missing} OF THE PROJECT GUTENBERG EBOOK' is missing among {len(text):,} characters: "
            "it is no plain text book, or not whole"
        )
    return text[opening.end() : closing.start()].strip() + "\n"


def _places(ebook: int, mirror: Path | None) -> list[str]:
    if mirror is not None and _mirrored(ebook, mirror).is_file():
        return ["mirror", "network"]
    if mirror is not None:
        logger.warning("The mirror %s holds no gutenberg/%d-0.txt; trying the network.", mirror, ebook)
    return ["network"]


def _mirrored(ebook: int, mirror: Path | None) -> Path:
    return (mirror or Path()) / "gutenberg" / f"{ebook}-0.txt"


def _download(ebook: int, target: Path, base_url: str, backoff: Backoff) -> None:
    absent = list[str]()
    for path in _PATHS:
        url = f"{base_url.rstrip('/')}/{path.format(ebook=ebook)}"
        try:
            return download(url, target, backoff)
        except AbsentError as error:
            absent.append(str(error))
    raise DownloadError(f"{'; '.join(absent)}: is there a book of that number in plain text?")


def _cut_file(ebook: int, source: Path, target: Path) -> dict[str, Any]:
    whole = source.read_bytes()
    sha256 = hashlib.sha256(whole).hexdigest()
    _check_edition(ebook, len(whole), sha256)
    text = cut_book(ebook, "".join(iter_unix_lines(source)))
    distinct = len(set(text))
    if len(text) < MIN_CHARACTERS:
        raise DataError(f"{len(text):,} characters stand between the markers; expected at least {MIN_CHARACTERS:,}")
    if sha256 == CHAPTER_SHA256 and (len(text), distinct) != (CHAPTER_CHARACTERS, CHAPTER_DISTINCT):
        raise DataError(f"the cut gave {len(text):,} characters, {distinct} distinct; expected {CHAPTER_CHARACTERS:,}")
    target.write_text(text, encoding="utf-8", newline="")
    return {"characters": len(text), "distinct": distinct, "ebook": ebook, "files": {f"{ebook}.txt": sha256}}


def _check_edition(ebook: int, size: int, sha256: str) -> None:
    if ebook != CHAPTER_EBOOK or sha256 == CHAPTER_SHA256:
        return
    if size == CHAPTER_BYTES:
        raise DataError(f"it has the right size and other contents (SHA-256 {sha256[:12]}…): it is damaged")
    logger.warning(
        "eBook %d came in another edition (%d bytes, SHA-256 %s…; the chapter's has %d bytes): "
        "bits per character are not comparable to the last digit.",
        ebook,
        size,
        sha256[:12],
        CHAPTER_BYTES,
    )
