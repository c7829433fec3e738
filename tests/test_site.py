"""The checks of the site see what they are for; `tools/docs_lite.py` builds the site itself, `test_browser.py` looks at it."""
import re

import docs_lite
import pytest
import site_pages
from notebooks import code, notebooks, prose, root
from test_project import sidebar

NAMES = {"10_kernels.masks.ipynb": "kernels.masks.ipynb"}


def faults(folder, html: str, css: str = ""):
    (folder / "index.html").write_text(html)
    (folder / "a.css").write_text(css)
    return docs_lite.faults(folder)


def test_addresses_are_renamed_and_code_is_not():
    text = '[a](10_kernels.masks.ipynb), [b](10_kernels.masks.ipynb#c), <a href="10_kernels.masks.ipynb">d</a>'
    assert docs_lite.rename_links(text, NAMES) == text.replace("10_", "")
    for same in ("python tools/exec_nbs.py nbs/10_kernels.masks.ipynb", "`10_kernels.masks.ipynb`", "(10_kernels.masks.ipynb)"):
        assert docs_lite.rename_links(same, NAMES) == same


def test_a_good_page_passes(tmp_path):
    html = '<h1 id="a">x</h1><a href="#a">y</a><a href="https://jax.dev">z</a><pre>[a](b)</pre><code>f[0](x)</code>a[0] (b)'
    assert faults(tmp_path, html, "a { background: url(data:image/png;base64,x) }") == []


@pytest.mark.parametrize("html, css, said", [
    ('<a href="#a">y</a>', "", "broken link: index.html: #a (anchor)"),
    ('<a href="b.html">y</a>', "", "broken link: index.html: b.html"),
    ('<p>[<a href="#c" id="c">f</a>](flash.ipynb)</p>', "", "Markdown left as text: index.html: [f](flash.ipynb)"),
    ('<img src="https://x.org/a.svg">', "", "asks another host: index.html: https://x.org/a.svg"),
    ('<script src="//x.org/a.js"></script>', "", "asks another host: index.html: //x.org/a.js"),
    ("", "@import url(https://x.org/a;b)", "asks another host: a.css: https://x.org/a;b"),
    ("", '@import "https://x.org/a"', "asks another host: a.css: https://x.org/a"),
    ("", "b { src: url('https://x.org/a.woff') }", "asks another host: a.css: https://x.org/a.woff"),
])
def test_a_bad_page_is_seen(tmp_path, html, css, said):
    assert faults(tmp_path, html, css) == [said]


def test_fonts_of_other_hosts_go():
    rule = "a{b:c}"
    for font in ("@import url(https://x.org/a:300;400);", "@import url('https://x.org/a');", '@import "https://x.org/a" screen;'):
        assert docs_lite.FOREIGN.sub("", font + rule) == rule
    assert docs_lite.FOREIGN.sub("", "@import url(own.css);" + rule) == "@import url(own.css);" + rule


def test_a_formula_keeps_what_follows_it(tmp_path):
    """A full stop stays with its formula, in its line or in the formula's own."""
    page = tmp_path / "a.html"
    page.write_text(r'<span class="math inline">\(x\)</span>. <span class="math display">\[y\]</span> '
                    '<i class="bi bi-x" role="img"></i>')
    docs_lite.finish_page(page, "https://x.org/a")
    html = page.read_text()
    assert re.search(r'<span class="together"><span class="math inline"><math.*?</math></span>\.</span>', html)
    assert html.count("together") == 1 and 'aria-hidden="true"' in html and 'role="img"' not in html


# ---- Pictures say what they show

@pytest.mark.parametrize("nb", notebooks(), ids=lambda p: p.stem)
def test_pictures_have_words(nb):
    """For those who cannot see them: `#| fig-alt:` in the cell (YAML: no colon before a space), `![text]` in prose."""
    pictures = [c for c in code(nb) if any(k.startswith("image/") for o in c["outputs"] for k in o.get("data", {}))]
    words = {c["id"]: c["directives"].get("fig-alt", "") for c in pictures if "hide" not in c["directives"]}
    assert [i for i, text in words.items() if not text or ": " in text] == []
    assert not re.search(r"!\[\s*\]\(|<img (?![^>]*\balt=\"[^\"])", prose(nb))


# ---- Pages that are written

def test_index_of_names():
    """Every public name is in it once, with a sentence and the page that defines it."""
    row = r"^\| \[`(\w+)`\]\(([\w.]+\.html)(?:#\w+)?\)\S* \| (.*?) \| `attnax[\w.]*` \|$"
    rows = re.findall(row, site_pages.api_page(), re.M)
    assert sorted(name for name, _, _ in rows) == sorted(site_pages.public())
    assert {docs_lite.page_name(nb.name).replace(".ipynb", ".html") for nb in notebooks()} >= {page for _, page, _ in rows}
    assert [name for name, _, said in rows if not said] == []


def test_llms_txt():
    """Every notebook, in the order of the sidebar."""
    text = site_pages.llms_txt()
    pages = re.findall(r"^- \[.+\]\(https://[^)]*/([\w.]+)\.html\): .+$", text, re.M)
    assert pages == ["api", *(docs_lite.page_name(name).removesuffix(".ipynb") for name in sidebar())]
    assert text.startswith("# attnax\n\n> ")


def test_not_found_leads_somewhere():
    """The page for what is not found leads to pages that exist."""
    to = re.findall(r"\]\(([^)]+)\)", (root / "nbs" / "404.qmd").read_text(encoding="utf-8"))
    assert to and [u for u in to if u != "api.qmd" and not (root / "nbs" / u).exists()] == []
