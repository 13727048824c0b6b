"""Hostile text in reports: whatever it is, it comes out as text."""

from __future__ import annotations

import html
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from unroll.evaluation.markdown import JOINER, LONGEST_BLOCK, block, code, inert, table

PARSER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
HOSTILE = (
    *("a | b", "\\| x", "`", "``` x", "<img src=x onerror=alert(1)>", "&lt;b&gt;", "**bold** _i_", "[a](javascript:1)"),
    *(
        "@everyone",
        "#12",
        "![](http://x.example/a.png)",
        "$x$",
        "~~gone~~",
        "a\n\n# b",
        "a\r\n| c | d |",
        "\\",
        "",
        "   ",
    ),
    *("http://x.example", "www.x.example", "<!-- x", "-->", "\u202egnp.exe", "\x00\x1b[31m", "| --- | --- |", "\\\\|"),
)
texts = st.text(max_size=80) | st.text(alphabet="|\\`*_<>[]()#@~&$!-\n ab1", max_size=40)


def visible(rendered: str) -> str:
    return html.unescape(re.sub(r"<[^>]*>", "", rendered)).replace(JOINER, "")


def squeezed(text: str) -> str:
    return "".join(character for character in text if character.isprintable() and not character.isspace())


@given(texts, texts)
@example("a | b", "\\| x")
@example("\\", "\\")
@example("`", "a`b")
def test_a_table_keeps_its_cells_whatever_is_in_them(first: str, second: str) -> None:
    lines = "\n".join(table(["one", "two", "three"], [[inert(first), code(second), "end"]]))
    rendered = PARSER.render(lines)
    cells = re.findall(r"<td>(.*?)</td>", rendered, re.DOTALL)
    assert len(cells) == 3
    assert cells[2] == "end"
    assert set(re.findall(r"<(\w+)", rendered)) <= {"table", "thead", "tbody", "tr", "th", "td", "code"}
    assert squeezed(visible(cells[0])) == squeezed(first.replace(JOINER, ""))


@given(texts)
@example("a * b * c")
@example("1. x")
def test_prose_is_one_paragraph_of_text_without_markup(text: str) -> None:
    rendered = PARSER.render(f"Reason: {inert(text)}.")
    assert set(re.findall(r"<(\w+)", rendered)) == {"p"}
    assert squeezed(visible(rendered)) == squeezed(f"Reason: {text.replace(JOINER, '')}.")


@pytest.mark.parametrize("text", HOSTILE)
def test_each_known_trick_is_text(text: str) -> None:
    for rendered in (PARSER.render(f"x {inert(text)} y"), PARSER.render(f"x {code(text)} y")):
        assert set(re.findall(r"<(\w+)", rendered)) <= {"p", "code"}


@pytest.mark.parametrize("text", ["@octocat", "see #7", "org/repo#7", "mail a@b.example"])
def test_nobody_is_mentioned_and_no_issue_is_linked(text: str) -> None:
    # sites look for these in what Markdown made, outside code
    outside_code = re.sub(r"<code>.*?</code>", "", PARSER.render(f"{inert(text)} {code(text)}"))
    assert not re.search(r"@\w|#\d", html.unescape(outside_code))


@pytest.mark.parametrize("text", ["plain", "a ``` b", "```\nend\n````\n", "<b>", "x" * 20_000, "", "a\x1b[0mb"])
def test_a_block_holds_what_was_said_and_nothing_ends_it(text: str) -> None:
    rendered = PARSER.render("\n".join([*block(text), "", "after"]))
    assert rendered.count("<pre>") == 1
    assert rendered.endswith("<p>after</p>\n")
    assert len(rendered) < LONGEST_BLOCK + 500


def test_a_setting_is_code_unless_it_cannot_be() -> None:
    assert code("training.learning_rate") == "`training.learning_rate`"
    assert code("a|b") == "a&#124;b"
    assert code("") == "(empty)"
    assert code("x" * 500) == f"`{'x' * 200}…`"
