"""The blocks of a page that a test can do something with.

A comment of HTML right before a fence says how it is treated; readers do not see it:

    <!-- not run: REASON -->    an `sh` or `python` block that cannot run here
    <!-- exit N -->             a block whose last failing command ends with N
    <!-- output -->             a `text` block that shows what the block before it prints
    <!-- setup                  commands that run and are not shown, such as names for the models of the text
    COMMANDS
    -->
"""

import re
from dataclasses import dataclass
from pathlib import Path

LANGUAGES = ("sh", "python")
ITEM = re.compile(
    r"^<!-- setup\n(?P<setup>.*?)\n-->$"
    r"|^(?P<fence>```+)(?P<language>[^\n`]*)\n(?P<text>.*?)^(?P=fence)[ \t]*$",
    re.MULTILINE | re.DOTALL,
)
DIRECTIVE = re.compile(r"<!-- (not run: .+?|exit \d+|output) -->\s*\Z")


@dataclass
class Block:
    """What stands between two fences."""

    line: int
    language: str
    text: str
    # Of a block that is not run.
    reason: str | None = None
    # How it ends.
    status: int = 0
    # What it prints, where the page shows that.
    output: str | None = None

    @property
    def hidden(self) -> bool:
        """Whether only the test sees it."""
        return self.language == "setup"


class Unreadable(Exception):
    """A page whose blocks are not marked."""


def blocks(page: Path) -> list[Block]:
    """The blocks of a page that are commands, in order."""
    source, found, shown = page.read_text(), [], None
    for item in ITEM.finditer(source):
        line = source.count("\n", 0, item.start()) + 1
        if item["setup"] is not None:
            found.append(Block(line, "setup", item["setup"]))
            continue
        language = item["language"].strip()
        if not language:
            raise Unreadable(f"{page}:{line}: a fence without a language; commands are `sh`, all else is `text`")
        if language.split()[0] in ("bash", "shell"):
            raise Unreadable(f"{page}:{line}: {language}: commands are marked `sh`")
        said = DIRECTIVE.search(source, 0, item.start())
        word = said[1] if said and said.end() == item.start() else ""
        if word == "output":
            if shown is None:
                raise Unreadable(f"{page}:{line}: the output of no block")
            shown.output = item["text"]
        elif language in LANGUAGES:
            shown = Block(line, language, item["text"])
            if word.startswith("not run: "):
                shown.reason = word.removeprefix("not run: ")
            elif word:
                shown.status = int(word.removeprefix("exit "))
            found.append(shown)
        elif word:
            raise Unreadable(f"{page}:{line}: `{word}` before a block of {language}")
    return found


# What differs from run to run: times, and digests and ids.
VARYING = ((re.compile(r"\b\d+(\.\d+)? (ms|s|min)\b"), "# s"), (re.compile(r"\b[0-9a-f]{12,64}\b"), "#"))


def plain(text: str) -> list[str]:
    """Lines without what differs from run to run, and without empty ones."""
    for pattern, instead in VARYING:
        text = pattern.sub(instead, text)
    return [line.rstrip() for line in text.splitlines() if line.strip()]


def shows(expected: str, printed: str) -> str | None:
    """The first line of `expected` that was not printed in its place; None if all were.

    `…` in a line stands for any text, `…` alone for any lines. Columns may be wider or narrower.
    """
    lines, at, free = plain(printed), 0, False
    for line in plain(expected):
        if line.strip() == "…":
            free = True
            continue
        pattern = re.compile(r"\s+".join(re.escape(word).replace("…", ".*") for word in line.split()))
        places = range(at, len(lines)) if free else range(at, min(at + 1, len(lines)))
        found = next((place for place in places if pattern.fullmatch(lines[place].strip())), None)
        if found is None:
            return line
        at, free = found + 1, False
    return None if free or at == len(lines) else f"(end of the block; then came: {lines[at]})"
