"""The documentation site: formulae, links, and that nothing in it comes from another host."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import markdown
import pytest
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.utils.yaml import yaml_load

from docs.hooks.formulas import on_page_content, with_mathml
from docs.hooks.repository import on_files

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
LOADED_FROM_ELSEWHERE = re.compile(r"<(?:link|script|img|iframe|source)\b[^>]*?(?:src|href)=[\"']?(?:https?:)?//.*?>")
IMPORTED_FROM_ELSEWHERE = re.compile(r"(?:url\(|@import\s*)[\"']?(?:https?:)?//.*")
CODE = re.compile(r"^```.*?^```|`[^`\n]*`", re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def settings() -> dict[str, Any]:
    return yaml_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))


def render(text: str, settings: dict[str, Any]) -> str:
    """A page's HTML, made with the site's own Markdown extensions."""
    names: list[str] = []
    options: dict[str, Any] = {}
    for extension in settings["markdown_extensions"]:
        name, chosen = next(iter(extension.items())) if isinstance(extension, dict) else (extension, {})
        names.append(name)
        options[name] = chosen
    return with_mathml(markdown.markdown(text, extensions=names, extension_configs=options))


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize(
    ("latex", "parts"),
    [
        (r"h^{(t)} = \sigma_h(W_{xh} x^{(t)} + W_{hh} h^{(t-1)} + b_h)", ["<msup>", "<mi>σ</mi>", "<mo>+</mo>"]),
        (r"i_t \odot \tilde{C}_t", ["⊙</mo>", '<mover accent="true">']),
        (r"\prod_{i=k+1}^{t} a_i", ["<munderover>", "∏</mo>"]),
        (r"\frac{\partial h^{(t)}}{\partial h^{(k)}}", ["<mfrac>", "∂"]),
        (r"\lVert \cdot \rVert \le 1", ["‖", "≤"]),
        (r"\begin{bmatrix} a & b \\ 0 & 1 \end{bmatrix}", ["<mtable", "<mo>[</mo>", "<mn>0</mn>"]),
        (r"\begin{aligned} a &< b \\ c &> d \end{aligned}", ["<mtable", "&lt;", "&gt;"]),
        (r"\mathbf{x}", ["\N{MATHEMATICAL BOLD SMALL X}"]),
    ],
)
def test_formulae_become_mathml(latex: str, parts: list[str], settings: dict[str, Any]) -> None:
    on_its_own = render(f"Before.\n\n$$\n{latex}\n$$\n\nAfter.", settings)
    in_a_line = render(f"Here ${latex}$ stands.", settings)
    assert '<div class="arithmatex"><math display="block">' in on_its_own
    assert '<span class="arithmatex"><math>' in in_a_line
    for part in parts:
        assert part in on_its_own
    for page in (on_its_own, in_a_line):
        assert "\\" not in page
        assert "$" not in page


def test_dollars_in_code_and_prices_stay_as_they_are(settings: dict[str, Any]) -> None:
    page = render("`$x_1$` costs $5 or $6.\n\n```text\necho $$ $a_b$\n$$\nx\n$$\n```\n", settings)
    assert "<code>$x_1$</code> costs $5 or $6." in page
    assert "echo $$ $a_b$\n$$\nx\n$$" in page
    assert "<math" not in page


@pytest.mark.parametrize("latex", [r"\nosuchcommand x", r"\frac{a", "a_b_c"])
def test_a_formula_that_cannot_be_read_ends_the_build_and_names_the_page(latex: str) -> None:
    page: Any = SimpleNamespace(file=SimpleNamespace(src_uri="chapter.md"))
    with pytest.raises(PluginError, match=r"chapter\.md: the formula " + re.escape(latex)):
        on_page_content(rf'<span class="arithmatex">\({latex}\)</span>', page)


def test_a_linked_file_outside_docs_becomes_a_page(tmp_path: Path) -> None:
    for name, text in {
        "docs/page.md": "[code](../src/a.py) [guide](../README.md#x) [gone](../gone.py) [far](../../outside.py)",
        "docs/images/plot.png": "",
        "src/a.py": "x = '[$1$](unlinked.py)'\n",
        "tests/b.py": "",
        "README.md": "![plot](docs/images/plot.png) [page](docs/page.md#y) [tests](tests)\n\n[c]: src/c.py\n",
        "src/c.py": "",
        "src/unlinked.py": "",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    config: Any = SimpleNamespace(docs_dir=tmp_path / "docs", site_dir=tmp_path / "site", use_directory_urls=False)
    files = on_files(Files([File("page.md", str(config.docs_dir), str(config.site_dir), False)]), config)
    pages = {file.src_uri: file for file in files}
    assert set(pages) == {"page.md", "../src/a.py", "../README.md", "../tests", "../tests/b.py", "../src/c.py"}
    assert pages["../src/a.py"].url == "repository/src/a.py.html"
    assert "python\nx = '[$1$](unlinked.py)'\n" in pages["../src/a.py"].content_string
    assert pages["../README.md"].url == "repository/README.html"
    # the one way in which MkDocs takes a link from there into docs
    assert "![plot](/images/plot.png) [page](/page.md#y) [tests](tests)" in pages["../README.md"].content_string
    assert "[`b.py`](tests/b.py)" in pages["../tests"].content_string


def test_every_page_of_the_navigation_exists(settings: dict[str, Any]) -> None:
    pages = [page for entry in settings["nav"] for page in entry.values()]
    assert len(pages) == len(set(pages)) >= 3
    assert [page for page in pages if not (ROOT / "docs" / page).is_file()] == []


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=name_of)
def test_every_relative_link_leads_to_a_file(page: Path) -> None:
    targets = re.findall(r"(?:\]\(|^\[[^\]]+\]:\s*)([^)\s#]+)", CODE.sub("", page.read_text("utf-8")), re.MULTILINE)
    relative = [target for target in targets if not re.match(r"[a-z]+:", target)]
    assert [target for target in relative if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_formula_of_a_page_is_left_as_text(page: Path, settings: dict[str, Any]) -> None:
    text = page.read_text(encoding="utf-8")
    shown = re.sub(r"<code.*?</code>", "", render(text, settings), flags=re.DOTALL)
    assert re.findall(r".*(?:\$\$|\\[a-zA-Z({]).*", shown) == []
    # the table of contents is made before formulae are converted
    assert re.findall(r"^#+ .*\$.*", CODE.sub("", text), re.MULTILINE) == []


@pytest.mark.slow
def test_the_site_is_built_without_a_warning_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT,
        env=os.environ | {"HOME": str(home), "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    assert list(home.iterdir()) == []
    pages = list((tmp_path / "site").rglob("*.html"))
    assert {"index.html", "chapter.html", "results.html"} <= {page.name for page in pages}
    for page in pages:
        assert LOADED_FROM_ELSEWHERE.findall(page.read_text(encoding="utf-8")) == []
    for style in (tmp_path / "site").rglob("*.css"):
        assert IMPORTED_FROM_ELSEWHERE.findall(style.read_text(encoding="utf-8")) == []
