"""The pages beside the lessons are complete, and their links lead where they say."""

import re
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
PAGES = {name: ROOT / "docs" / f"{name}.md" for name in ("article", "glossary")}
LINK = re.compile(r"\[((?:[^\]\\]|\\.)+)\]\(([^)#]+)#cell-id=([^)]+)\)")

# The headings of the article, by their numbers; its questions and answers one by one.
PARTS = {1: 3, 2: 1, 3: 4, 4: 3, 5: 3, 6: 4, 7: 3, 8: 4}
SECTIONS = [
    f"{chapter}.{n + 1}" for chapter, many in PARTS.items() for n in range(many)
]
SECTIONS += [f"9 Q{n}" for n in range(1, 6)]


def rows(page: str) -> list[list[str]]:
    """The cells of the page's first table, heading aside."""
    text = PAGES[page].read_text(encoding="utf-8").split("\n\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [re.split(r"(?<!\\) \| ", line.strip("| ")) for line in lines[1:]]


def test_every_section_of_the_article_is_answered():
    found = [section.split(" (")[0] for section, *_ in rows("article")]
    assert list(dict.fromkeys(found)) == SECTIONS
    assert all(len(row) == 4 and all(row) for row in rows("article"))


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_the_cell_that_they_name(page):
    links = LINK.findall(PAGES[page].read_text(encoding="utf-8"))
    assert len(links) > 20
    for label, file, cell_id in links:
        lesson = nbformat.read(PAGES[page].parent / file, as_version=4)
        (cell,) = [cell for cell in lesson.cells if cell.id == cell_id]
        heading = re.search(r"^#+ (.*)$", cell.source, re.MULTILINE)[1]
        assert label.endswith(heading.replace("|", r"\|"))
        assert label.startswith(Path(file).name.split("_")[0])


def test_what_is_called_planned_does_not_exist_yet():
    pages = " ".join(page.read_text(encoding="utf-8") for page in PAGES.values())
    planned = set(re.findall(r"\*planned: (\w+)\*", pages))
    tour = nbformat.read(ROOT / "notebooks" / "00_start_here.ipynb", as_version=4)
    (course,) = [cell.source for cell in tour.cells if cell.id == "map"]
    planned |= set(re.findall(r"^\| (\w+) .*\*\(planned\)\*", course, re.MULTILINE))
    written = {path.name.split("_")[0] for path in ROOT.glob("notebooks/*.ipynb")}
    assert planned
    assert not planned & written
    assert planned | written == set(
        re.findall(r"^\| (\w+) [A-Z]", course, re.MULTILINE)
    )


def test_terms_are_in_order_and_once():
    terms = [term.lower() for term, *_ in rows("glossary")]
    assert terms == sorted(set(terms))
    assert all(len(row) == 4 for row in rows("glossary"))
