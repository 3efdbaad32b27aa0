"""What `grade` writes: tables for the teacher, a page of feedback for each learner."""

from __future__ import annotations

import collections
import csv
import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from kie_course.exercises import Exercise
from kie_course.exercises.diagnosis import Verdict


@dataclass(frozen=True)
class Grade:
    """What one learner gets for one exercise."""

    student: str
    exercise: Exercise
    verdict: Verdict
    source: str = ""
    """The function as it was graded."""

    @property
    def points(self) -> int:
        return self.exercise.points if self.verdict.passed else 0


def write(out: Path, grades: Sequence[Grade]) -> str:
    """Write both tables and every learner's page; give a summary to print."""
    students: dict[str, list[Grade]] = collections.defaultdict(list)
    for grade in grades:
        students[grade.student].append(grade)
    _write_grades(out / "grades.csv", grades)
    rows = _write_misconceptions(out / "misconceptions.csv", grades, len(students))
    for student, own in students.items():
        with _open(out / f"{student}.html") as file:
            file.write(feedback(student, own))
    return _summary(list(students.values()), rows, out)


def _open(path: Path) -> TextIO:
    # A learner's text may hold what UTF-8 cannot.
    return path.open("w", encoding="utf-8", errors="backslashreplace", newline="")


def _write_grades(path: Path, grades: Sequence[Grade]) -> None:
    with _open(path) as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(("student", "exercise", "points", "max", "message"))
        for grade in grades:
            exercise = grade.exercise
            score = (grade.points, exercise.points)
            rows.writerow((grade.student, exercise.id, *score, grade.verdict.message))


def _write_misconceptions(
    path: Path, grades: Sequence[Grade], students: int
) -> list[tuple]:
    """Count the typical mistakes over the class, the most common first."""
    counts = collections.Counter(
        (grade.exercise, grade.verdict.mistake, grade.verdict.message)
        for grade in grades
        if grade.verdict.mistake
    )
    rows = [
        (exercise.id, mistake, count, students, message)
        for (exercise, mistake, message), count in counts.most_common()
    ]
    with _open(path) as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("exercise", "mistake", "count", "students", "message"))
        table.writerows(rows)
    return rows


def _summary(
    students: Sequence[Sequence[Grade]], rows: Sequence[tuple], out: Path
) -> str:
    reached = sum(grade.points for own in students for grade in own) / len(students)
    most = sum(grade.exercise.points for grade in students[0])
    lines = [
        f"{len(students)} students, {len(students[0])} exercises each, "
        f"{reached:.1f} of {most} points on average",
        f"written: {out}/grades.csv, misconceptions.csv and a page for each student",
    ]
    if rows:
        lines.append("most common mistakes:")
        lines += [
            f"  {count:4} x {id:6} {mistake}: {message}"
            for id, mistake, count, _, message in rows[:5]
        ]
    return "\n".join(lines)


PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
body {{ font: 1rem/1.5 sans-serif; max-width: 48rem; margin: 2rem auto }}
section {{ border-left: .3rem solid #888; padding-left: 1rem; margin: 1.5rem 0 }}
section.right {{ border-color: #0072b2 }}
section.wrong {{ border-color: #d55e00 }}
h2 {{ font-size: 1.1rem; margin: 0 }}
p {{ margin: .3rem 0; overflow-wrap: anywhere }}
pre {{ background: #f4f4f4; padding: .5rem; overflow-x: auto }}
</style>
<h1>{title}</h1>
<p>{total}</p>
{sections}
</html>
"""

SECTION = """<section class="{kind}">
<h2>{mark} {id} {title}: {points} of {most}</h2>
<p>{message}</p>
<p><em>The idea: {idea}</em></p>
{source}
</section>"""


def feedback(student: str, grades: Sequence[Grade]) -> str:
    """Lay out one learner's results as a page that needs no other file."""
    reached = sum(grade.points for grade in grades)
    most = sum(grade.exercise.points for grade in grades)
    return PAGE.format(
        title=html.escape(f"Feedback for {student}"),
        total=f"{reached} of {most} points",
        sections="\n".join(map(_section, grades)),
    )


def _section(grade: Grade) -> str:
    exercise, verdict = grade.exercise, grade.verdict
    code = f"<pre>{html.escape(grade.source)}</pre>"
    shown = f"<details><summary>As it was graded</summary>{code}</details>"
    text = {
        "id": exercise.id,
        "title": exercise.title,
        "message": verdict.message[:1].upper() + verdict.message[1:],
        "idea": exercise.idea,
    }
    return SECTION.format(
        kind="right" if verdict.passed else "blank" if verdict.blank else "wrong",
        mark="✓" if verdict.passed else "–" if verdict.blank else "✗",
        points=grade.points,
        most=exercise.points,
        source=shown if grade.source else "",
        **{key: html.escape(value) for key, value in text.items()},
    )
