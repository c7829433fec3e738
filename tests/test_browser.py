"""The built site in a real browser: what its readers see, on a desk, on a phone, in the dark, and without a mouse.

`tools/docs_lite.py` builds the site into `_docs`; it is built here when it is older than what it is made of. Without a
Chromium on the machine these tests are skipped. axe-core comes with a package of 160 kB that is installed without what
it depends on: pip install --no-deps axe-playwright-python.
"""
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from browser import Browser, Site, chromium
from docs_lite import page_name
from notebooks import notebooks, root

program = chromium()
pytestmark = pytest.mark.skipif(program is None, reason="no Chromium here: nobody looks at the site (apt-get install chromium)")
docs = root / "_docs"
PREFIX = "/attnax"   # doc_baseurl of settings.ini
# Pages of every make: prose and pictures, long code, formulas, tables, the written index
SAMPLE = ["index", "getting_started", "kernels.sparsity", "kernels.linear", "bench.decode", "api"]
WITH_CODE = "kernels.masks"   # a small page, where each word of code is looked at too


def pages() -> list[str]: return sorted(p.stem for p in docs.glob("*.html") if p.stem != "404")


def newest(*places: Path) -> float:
    """When the youngest file of the site's making changed; what Python leaves beside its modules does not count."""
    files = [p for f in places for p in (f.rglob("*") if f.is_dir() else [f])]
    made = {".ipynb", ".py", ".qmd", ".css", ".js", ".svg", ".png", ".yml", ".html"}
    return max(p.stat().st_mtime for p in files if p.suffix in made)


@pytest.fixture(scope="module")
def site():
    """The site as it would be served, built if what is there is old."""
    made_of = (root / "nbs", root / "tools", root / "attnax", root / "_quarto.yml")
    if not (docs / "search.json").exists() or newest(*made_of) > newest(docs):
        subprocess.run([sys.executable, str(root / "tools" / "docs_lite.py")], check=True)
    served = Site(docs, PREFIX)
    yield served
    served.close()


@pytest.fixture(scope="module")
def chrome():
    found = Browser(program)
    yield found
    found.close()


@pytest.fixture
def desk(chrome):
    chrome.window(1400)
    return chrome


def outside(browser, site) -> list[str]:
    return [u for u in browser.requests if not u.startswith((site.url, "data:"))]


# Boxes that stick out of the window, where no box around them scrolls: the page itself clips what is too wide, and hides it
STICKS_OUT = """(() => {
    const out = [...document.querySelectorAll("main *")].filter(e => {
        if (e.closest("svg, math, .anchorjs-link") || !e.offsetParent) return false;
        if (e.getBoundingClientRect().right <= innerWidth + 1) return false;
        for (let p = e; p !== document.body; p = p.parentElement)
            if (/auto|scroll|hidden/.test(getComputedStyle(p).overflowX)) return false;
        return true;
    }).map(e => e.outerHTML.slice(0, 80));
    return document.documentElement.scrollWidth > innerWidth ? ["the page", ...out] : out;
})()"""


def look(chrome, site) -> dict:
    """What a page that has loaded shows and has done."""
    active = chrome.run("(document.querySelector('#quarto-sidebar a.active') || {}).href || ''").removeprefix(site.url)
    return {"page": chrome.run("location.href").removeprefix(site.url) or "index.html", "active": active,
            "errors": chrome.errors, "outside": outside(chrome, site), "wide": chrome.run(STICKS_OUT)}


@pytest.fixture(scope="module")
def walk(chrome, site) -> list[dict]:
    """What is seen on the way through all pages by the link at the end of each, on a phone; last the index of names."""
    chrome.window(390, 844)
    chrome.open(site.url)
    seen = [look(chrome, site)]
    while chrome.run("!!document.querySelector('.nav-page-next a')") and len(seen) <= len(pages()):
        chrome.go(lambda: chrome.run("document.querySelector('.nav-page-next a').click()"))
        seen.append(look(chrome, site))
    chrome.open(f"{site.url}api.html")
    return [*seen, look(chrome, site)]


def test_walk(chrome, site, walk):
    """The sidebar lists every notebook once and marks the page one is on; the links at its end lead through all in that order."""
    listed = chrome.run("[...document.querySelectorAll('#quarto-sidebar a[href$=\".html\"]')].map(a => a.href)")
    listed = [u.removeprefix(site.url) for u in listed]
    assert sorted(listed) == sorted(page_name(nb.name).replace(".ipynb", ".html") for nb in notebooks())
    assert [w["page"] for w in walk[:-1]] == [w["active"] for w in walk[:-1]] == listed
    assert {p + ".html" for p in pages()} - set(listed) == {walk[-1]["page"]}


def test_console_stays_empty(walk):
    assert {w["page"]: w["errors"] for w in walk if w["errors"]} == {}


def test_no_other_host(walk):
    assert {w["page"]: w["outside"] for w in walk if w["outside"]} == {}


def test_no_sideways_scroll_on_a_phone(walk):
    assert {w["page"]: w["wide"] for w in walk if w["wide"]} == {}


def test_code_of_100_columns_fits(desk, site):
    """At 1400 pixels a line of 100 columns is seen whole; a wider one shows that it goes on, and the keyboard reaches it."""
    for page in SAMPLE:
        desk.open(f"{site.url}{page}.html")
        boxes = desk.run("""[...document.querySelectorAll("main pre.sourceCode, main .cell-output pre")]
            .filter(p => p.offsetParent).map(p => ({
                columns: Math.max(...p.textContent.split("\\n").map(x => x.length)), more: p.scrollWidth > p.clientWidth + 1,
                marked: p.classList.contains("scrolls"), reached: p.tabIndex === 0,
                shade: getComputedStyle(p).backgroundImage.includes("gradient")}))""")
        cut = [b for b in boxes if b["columns"] <= 100 and b["more"]]
        silent = [b for b in boxes if b["more"] != b["marked"] or b["more"] and not (b["reached"] and b["shade"])]
        assert (cut, silent) == ([], []), page


def test_formulas_keep_their_full_stop(chrome, site):
    """On a phone wide formulas scroll, and what follows a formula in its line is not left alone at the next one's start."""
    chrome.window(390, 844)
    seen = 0
    for page in ("kernels.sparsity", "kernels.score_mods", "kernels.linear"):
        chrome.open(f"{site.url}{page}.html")
        apart = chrome.run("""[...document.querySelectorAll("main .math.inline")].map(m => {
            let after = m.nextSibling;
            if (!after && m.parentElement.className === "together") after = m.parentElement.nextSibling;
            const text = after && after.nodeType === 3 && after.data.match(/^[.,;:]/);
            if (!text) return null;
            const r = document.createRange(); r.setStart(after, 0); r.setEnd(after, 1);
            return [m.textContent.trim(), m.getClientRects()[0].bottom < r.getBoundingClientRect().top];
        }).filter(Boolean)""")
        seen += len(apart)
        assert [text for text, alone in apart if alone] == [], page
    assert seen >= 10


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_light_and_dark(chrome, site, dark):
    """The page is as the reader's system wants it from its first paint; the button turns it over, and the next page remembers."""
    def lightness():
        return chrome.run("""(() => { const c = getComputedStyle(document.body).backgroundColor.match(/[\\d.]+/g).map(Number);
                              return (c[0] + c[1] + c[2]) / 3 / 255 })()""")
    chrome.window(1400, dark=dark)
    chrome.open(site.url)
    chrome.run("localStorage.clear()")
    chrome.open(site.url)
    assert (lightness() < 0.2) == dark and (lightness() > 0.9) != dark
    chrome.run("document.querySelector('.quarto-color-scheme-toggle').click()")
    chrome.open(f"{site.url}kernels.masks.html")
    assert (lightness() < 0.2) != dark and chrome.errors == []
    chrome.run("localStorage.clear()")


QUERIES = {"paged cache": {"kernels.paged_cache"}, "rope": {"layers.rope"}, "generate": {"models.generate"},
           "sliding window": {"kernels.score_mods", "kernels.masks"}, "mixture of experts": {"layers.moe"},
           "flash attention": {"kernels.flash"}, "causal_mod": {"kernels.score_mods"}, "kv cache": {"layers.cache"},
           "load_pretrained": {"pretrained.load"}, "block spars": {"kernels.sparsity"}}   # the last one is half typed


def test_search(desk, site):
    """Words find the pages that are named after them, typed into the box as a reader would."""
    desk.open(site.url)
    first = {}
    for query in QUERIES:
        first[query] = desk.run(f"""(async () => {{
            const box = [...document.querySelectorAll(".smalldocs-search")].find(b => b.offsetParent);
            const input = box.querySelector("input");
            box.querySelector(".smalldocs-search-results").innerHTML = "";
            input.value = {query!r}; input.dispatchEvent(new Event("input"));
            for (let i = 0; i < 600; i++) {{
                await new Promise(r => setTimeout(r, 50));
                const hit = box.querySelector(".search-result, .search-none");
                if (hit) return hit.getAttribute("href") || "nothing";
            }}
        }})()""")
    wrong = {q: hit for q, hit in first.items() if hit.removeprefix("./").split(".html")[0] not in QUERIES[q]}
    assert wrong == {} and desk.errors == []


def test_page_not_found(desk, site):
    """A wrong address, at any depth, shows a page of ours with its style, its sidebar and links that work."""
    for address in ("no_such_page.html", "old/place/page.html"):
        desk.open(site.url + address)
        assert desk.run("document.title").startswith("Page not found")
        assert desk.run("[...document.styleSheets].every(s => s.cssRules.length > 0) && document.styleSheets.length >= 3")
        to = desk.run("document.querySelector('main a[href*=index]').href")
        assert to == f"{site.url}index.html" and outside(desk, site) == []
        assert [e for e in desk.errors if address not in e] == []   # that this address is missing may be said


def test_icon_and_links_of_a_page(desk, site):
    """An icon that exists; the repository, the page's notebook and Colab one click away."""
    desk.open(f"{site.url}kernels.masks.html")
    icon = desk.run("fetch(document.querySelector('link[rel=icon]').href).then(r => r.ok && r.headers.get('content-type'))")
    found = desk.run("[...document.querySelectorAll('a')].map(a => a.href)")
    at, github, colab = "attnax/attnax/blob/main/nbs/11_kernels.masks.ipynb", "https://github.com", "https://colab.research.google.com/github"
    assert icon == "image/svg+xml" and {f"{github}/attnax/attnax", f"{github}/{at}", f"{colab}/{at}"} <= set(found)


# ---- Accessibility

def violations(browser, leave_out: list[str]) -> list[str]:
    """What axe finds serious or critical on the page that is shown."""
    axe = Path(find_spec("axe_playwright_python").origin).parent / "axe.min.js"
    browser.send("Runtime.evaluate", expression=axe.read_text(encoding="utf-8"))
    return browser.run(f"""axe.run({{exclude: {leave_out!r}.map(s => [s])}}, {{resultTypes: ["violations"]}})
        .then(r => r.violations.filter(v => v.impact === "serious" || v.impact === "critical")
                               .flatMap(v => v.nodes.map(n => `${{v.id}}: ${{n.html.slice(0, 120)}}`)))""", timeout=120)


@pytest.mark.skipif(find_spec("axe_playwright_python") is None, reason="no axe-core: pip install --no-deps axe-playwright-python")
@pytest.mark.parametrize("page, dark", [(p, False) for p in SAMPLE] + [(WITH_CODE, False), (WITH_CODE, True)])
def test_accessible(chrome, site, page, dark):
    """axe has no serious or critical complaint."""
    chrome.window(1400, dark=dark)
    chrome.open(f"{site.url}{page}.html")
    assert violations(chrome, ["math"] if page == WITH_CODE else ["pre code", "math"]) == []
