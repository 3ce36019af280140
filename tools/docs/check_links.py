"""Checks that every relative link and anchor in the project's Markdown files resolves.

Looked at are the Markdown files of the root, of python/ and of docs/. A link from docs/ stays inside of docs/, because the book
holds nothing else; addresses with a scheme (https:, mailto:) are not opened.

    python3 tools/docs/check_links.py
"""

import re
import sys
import unicodedata
from pathlib import Path
from urllib.parse import unquote

FENCE = re.compile(r"^ {0,3}(```+|~~~+).*?^ {0,3}\1", re.MULTILINE | re.DOTALL)
INLINE_CODE = re.compile(r"(`+)(?!`).+?(?<!`)\1(?!`)", re.DOTALL)
LINK = re.compile(r"\[(?:[^\[\]]|\[[^\]]*\])*\]\(\s*<?([^)\s>]*)>?(?:\s+\"[^\"]*\")?\s*\)")
DEFINITION = re.compile(r"^ {0,3}\[[^\]]+\]:\s*(\S+)", re.MULTILINE)
HTML_LINK = re.compile(r"<(?:a|img)\b[^>]*?\b(?:href|src)=\"([^\"]+)\"")
HEADING = re.compile(r"^ {0,3}#{1,6}\s+(.*?)\s*#*\s*$", re.MULTILINE)
HTML_ANCHOR = re.compile(r"\b(?:id|name)=\"([^\"]+)\"")
SCHEME = re.compile(r"^[a-zA-Z][a-zA-Z0-9+.-]*:")


def blank(match):
    """As many lines, with nothing in them."""
    return "\n" * match.group(0).count("\n")


def slug(heading):
    """The anchor of a heading, as GitHub and mdBook make it."""
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").replace("*", "")
    kept = (c for c in text.strip().lower() if c in " -_" or unicodedata.category(c)[0] in "LN")
    return "".join(kept).replace(" ", "-")


def anchors(text):
    """Every anchor of a page; headings that repeat are numbered."""
    found, seen = set(HTML_ANCHOR.findall(text)), {}
    for heading in HEADING.findall(FENCE.sub(blank, text)):
        base = slug(heading)
        seen[base] = seen.get(base, -1) + 1
        found.add(base if seen[base] == 0 else f"{base}-{seen[base]}")
    return found


def links(text):
    """Every link's target, and the line that it stands on."""
    bare = FENCE.sub(blank, text)
    bare = INLINE_CODE.sub(lambda match: " " + blank(match), bare)
    for pattern in (LINK, DEFINITION, HTML_LINK):
        for match in pattern.finditer(bare):
            yield match.group(1), bare.count("\n", 0, match.start()) + 1


def broken(page, root):
    """What is wrong with the links of a page."""
    docs = root / "docs"
    for target, line in links(page.read_text(encoding="utf-8")):
        if SCHEME.match(target) or target.startswith("//"):
            continue
        where = f"{page.relative_to(root)}:{line}"
        path, _, anchor = target.partition("#")
        file = (page.parent / unquote(path)).resolve() if path else page
        if not file.exists():
            yield f"{where}: there is no {target}"
        elif docs in page.parents and docs not in file.parents and file != docs:
            yield f"{where}: {target} leaves docs/, and would not be in the book; name the file as `code`"
        elif anchor and file.suffix == ".md" and unquote(anchor) not in anchors(file.read_text(encoding="utf-8")):
            yield f"{where}: {file.relative_to(root)} has no heading #{anchor}"


def main():
    root = Path(__file__).resolve().parents[2]
    pages = sorted([*root.glob("*.md"), *root.glob("python/*.md"), *(root / "docs").rglob("*.md")])
    wrong = [sentence for page in pages for sentence in broken(page, root)]
    for sentence in wrong:
        print(sentence, file=sys.stderr)
    if wrong:
        sys.exit(f"{len(wrong)} of the links in {len(pages)} pages do not resolve")
    print(f"the links in {len(pages)} pages resolve")


if __name__ == "__main__":
    main()
