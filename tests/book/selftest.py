"""What run.py and links.py notice: pages with one thing wrong each, which have to fail, beside pages that have to pass.

selftest.py needs nothing but Python: the blocks run a stand-in for shardfuse.
"""

import sys
import tempfile
import unittest
from pathlib import Path

import links
import run
from pages import Unreadable, blocks, shows

STAND_IN = """#!/bin/sh
case "$*" in
  --help) printf 'Commands:\\n  merge  Merge\\n\\nOptions:\\n';;
  "merge --help") echo '  --base <PATH>';;
  *) echo "merged $2 in 0.3 s";;
esac
"""


class Pages(unittest.TestCase):
    """How a page is read and run."""

    def setUp(self) -> None:
        """A folder with a stand-in for the binary."""
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.binary = self.folder / "stand-in"
        self.binary.write_text(STAND_IN)
        self.binary.chmod(0o755)

    def problems(self, text: str) -> int:
        """How many problems a page has that holds `text`."""
        page = run.ROOT / "docs" / "a-page-that-is-not-there.md"
        source = self.folder / "page.md"
        source.write_text(text)
        found = blocks(source)
        arguments = run.argparse.Namespace(binary=self.binary, python=sys.executable, verbose=False)
        original, run.blocks = run.blocks, lambda _: found
        try:
            flags = run.Flags(self.binary)
            scratch = Path(tempfile.mkdtemp(dir=self.folder))
            return len(run.page_problems(page, scratch, arguments, flags, run.Counter(), set()))
        finally:
            run.blocks = original

    def test_a_command_that_fails_is_noticed_wherever_it_stands_in_a_block(self) -> None:
        """Its status is not that of the block's last command."""
        self.assertEqual(self.problems("```sh\ntrue\n```\n"), 0)
        self.assertEqual(self.problems("```sh\nfalse\ntrue\n```\n"), 1)

    def test_a_block_ends_as_the_page_says(self) -> None:
        """Also where the page says that it fails."""
        failing = "```sh\nsh -c 'exit 3'\n```\n"
        self.assertEqual(self.problems(f"<!-- exit 3 -->\n{failing}"), 0)
        self.assertEqual(self.problems(f"<!-- exit 4 -->\n{failing}"), 1)
        self.assertEqual(self.problems("<!-- exit 3 -->\n```sh\ntrue\n```\n"), 1)

    def test_output_that_differs_is_noticed(self) -> None:
        """Times and wildcards aside."""
        block = "```sh\nshardfuse merge --base\n```\n\n<!-- output -->\n```text\n{}\n```\n"
        self.assertEqual(self.problems(block.format("merged --base in 12.0 s")), 0)
        self.assertEqual(self.problems(block.format("merged … in 1 s")), 0)
        self.assertEqual(self.problems(block.format("merged another in 12.0 s")), 1)

    def test_blocks_of_a_page_share_folder_and_variables(self) -> None:
        """As in one terminal."""
        self.assertEqual(self.problems("```sh\nname=kept\n```\n\n```sh\ntest $name = kept\ntest -d examples\n```\n"), 0)

    def test_flags_of_blocks_that_are_not_run_are_checked(self) -> None:
        """So a renamed flag is noticed in commands for a cloud."""
        block = "<!-- not run: a cloud -->\n```sh\nshardfuse merge --{} s3://x | cat --show-all\n```\n"
        self.assertEqual(self.problems(block.format("base")), 0)
        self.assertEqual(self.problems(block.format("basis")), 1)

    def test_a_fence_says_what_it_is(self) -> None:
        """A command in a fence without a language would never run."""
        for text in ("```\nshardfuse merge\n```\n", "```bash\nls\n```\n", "<!-- output -->\n```text\nx\n```\n"):
            self.assertRaises(Unreadable, self.problems, text)


class Output(unittest.TestCase):
    """How what is shown is compared with what was printed."""

    def test_the_whole_output_is_compared(self) -> None:
        """Lines may be left out only where the page shows it."""
        self.assertIsNone(shows("a\n…\nd", "a\nb\nc\nd"))
        self.assertIsNone(shows("a\n…", "a\nb"))
        self.assertIsNotNone(shows("a", "a\nb"))
        self.assertIsNotNone(shows("a\nc", "a\nb\nc"))
        self.assertIsNotNone(shows("a\n…\ne", "a\nb"))


class Links(unittest.TestCase):
    """What a broken link of the book is."""

    def test_files_and_anchors_of_the_book_must_be_there(self) -> None:
        """A link to another host is not looked at."""
        with tempfile.TemporaryDirectory() as folder:
            book = Path(folder)
            (book / "a.html").write_text('<a href="b.html#there">x</a><a href="https://example.com/gone">x</a>')
            (book / "b.html").write_text('<h2 id="there">x</h2>')
            self.assertEqual(links.in_book(book), (1, []))
            (book / "b.html").write_text('<h2 id="moved">x</h2><img src="gone.svg">')
            self.assertEqual(len(links.in_book(book)[1]), 2)

    def test_anchors_are_those_of_mdbook(self) -> None:
        """Punctuation goes, spaces become hyphens, repeated headings are counted."""
        with tempfile.TemporaryDirectory() as folder:
            page = Path(folder) / "page.md"
            page.write_text("# A `b`, c?\n\n## Twice\n\n## Twice\n\n```sh\n# no heading\n```\n")
            self.assertEqual(links.anchors(page), {"a-b-c", "twice", "twice-1"})


if __name__ == "__main__":
    unittest.main()
