"""Build the site into _docs without Quarto, from the same _quarto.yml, and check every link in it.

`docs_lite.py` builds and checks; `docs_lite.py --check` only checks what is there. nbdev prepares the pages
(`nbdev.serve.proc_nbs`, as `nbdev_docs` would) and smalldocs renders them. Four things are ours: files get the names
that nbdev's links expect, formulas become MathML so that the site asks no other host for anything, search is by words
(`search.js`), and the build fails on a link that leads nowhere, on Markdown that was not understood, and on anything
that another host would be asked for.
"""
import json
import os
import re
import shutil
import sys
from html import unescape
from html.parser import HTMLParser
from importlib.metadata import entry_points
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

root = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(root))  # for the page processors in tools/docrender.py
os.environ["JAX_PLATFORMS"] = "cpu"


# ---- Sources: from nbs/10_kernels.score_mods.ipynb to kernels.score_mods.ipynb, links and all

def page_name(name: str) -> str:
    """The name of a page without the number that orders its notebook, as in nbdev's links."""
    return re.sub(r"^\d+[a-z]?_", "", name)


def rename_links(text: str, names: dict[str, str]) -> str:
    """Addresses of pages under their new names, `](10_x.ipynb#y)` or `href="10_x.ipynb"`; code is left as it is."""
    address = re.compile(r"""(\]\(|\bhref=["'])(""" + "|".join(map(re.escape, names)) + r""")(?=[)#"'])""")
    return address.sub(lambda m: m[1] + names[m[2]], text)


def rename_pages(site: Path) -> None:
    """Every notebook and what links to it: the prose, what cells show as Markdown, and the sidebar."""
    names = {f.name: page_name(f.name) for f in site.glob("*.ipynb")}
    for f in site.glob("*.ipynb"):
        nb = json.loads(f.read_text(encoding="utf-8"))
        for c in nb["cells"]:
            source = "".join(c["source"])
            if c["cell_type"] == "markdown": c["source"] = rename_links(source, names)
            if c["cell_type"] == "raw": c["source"] = re.sub(r"output-file: .*\n", "", source)  # smalldocs: as the source
            for o in c.get("outputs", []):
                data = o.get("data", {})
                if "text/markdown" in data: data["text/markdown"] = rename_links("".join(data["text/markdown"]), names)
        f.unlink()
        (site / names[f.name]).write_text(json.dumps(nb, ensure_ascii=False, indent=1), encoding="utf-8")
    sidebar = re.compile(r"(?<![\w.])(" + "|".join(map(re.escape, names)) + r")\b")
    yml = site / "_quarto.yml"
    yml.write_text(sidebar.sub(lambda m: names[m[1]], yml.read_text(encoding="utf-8")), encoding="utf-8")
    for f in site.glob("*.qmd"): f.write_text(rename_links(f.read_text(encoding="utf-8"), names), encoding="utf-8")


# ---- Formulas

def mathml(tex: str, display: bool) -> str:
    """A formula as MathML that browsers draw by themselves.

    latex2mathml passes over a command that it does not know, so what is left of one is an error here. Browsers follow
    MathML Core, which aligns columns by CSS and has its letters with double strokes as characters.
    """
    from latex2mathml.converter import convert
    out = convert(re.sub(r"\{(aligned|gathered)\}", "{align*}", tex), display="block" if display else "inline")
    if left := re.search(r"<m[io][^>]*>\\\w+|>&</", out): raise ValueError(f"cannot render {left[0]!r} in the formula {tex!r}")
    out = out.replace("<mi>:</mi>", "<mo>:</mo>")  # a colon is a relation, with room around it
    out = re.sub(r'columnalign="(left|right)"', r'style="text-align: \1"', out)
    struck = dict(zip("CHNPQRZE", "ℂℍℕℙℚℝℤ𝔼"))
    return re.sub(r'<mi mathvariant="double-struck">(\w)</mi>', lambda m: f"<mi>{struck.get(m[1], m[1])}</mi>", out)


FORMULA = re.compile(r'<span class="math (inline|display)">\\[(\[](.*?)\\[)\]]</span>([.,;:?!)’”]*)', re.S)


ACCESSIBLE = [   # what smalldocs leaves to be wished for by those who listen to a page or have no mouse
    (r'(<i class="bi[^"]*")( role="img")?>', r'\1 aria-hidden="true">'),                   # an icon beside a name is no picture
    (r'(<a class="sidebar-[^>]*data-bs-toggle="collapse"[^>]*) role="navigation"', r'\1 href="#" role="button"'),
    (r'<nav class="navbar', '<nav aria-label="Site" class="navbar'),
    (r'<nav class="quarto-secondary-nav', '<nav aria-label="Where you are" class="quarto-secondary-nav'),
    (r'<nav ([^>]*)id="quarto-sidebar"', r'<nav \1id="quarto-sidebar" aria-label="Pages"'),
    (r'<nav class="page-navigation', '<nav aria-label="Before and after" class="page-navigation'),
    (r'<div id="quarto-margin-sidebar"', '<div id="quarto-margin-sidebar" role="complementary" aria-label="This page"'),
    (r'title="Toggle dark mode"', 'title="Dark or light" aria-label="Dark or light" role="button"'),
]


def finish_page(f: Path, doc_url: str) -> None:
    """Formulas to MathML, nothing from other hosts (a badge of theirs becomes its words), links to our own pages relative,
    issues that name their page, and icons that a screen reader passes over."""
    def formula(m):
        try: out = f'<span class="math {m[1]}">{mathml(unescape(m[2]), m[1] == "display")}</span>'
        except ValueError as e: sys.exit(f"{f.name}: {e}")
        return f'<span class="together">{out}{m[3]}</span>' if m[3] and m[1] == "inline" else out + m[3]
    html = f.read_text(encoding="utf-8")
    html = FORMULA.sub(formula, html)
    html = re.sub(r'<(link|script) [^>]*(href|src)="https://cdn[^>]*>(</script>)?\s*', "", html)
    html = re.sub(r'<img (?=[^>]*src="https?:)[^>]*?alt="([^"]*)"[^>]*>', r"\1", html)
    for found, better in ACCESSIBLE: html = re.sub(found, better, html)
    html = html.replace('/issues/new"', f'/issues/new?title={quote("Page " + f.stem + ": ")}"')
    if f.name == "404.html":   # it is shown under any address
        html = html.replace("<head>", f'<head><base href="{urlsplit(doc_url).path}/">', 1)
    f.write_text(html.replace(f'href="{doc_url}/', 'href="'), encoding="utf-8")


# ---- Checks of what was built

class Page(HTMLParser):
    """What the checks ask of one page: its addresses, its anchors, what it loads, and its words outside code."""
    CODE = {"code", "pre", "script", "style", "math"}

    def __init__(self, html: str):
        super().__init__()
        self.refs, self.ids, self.loads, self.words, self.inside = [], set(), [], [], 0
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        a = dict(attrs)
        self.inside += tag in self.CODE
        self.ids |= {a[k] for k in ("id", "name") if a.get(k)}
        if tag != "base": self.refs += [a[k] for k in ("href", "src") if a.get(k)]
        if tag not in ("a", "meta") and a.get("rel") != "canonical":
            self.loads += [a[k] for k in ("href", "src", "data", "poster", "srcset") if a.get(k)]
        self.loads += in_css(a.get("style") or "")

    def handle_endtag(self, tag): self.inside -= tag in self.CODE

    def handle_data(self, data):
        if not self.inside: self.words.append(data)


FOREIGN = re.compile(r"""@import\s+(?:url\(\s*["']?https?:[^)]*\)|["']https?:[^"']*["'])[^;]*;""")  # fonts, as a rule


def in_css(css: str) -> list[str]:
    """What a style sheet loads."""
    return [url for found in re.findall(r"""@import\s+["']([^"']+)|url\(\s*["']?([^"')]+)""", css) for url in found if url]


def broken_links(site: Path, pages: dict[Path, Page]) -> list[str]:
    """Every internal address on every page that leads to no file or no anchor."""
    bad = []
    for page, ref in [(page, ref) for page, seen in pages.items() for ref in seen.refs]:
        u = urlsplit(ref)
        if u.scheme or u.netloc: continue
        to = (page.parent / unquote(u.path)).resolve() if u.path else page
        if to.is_dir(): to = to / "index.html"
        if not to.is_file() or site.resolve() not in to.parents: bad.append(f"{page.name}: {ref}")
        elif u.fragment and to in pages and unquote(u.fragment) not in pages[to].ids: bad.append(f"{page.name}: {ref} (anchor)")
    return bad


def raw_markdown(pages: dict[Path, Page]) -> list[str]:
    """Links that are text: a name in backticks becomes a link by itself, and a link inside a link is none."""
    link = re.compile(r".{0,40}\]\(.{0,40}")
    return [f"{page.name}: {m[0]}" for page, seen in pages.items() for m in link.finditer("".join(seen.words))]


def other_hosts(site: Path, pages: dict[Path, Page]) -> list[str]:
    """What a browser would ask of another host when it shows a page."""
    loads = [(page.name, url) for page, seen in pages.items() for url in seen.loads]
    loads += [(f.name, url) for f in sorted(site.rglob("*.css")) for url in in_css(f.read_text(encoding="utf-8"))]
    return [f"{name}: {url}" for name, url in loads if urlsplit(url).netloc]


def faults(site: Path) -> list[str]:
    pages = {f.resolve(): Page(f.read_text(encoding="utf-8")) for f in sorted(site.rglob("*.html"))}
    found = {"broken link": broken_links(site, pages), "Markdown left as text": raw_markdown(pages),
             "asks another host": other_hosts(site, pages)}
    return [f"{kind}: {x}" for kind, places in found.items() for x in places]


# ---- The build

QUARTO_ALONE = re.compile(r"runs no code|format\.html\.(grid|respect-user-color-scheme) is ignored")  # warnings of smalldocs


def build() -> Path:
    from nbdev.config import get_config
    from nbdev.quarto import refresh_quarto_yml
    from nbdev.serve import proc_nbs
    from smalldocs.site import build as render

    if "attnax" not in {e.name for e in entry_points(group="nbdev")}:
        sys.exit("the names in the prose become links by way of the installed package: pip install -e '.[dev,docs]'")
    os.chdir(root)
    cfg = get_config()
    refresh_quarto_yml()
    site = root / "_site_src"
    shutil.rmtree(site, ignore_errors=True)
    shutil.copytree(proc_nbs(n_workers=2, force=True), site, ignore=shutil.ignore_patterns(".quarto", "_docs"))
    rename_pages(site)
    out = render(site, quiet=True)
    shutil.rmtree(cfg.doc_path, ignore_errors=True)
    shutil.move(out.out, cfg.doc_path)
    shutil.rmtree(site)
    for w in out.warnings:
        if not QUARTO_ALONE.search(w): print("warning:", w, file=sys.stderr)
    for f in cfg.doc_path.rglob("*.html"): finish_page(f, cfg.doc_host + cfg.doc_baseurl)
    shutil.copy(root / "tools" / "search.js", cfg.doc_path / "site_libs" / "fuse" / "fuse.min.js")
    for f in cfg.doc_path.rglob("*.css"):   # fonts of another host: the names that follow in each rule are at hand
        f.write_text(FOREIGN.sub("", f.read_text(encoding="utf-8")), encoding="utf-8")
    return cfg.doc_path


def main(args: list[str]) -> int:
    site = root / "_docs" if "--check" in args else build()
    bad, n = faults(site), len(list(site.rglob("*.html")))
    print("\n".join(bad) if bad else f"{n} pages in {site.name}/: no broken link, no raw Markdown, nothing from another host")
    return bool(bad)


if __name__ == "__main__": sys.exit(main(sys.argv[1:]))
