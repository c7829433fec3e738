"""Build the site into _docs without Quarto, from the same _quarto.yml, and check every link in it.

`docs_lite.py` builds and checks; `docs_lite.py --check` only checks what is there. nbdev prepares the pages
(`nbdev.serve.proc_nbs`, as `nbdev_docs` would) and smalldocs renders them. Three things are ours: files get the names
that nbdev's links expect, formulas become MathML so that the site asks no other host for anything, and a link that
leads nowhere fails the build.
"""
import os
import re
import shutil
import sys
from html import unescape
from html.parser import HTMLParser
from importlib.metadata import entry_points
from pathlib import Path
from urllib.parse import unquote, urlsplit

root = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(root))  # the page processors live in attnax, which need not be installed
os.environ["JAX_PLATFORMS"] = "cpu"


# ---- Sources: from nbs/10_kernels.score_mods.ipynb to kernels.score_mods.ipynb, links and all

def page_name(name: str) -> str:
    """The name of a page without the number that orders its notebook, as in nbdev's links."""
    return re.sub(r"^\d+[a-z]?_", "", name)


def rename_pages(site: Path) -> None:
    names = {f.name: page_name(f.name) for f in site.glob("*.ipynb")}
    link = re.compile(r"(?<![\w.])(" + "|".join(map(re.escape, names)) + r")\b")
    for f in [*site.glob("*.ipynb"), site / "_quarto.yml"]:
        text = link.sub(lambda m: names[m[1]], f.read_text(encoding="utf-8"))
        text = re.sub(r"output-file: [\w.]+\\n", "", text)  # smalldocs names a page after its source
        f.unlink()
        (site / names.get(f.name, f.name)).write_text(text, encoding="utf-8")


# ---- Formulas

def mathml(tex: str, display: bool) -> str:
    """A formula as MathML that browsers draw by themselves.

    latex2mathml passes over a command that it does not know, so what is left of one is an error here. Browsers follow
    MathML Core, which aligns columns by CSS and has its letters with double strokes as characters.
    """
    from latex2mathml.converter import convert
    out = convert(re.sub(r"\{(aligned|gathered)\}", "{align*}", tex), display="block" if display else "inline")
    if left := re.search(r"<mi>\\\w+|>&</", out): raise ValueError(f"cannot render {left[0]!r} in the formula {tex!r}")
    out = out.replace("<mi>:</mi>", "<mo>:</mo>")  # a colon is a relation, with room around it
    out = re.sub(r'columnalign="(left|right)"', r'style="text-align: \1"', out)
    struck = dict(zip("CHNPQRZE", "ℂℍℕℙℚℝℤ𝔼"))
    return re.sub(r'<mi mathvariant="double-struck">(\w)</mi>', lambda m: f"<mi>{struck.get(m[1], m[1])}</mi>", out)


def finish_page(f: Path, doc_url: str) -> None:
    """Formulas to MathML, no scripts from other hosts, links to our own pages relative."""
    def formula(m):
        try: return f'<span class="math {m[1]}">{mathml(unescape(m[2]), m[1] == "display")}</span>'
        except ValueError as e: sys.exit(f"{f.name}: {e}")
    html = f.read_text(encoding="utf-8")
    html = re.sub(r'<span class="math (inline|display)">\\[(\[](.*?)\\[)\]]</span>', formula, html, flags=re.S)
    html = re.sub(r'<(link|script) [^>]*(href|src)="https://cdn[^>]*>(</script>)?\s*', "", html)
    f.write_text(html.replace(f'href="{doc_url}/', 'href="'), encoding="utf-8")


# ---- Links

class Links(HTMLParser):
    """The addresses and the anchors of one page."""
    def __init__(self, html: str):
        super().__init__()
        self.refs, self.ids = [], set()
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        a = dict(attrs)
        self.ids |= {a[k] for k in ("id", "name") if a.get(k)}
        self.refs += [a[k] for k in ("href", "src") if a.get(k)]


def broken_links(site: Path) -> list[str]:
    """Every internal address on every page that leads to no file or no anchor."""
    pages = {f.resolve(): Links(f.read_text(encoding="utf-8")) for f in sorted(site.rglob("*.html"))}
    bad = []
    for page, ref in [(page, ref) for page, links in pages.items() for ref in links.refs]:
        u = urlsplit(ref)
        if u.scheme or u.netloc: continue
        to = (page.parent / unquote(u.path)).resolve() if u.path else page
        if to.is_dir(): to = to / "index.html"
        if not to.is_file() or site.resolve() not in to.parents: bad.append(f"{page.name}: {ref}")
        elif u.fragment and to in pages and unquote(u.fragment) not in pages[to].ids: bad.append(f"{page.name}: {ref} (anchor)")
    return bad


# ---- The build

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
        if "runs no code" not in w: print("warning:", w, file=sys.stderr)
    for f in cfg.doc_path.rglob("*.html"): finish_page(f, cfg.doc_host + cfg.doc_baseurl)
    return cfg.doc_path


def main(args: list[str]) -> int:
    site = root / "_docs" if "--check" in args else build()
    bad, n = broken_links(site), len(list(site.rglob("*.html")))
    print("\n".join(["broken links:", *bad]) if bad else f"{n} pages in {site.name}/, no broken link")
    return bool(bad)


if __name__ == "__main__": sys.exit(main(sys.argv[1:]))
