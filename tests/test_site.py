"""The checks of the site see what they are for; `tools/docs_lite.py` builds the site itself."""
import docs_lite
import pytest

NAMES = {"10_kernels.masks.ipynb": "kernels.masks.ipynb"}


def faults(folder, html: str, css: str = ""):
    (folder / "index.html").write_text(html)
    (folder / "a.css").write_text(css)
    return docs_lite.faults(folder)


def test_addresses_are_renamed_and_code_is_not():
    text = '[a](10_kernels.masks.ipynb), [b](10_kernels.masks.ipynb#c), <a href="10_kernels.masks.ipynb">d</a>'
    assert docs_lite.rename_links(text, NAMES) == text.replace("10_", "")
    for code in ("python tools/exec_nbs.py nbs/10_kernels.masks.ipynb", "`10_kernels.masks.ipynb`", "(10_kernels.masks.ipynb)"):
        assert docs_lite.rename_links(code, NAMES) == code


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
