"""README.md from nbs/index.ipynb: `readme.py` writes it, `readme.py --check` fails when it is not what would be written.

(`nbdev_readme` does this by way of Quarto, which is in no package registry.) Prose stays as it is; links to other pages
lead to the site that settings.ini names, other links are made relative to the top of the repository; code cells become
code blocks with the text they printed, folded where the page folds them (`#| code-fold: true`); pictures that cells drew
are written beside the notebooks. Cells with `#| hide`
or `#| export` are left out.
"""
import base64
import json
import re
import sys
from configparser import ConfigParser
from pathlib import Path

root = Path(__file__).resolve().parent.parent
note = "<!-- Written by tools/readme.py from nbs/index.ipynb: edit that. -->\n"


def addresses() -> tuple[str, str]:
    """Of the site and of the repository, as settings.ini has them."""
    config = ConfigParser(delimiters=["="])
    config.read(root / "settings.ini", encoding="utf-8")
    cfg = config["DEFAULT"]
    return cfg["doc_host"] + cfg["doc_baseurl"], cfg["git_url"]


def relink(md: str) -> str:
    """Links are relative to nbs/ in the notebook; in the README pages are on the site, and files relative to the top."""
    site, repository = addresses()
    md = re.sub(r"\]\((?:\d+[a-z]?_)?([\w.-]+)\.ipynb(#[^)\s]*)?\)", lambda m: f"]({site}/{m[1]}.html{m[2] or ''})", md)
    md = md.replace(f"]({repository}/blob/main/", "](../")
    return re.sub(r"(\]\(|\bsrc=\"|\bhref=\")(?![a-z]+:|#|/|\.\./)([^)\s\"]+)", r"\1nbs/\2", md).replace("](../", "](")


def output(o: dict, cell_id: str, alt: str, files: dict[str, bytes]) -> str:
    """One output as Markdown; the bytes of a picture are put into `files`."""
    data = o.get("data", {})
    if "image/png" in data:
        name = f"nbs/images/{cell_id}.png"
        files[name] = base64.b64decode("".join(data["image/png"]))
        return f"![{alt or cell_id.replace('-', ' ')}]({name})"
    if "text/markdown" in data: return relink("".join(data["text/markdown"]))
    text = "".join(o.get("text", data.get("text/plain", ""))).rstrip()
    return f"```text\n{text}\n```" if text and o.get("name") != "stderr" else ""


def generate() -> dict[str, bytes]:
    """The README and its pictures, by path."""
    files, parts = {}, [note]
    for c in json.loads((root / "nbs" / "index.ipynb").read_text(encoding="utf-8"))["cells"]:
        src = "".join(c["source"])
        marks = dict(re.findall(r"^#\| *([\w-]+):? *(\S*)", src, re.M)) if c["cell_type"] == "code" else {}
        if c["cell_type"] == "markdown": parts.append(relink(src))
        elif c["cell_type"] == "code" and not marks.keys() & {"hide", "export", "exports", "exporti", "default_exp"}:
            src = re.sub(r"^#\|.*\n?", "", src, flags=re.M).strip()
            if src and marks.get("echo") != "false":
                block = f"```python\n{src}\n```"
                folded = marks.get("code-fold") == "true"
                parts.append(f"<details><summary>Code of the picture</summary>\n\n{block}\n\n</details>" if folded else block)
            alt = next(iter(re.findall(r"^#\| *fig-alt: *(.+)$", "".join(c["source"]), re.M)), "")
            if marks.get("output") != "false": parts += filter(None, (output(o, c["id"], alt, files) for o in c["outputs"]))
    return {"README.md": ("\n\n".join(p.strip("\n") for p in parts) + "\n").encode(), **files}


def stale() -> list[str]:
    """The files that are not what would be written."""
    return [name for name, data in generate().items() if not (root / name).is_file() or (root / name).read_bytes() != data]


if __name__ == "__main__":
    bad = stale()
    if "--check" in sys.argv: sys.exit(f"not what nbs/index.ipynb says: {', '.join(bad)} (python tools/readme.py)" if bad else 0)
    files = generate()
    for name in bad:
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(files[name])
        print("wrote", name)
