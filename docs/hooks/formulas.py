"""Formulae become MathML while the site is built, so that no page needs a script to show them.

pymdownx.arithmatex finds `$…$` and `$$…$$` and leaves code alone; math-core converts what it found.
"""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING

from math_core import LatexError, LatexToMathML
from mkdocs.exceptions import PluginError

if TYPE_CHECKING:
    from mkdocs.structure.pages import Page

# what arithmatex writes with generic: true: \(…\) in a span within a line, \[…\] in a div of its own
FORMULA = re.compile(r'(<(span|div) class="arithmatex">)\\[(\[](.*?)\\[)\]](</\2>)', re.DOTALL)


def with_mathml(content: str) -> str:
    """The page's HTML with MathML in the place of every formula; LatexError where one cannot be read."""
    converter = LatexToMathML(fancy_error=False)

    def convert(found: re.Match[str]) -> str:
        opening, tag, latex, closing = found.groups()
        latex = html.unescape(latex).strip()
        try:
            return opening + converter.convert_with_local_state(latex, displaystyle=tag == "div") + closing
        except LatexError as error:
            raise LatexError(f"the formula {latex} cannot be read: {error}") from error

    return FORMULA.sub(convert, content)


def on_page_content(content: str, page: Page, **_: object) -> str:
    """Called by MkDocs with a page's HTML. A formula that cannot be read ends the build."""
    try:
        return with_mathml(content)
    except LatexError as error:
        raise PluginError(f"{page.file.src_uri}: {error}") from error
