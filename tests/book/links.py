"""Every link within the documentation leads somewhere: links.py BOOK, where BOOK is the folder that mdBook wrote.

Two looks. At the sources, as a code host shows them: each relative link of a page names a file of the checkout, and an anchor names a
heading of it. At the built book: each link names a file of the book, and an anchor an element of that page. Links to other hosts
are not fetched. Every page of docs/ has to be in SUMMARY.md, because mdBook leaves out the others without a word.
"""

import re
import sys
import urllib.parse
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
BESIDE = ("README.md", "README.zh-CN.md", "CONTRIBUTING.md", "CHANGELOG.md", "examples/README.md", "deploy/README.md")
LINK = re.compile(
    r"!?\[(?:[^\]\[]|\[[^\]]*\])*\]\(([^()\s]+(?:\([^()\s]*\))?)\)|<(?:img|a|source)\s[^>]*?(?:src|href|srcset)=\"([^\"]+)\""
)
FENCE = re.compile(r"^(```+|~~~+).*?^\1\s*?$", re.MULTILINE | re.DOTALL)


def prose(page: Path) -> str:
    """A page without what stands in fences."""
    return FENCE.sub("", page.read_text())


@cache
def anchors(page: Path) -> frozenset[str]:
    """The anchors of a page's headings, as code hosts and mdBook make them."""
    found: dict[str, int] = {}
    for heading in re.findall(r"^#{1,6}\s+(.+?)\s*#*$", prose(page), re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").lower()
        slug = re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", text))
        found[slug] = found.get(slug, -1) + 1
        if found[slug]:
            found[f"{slug}-{found[slug]}"] = 0
    return frozenset(found)


def elsewhere(link: str) -> bool:
    """Whether a link leads to another host."""
    return urllib.parse.urlsplit(link).scheme != "" or link.startswith("//")


def in_sources() -> tuple[int, list[str]]:
    """How many links the sources have, and what is wrong with them."""
    wrong, count = [], 0
    pages = sorted(DOCS.rglob("*.md"))
    beside = [ROOT / name for name in BESIDE if (ROOT / name).exists()]
    for page in pages + beside:
        for groups in LINK.findall(re.sub(r"`[^`\n]*`", "`", prose(page))):
            link = groups[0] or groups[1]
            if elsewhere(link):
                continue
            count += 1
            path, _, fragment = link.partition("#")
            target = (page.parent / urllib.parse.unquote(path)).resolve() if path else page
            where = f"{page.relative_to(ROOT)}: {link}"
            if not target.exists():
                wrong.append(f"{where}: there is no such file")
            elif page.is_relative_to(DOCS) and not target.is_relative_to(DOCS):
                wrong.append(f"{where}: the book holds docs/ only; name the file in the text instead")
            elif fragment and target.suffix == ".md" and fragment not in anchors(target):
                wrong.append(f"{where}: {target.name} has no such heading")
    summary = DOCS / "SUMMARY.md"
    listed = {(DOCS / link).resolve() for link, _ in LINK.findall(summary.read_text())}
    wrong += [
        f"{page.relative_to(ROOT)} is not in docs/SUMMARY.md"
        for page in pages
        if page not in listed and page != summary
    ]
    return count, wrong


class Page(HTMLParser):
    """The ids and links of a page of the book."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what the tag is called and where it leads."""
        for name, value in attrs:
            if name in ("id", "name") and value:
                self.ids.add(value)
            elif name in ("href", "src") and value is not None and tag != "base":
                self.links.append(value)


def in_book(book: Path) -> tuple[int, list[str]]:
    """How many links the book has, and what is wrong with them."""
    pages = {page: Page(page.read_text()) for page in sorted(book.rglob("*.html"))}
    wrong, count = [], 0
    for page, found in pages.items():
        if page.name == "404.html":  # its links are those of the server's root
            continue
        for link in found.links:
            if elsewhere(link):
                continue
            count += 1
            path, _, fragment = link.partition("#")
            target = (page.parent / urllib.parse.unquote(path)).resolve() if path else page
            where = f"{page.relative_to(book)}: {link}"
            if target.is_dir():
                target /= "index.html"
            if not target.is_file():
                wrong.append(f"{where}: the book has no such file")
            elif fragment and target in pages and urllib.parse.unquote(fragment) not in pages[target].ids:
                wrong.append(f"{where}: {target.name} has no such anchor")
    return count, wrong


def main() -> None:
    """Print each broken link, and end with 1 if there is one."""
    book = Path(sys.argv[1]).resolve()
    counts, wrong = zip(in_sources(), in_book(book), strict=True)
    problems = sorted({*wrong[0], *wrong[1]})
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"{counts[0]} links in the sources, {counts[1]} in the book: {len(problems)} lead nowhere")
    if not min(counts):
        print("no link was looked at", file=sys.stderr)
    sys.exit(1 if problems or not min(counts) else 0)


if __name__ == "__main__":
    main()
