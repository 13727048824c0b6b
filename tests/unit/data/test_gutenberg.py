from __future__ import annotations

import gzip
import hashlib
import logging
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from unroll.config import TextDataConfig
from unroll.data.corpora import TextCorpus
from unroll.data.downloads import Backoff
from unroll.data.gutenberg import cut_book, fetch_book
from unroll.data.sources import fetch_text
from unroll.errors import DataError, DownloadError

QUICK = Backoff(tries=3, first_seconds=0.001, longest_seconds=0.002)
BODY = "A line of the story.\n" * 100
BOOK = (
    "The Project Gutenberg EBook of A Story\n\n*** START OF THE PROJECT GUTENBERG EBOOK A STORY ***\n\n\n"
    f"{BODY}\n\n*** END OF THE PROJECT GUTENBERG EBOOK A STORY ***\nLicence\n"
)
Answer = tuple[int, dict[str, str], bytes]


class Library:
    """A server whose answers are queued by path; a path's last answer is repeated, an unknown path is absent."""

    def __init__(self) -> None:
        self.answers: dict[str, list[Answer]] = {}
        self.asked: list[str] = []
        library = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                library.asked.append(self.path)
                queue = library.answers.get(self.path, [(404, {}, b"absent")])
                status, headers, body = queue.pop(0) if len(queue) > 1 else queue[0]
                self.send_response(status)
                for name, value in ({"Content-Length": str(len(body))} | headers).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def fetch(self, folder: Path, ebook: int = 7) -> str:
        fetch_book(ebook, folder, None, self.url, QUICK)
        assert sorted(path.name for path in folder.iterdir()) == ["text.txt"]
        return (folder / "text.txt").read_text()


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Iterator[Library]:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    served = Library()
    thread = threading.Thread(target=served.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield served
    served.server.shutdown()
    thread.join()
    served.server.server_close()


def test_a_book_comes_from_the_network_without_its_wrapping(library: Library, tmp_path: Path) -> None:
    library.answers["/files/7/7-0.txt"] = [(200, {}, ("\ufeff" + BOOK.replace("\n", "\r\n")).encode())]
    assert library.fetch(tmp_path) == BODY


def test_a_truncated_body_is_tried_again(library: Library, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = BOOK.encode()
    cut = (200, {"Content-Length": str(len(whole))}, whole[:1500])
    library.answers["/files/7/7-0.txt"] = [cut, (200, {}, whole)]
    with caplog.at_level(logging.WARNING, "unroll"):
        assert library.fetch(tmp_path) == BODY
    assert len(library.asked) == 2
    assert "try 1 of 3 failed" in caplog.text


def test_a_body_that_stays_truncated_gives_nothing(library: Library, tmp_path: Path) -> None:
    library.answers["/files/7/7-0.txt"] = [(200, {"Content-Length": "9999"}, BOOK.encode())]
    with pytest.raises(DownloadError, match=r"the network: .*data\.source=sample"):
        library.fetch(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_busy_server_is_asked_again(library: Library, tmp_path: Path, status: int) -> None:
    library.answers["/files/7/7-0.txt"] = [(status, {}, b""), (200, {}, BOOK.encode())]
    assert library.fetch(tmp_path) == BODY


def test_an_absent_file_is_looked_for_at_the_other_addresses(library: Library, tmp_path: Path) -> None:
    library.answers["/cache/epub/7/pg7.txt"] = [(200, {}, BOOK.encode())]
    assert library.fetch(tmp_path) == BODY
    assert library.asked == ["/files/7/7-0.txt", "/ebooks/7.txt.utf-8", "/cache/epub/7/pg7.txt"]


def test_an_absent_book_is_an_error_that_lists_what_was_tried(library: Library, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"eBook 7 .*pg7\.txt answered HTTP 404.*UNROLL_MIRROR"):
        library.fetch(tmp_path)
    assert len(library.asked) == 3


def test_redirects_and_compressed_bodies_are_followed(library: Library, tmp_path: Path) -> None:
    library.answers["/files/7/7-0.txt"] = [(302, {"Location": "/real"}, b"")]
    library.answers["/real"] = [(200, {"Content-Encoding": "gzip"}, gzip.compress(BOOK.encode()))]
    assert library.fetch(tmp_path) == BODY


def test_a_page_in_place_of_the_book_is_refused(library: Library, tmp_path: Path) -> None:
    library.answers["/files/7/7-0.txt"] = [(200, {}, b"<html>Are you a robot?</html>" * 100)]
    with pytest.raises(DownloadError, match="START OF THE PROJECT GUTENBERG EBOOK' is missing"):
        library.fetch(tmp_path)


def test_no_server_at_all_is_an_error_soon(tmp_path: Path, library: Library) -> None:
    with pytest.raises(DownloadError, match="ConnectError"):
        fetch_book(7, tmp_path, None, "http://127.0.0.1:9", QUICK)


def test_the_mirror_is_read_before_the_network(library: Library, tmp_path: Path) -> None:
    (tmp_path / "gutenberg").mkdir()
    (tmp_path / "gutenberg" / "7-0.txt").write_text(BOOK)
    (tmp_path / "out").mkdir()
    facts = fetch_book(7, tmp_path / "out", tmp_path, library.url, QUICK)
    assert (facts["origin"], facts["characters"], library.asked) == ("mirror", len(BODY), [])
    assert facts["files"] == {"7.txt": hashlib.sha256(BOOK.encode()).hexdigest()}


def test_a_damaged_mirror_gives_way_to_the_network(library: Library, tmp_path: Path) -> None:
    (tmp_path / "gutenberg").mkdir()
    (tmp_path / "gutenberg" / "7-0.txt").write_text(BOOK[:1500])
    (tmp_path / "out").mkdir()
    library.answers["/files/7/7-0.txt"] = [(200, {}, BOOK.encode())]
    assert fetch_book(7, tmp_path / "out", tmp_path, library.url, QUICK)["origin"] == "network"


@pytest.mark.parametrize("end", ["*** END OF THIS PROJECT GUTENBERG EBOOK", "End of the Project Gutenberg EBook of"])
def test_both_wordings_of_the_markers_are_known(end: str) -> None:
    text = f"x\n***START OF THIS PROJECT GUTENBERG EBOOK\nA LONG STORY ***\n\nOnce.\n\n{end} A STORY"
    assert cut_book(7, text) == "Once.\n"


def test_a_book_without_end_is_refused() -> None:
    with pytest.raises(DataError, match="END OF THE PROJECT"):
        cut_book(7, BOOK[:1500])


def test_another_edition_of_the_chapters_book_is_taken_with_a_warning(
    library: Library, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    library.answers["/ebooks/1268.txt.utf-8"] = [(200, {}, BOOK.encode())]
    with caplog.at_level(logging.WARNING, "unroll"):
        assert library.fetch(tmp_path, 1268) == BODY
    assert "another edition" in caplog.text


@pytest.mark.corpus
@pytest.mark.skipif("UNROLL_MIRROR" not in os.environ, reason="needs the real corpora: set UNROLL_MIRROR")
def test_the_chapters_book_is_cut_as_the_chapter_cuts_it(tmp_path: Path) -> None:
    fetch_text(TextDataConfig(source="gutenberg"), 1, tmp_path, Path(os.environ["UNROLL_MIRROR"]))
    text = TextCorpus.open(tmp_path).text[:]
    assert (len(text), len(set(text))) == (1_112_350, 80)
    assert text.startswith("THE MYSTERIOUS ISLAND ***\n")
    assert "\r" not in text
