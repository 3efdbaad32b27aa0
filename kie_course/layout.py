"""What people read of a result: a page (HTML) and a table (Markdown)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


def page(template: str, **values: object) -> str:
    """Fill a template of this package: HTML that needs no other file.

    Args:
        template: a file beside this one; it extends `page.html`.
        **values: what the template names; text is shown as it is, never as HTML.
    """
    import jinja2

    files = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(loader=files, autoescape=True, trim_blocks=True)
    return environment.get_template(template).render(values)


def table(
    head: Iterable[object], rows: Iterable[Iterable[object]], left: int | None = None
) -> str:
    """Lay out a Markdown table; the first `left` columns (`None`: all) are text."""
    lines = [[str(cell) for cell in line] for line in (head, *rows)]
    escaped = [[cell.replace("|", r"\|") for cell in line] for line in lines]
    width = len(escaped[0])
    texts = width if left is None else left
    escaped.insert(1, ["---"] * texts + ["---:"] * (width - texts))
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped)
