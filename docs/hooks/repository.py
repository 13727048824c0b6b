"""Links from a page to a file outside docs, such as `../src/unroll/config.py`, work on the site too.

Code hosting sites follow such a link to the file. The site gets a page that shows the file, or lists the folder, and
MkDocs, which resolves links by name, is told that this page is called `../src/unroll/config.py`. A link to what does
not exist stays unknown to MkDocs, and with strict ends the build.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING

from mkdocs.structure.files import File, InclusionLevel
from pygments.lexers import get_lexer_for_filename
from pygments.util import ClassNotFound

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

# [text](target) and [name]: target, without the part after #
LINK = re.compile(r"(\]\(|^\[[^\]]+\]:\s*)([^)\s#]+)", re.MULTILINE)
FENCED = re.compile(r"^(`{3,}).*?^\1", re.MULTILINE | re.DOTALL)
# code is wide: no columns beside it; and searched for elsewhere
CODE_PAGE = "---\nhide: [navigation, toc]\nsearch: {exclude: true}\n---\n"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Called by MkDocs with the files of docs. Adds what their pages link to outside it, and what those link to."""
    docs = Path(config.docs_dir)
    waiting = list(files.documentation_pages())
    while waiting:
        page = waiting.pop()
        for name in linked_names(page.content_string, page.src_uri):
            if files.get_file_from_path(name) is None and is_outside(name, docs):
                files.append(RepositoryPage(name, config))
                waiting.append(files.src_uris[name])
    return files


def linked_names(markdown: str, src_uri: str) -> list[str]:
    """What a page links to, each relative to docs as MkDocs names its files."""
    folder = posixpath.dirname(src_uri)
    links = LINK.finditer(FENCED.sub("", markdown))
    return [posixpath.normpath(posixpath.join(folder, link[2])) for link in links]


def is_outside(name: str, docs: Path) -> bool:
    """Whether a name means a file or folder of the repository that is not in docs."""
    return name.startswith("../") and not name.startswith("../../") and (docs / name).exists()


class RepositoryPage(File):
    """A page made of a file or folder outside docs."""

    def __init__(self, name: str, config: MkDocsConfig) -> None:
        path = Path(config.docs_dir, name)
        super().__init__(
            name,
            src_dir=None,
            dest_dir=config.site_dir,
            use_directory_urls=config.use_directory_urls,
            dest_uri=f"repository/{name.removeprefix('../').removesuffix('.md')}.html",
            inclusion=InclusionLevel.NOT_IN_NAV,
        )
        self.content_string = page_of(path, name.removeprefix("../"), Path(config.docs_dir).name)

    def is_documentation_page(self) -> bool:
        """Render it, whatever its ending."""
        return True


def page_of(path: Path, name: str, docs_name: str) -> str:
    """Markdown that shows a file of the repository, or what a folder holds."""
    if path.is_dir():
        entries = sorted(entry.name for entry in path.iterdir() if not entry.name.startswith((".", "__pycache__")))
        return f"{CODE_PAGE}# `{name}`\n\n" + "".join(f"- [`{entry}`]({path.name}/{entry})\n" for entry in entries)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return f"{CODE_PAGE}# `{name}`\n\nNot a text file: {path.stat().st_size} bytes.\n"
    if path.suffix == ".md":
        return f"---\ntitle: {name}\n---\n" + with_links_into_docs(text, name, docs_name)
    try:
        language = get_lexer_for_filename(path.name).aliases[0]
    except ClassNotFound:
        language = "text"
    fence = "`" * 8  # longer than any in the file
    return f"{CODE_PAGE}# `{name}`\n\n{fence}{language}\n{text}\n{fence}\n"


def with_links_into_docs(markdown: str, name: str, docs_name: str) -> str:
    """Links from outside docs to a file within it, in the one way that MkDocs understands: /file."""

    def rewritten(found: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(name), found[2]))
        inside = target.startswith(docs_name + "/")
        return found[1] + (target.removeprefix(docs_name) if inside else found[2])

    return LINK.sub(rewritten, markdown)
