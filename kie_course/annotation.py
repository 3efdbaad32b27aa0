"""Mentions marked in the running text, and how far two annotators agree.

`[[ORG|Meridian Trust]] of [[LOC|Porto]]` is what a person writes and proof-reads;
offsets are what programs read. `data/GUIDELINES.md` says what is marked.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from kie_course import BadInput, data

MARK = re.compile(r"\[\[([A-Z]+)\|(.+?)\]\]", re.DOTALL)

Span = tuple[int, int, str]
"""First character, one past the last, type."""


def from_markup(marked: str) -> tuple[str, list[Span]]:
    """Take the marks out of a text: `(text, mentions)`, offsets into that text.

    Raises:
        BadInput: brackets that mark nothing.
    """
    text, mentions, done = "", [], 0
    for mark in MARK.finditer(marked):
        text += marked[done : mark.start()]
        mentions.append((len(text), len(text) + len(mark[2]), mark[1]))
        text, done = text + mark[2], mark.end()
    text += marked[done:]
    for brackets in ("[[", "]]"):
        if brackets in text:
            near = text[max(0, text.index(brackets) - 20) :][:50]
            raise BadInput(f"{brackets} marks no mention near {near!r}")
    return text, mentions


def read_annotation(path: str | Path) -> dict[str, tuple[str, list[Span]]]:
    """Read annotated documents: a line `=== id`, then the marked text, for each.

    Raises:
        BadInput: broken markup, an id that occurs twice, no document.
    """
    lines = "\n".join(line for _, line in data.read_lines(path))
    parts = re.split(r"^=== *(\S+) *$", lines, flags=re.MULTILINE)
    ids, texts = parts[1::2], parts[2::2]
    if not ids or parts[0].strip():
        raise BadInput(f"{path}:1: every document begins with a line '=== its id'")
    documents = {}
    for name, marked in zip(ids, texts, strict=True):
        if name in documents:
            raise BadInput(f"{path}: document {name!r} occurs twice")
        try:
            documents[name] = from_markup(marked.strip())
        except BadInput as error:
            raise BadInput(f"{path}: {name}: {error}") from error
    return documents


def agreement(first: str | Path, second: str | Path) -> dict[str, float]:
    """Span F1 between two annotations of the same documents: `all`, and by type.

    A mention is agreed on if first character, last character and type are the same.
    The figure is the same whichever annotation is called the right one.

    Raises:
        BadInput: the files hold different documents or texts.
    """
    one, other = read_annotation(first), read_annotation(second)
    if {name: text for name, (text, _) in one.items()} != {
        name: text for name, (text, _) in other.items()
    }:
        raise BadInput(f"{second}: other documents or texts than {first}")
    marked, agreed = Counter(), Counter()
    for name, (_, spans) in one.items():
        theirs = other[name][1]
        marked.update(kind for *_, kind in (*spans, *theirs))
        agreed.update(kind for *_, kind in {*spans} & {*theirs})
    f1 = {kind: 2 * agreed[kind] / count for kind, count in sorted(marked.items())}
    return {"all": 2 * agreed.total() / max(1, marked.total())} | f1
