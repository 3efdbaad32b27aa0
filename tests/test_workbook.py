"""The learner's own copy, and the way through nbgrader for those who live there."""

import json
import os
import shutil
import sys
from pathlib import Path

import nbformat
import pytest
import small_exercises as small

from kie_course import BadInput, exercises, notebooks
from kie_course.exercises.workbook import progress, student_version, workbook

COURSE, FIRST = exercises.EXERCISES, notebooks.lessons()[0]


@pytest.fixture
def course(tmp_path, monkeypatch):
    """A folder of lessons, at first one with two exercises."""
    folder = tmp_path / "lessons"
    folder.mkdir()
    nbformat.write(small.lesson(), folder / small.LESSON)
    monkeypatch.setattr(exercises, "EXERCISES", small.EXERCISES)
    monkeypatch.setattr(notebooks, "lessons", lambda *_: sorted(folder.iterdir()))
    return folder


def read(path):
    return nbformat.read(path, as_version=4)


def edit(path, change):
    book = read(path)
    change(book.cells)
    nbformat.write(book, path)


def answers(book):
    return {c.id: c.source for c in book.cells if "nbgrader" in c.metadata}


# -------------------------------------------------------------------- what is in it


def test_the_workbook_holds_stubs_and_no_solution(course, tmp_path):
    assert workbook(tmp_path / "mine") == {small.LESSON: "written"}
    book = read(tmp_path / "mine" / small.LESSON)
    text = json.dumps(book)
    for id, source in small.BODIES.items():
        assert source.strip() not in text
        stub = answers(book)[f"ex-{id.replace('.', '-')}"]
        assert stub.startswith(small.HEADS[id])
        assert "raise NotImplementedError" in stub
    assert "SOLUTION" not in text


def test_outputs_go_and_answers_can_be_seen_and_written(course, tmp_path):
    def execute(cells):
        for cell in cells:
            if cell.cell_type == "code":
                cell.outputs = [nbformat.v4.new_output("stream", text="secret")]
                cell.execution_count = 1

    edit(course / small.LESSON, execute)
    workbook(tmp_path / "mine")
    book = read(tmp_path / "mine" / small.LESSON)
    assert "secret" not in json.dumps(book)
    for cell in book.cells:
        assert "source_hidden" not in cell.metadata.get("jupyter", {})
        assert "hide-input" not in cell.metadata.get("tags", [])
    checks = [c for c in book.cells if c.metadata.get("nbgrader", {}).get("grade")]
    assert [c.metadata.editable for c in checks] == [False, False]


def test_no_line_of_any_solution_is_in_a_real_workbook():
    for path in notebooks.lessons():
        lesson = read(path)
        told = json.dumps(student_version(lesson).cells, ensure_ascii=False)
        for cell in lesson.cells:
            inside, lines = False, []
            for line in cell.source.splitlines():
                inside = (inside or "BEGIN SOLUTION" in line) and "END SO" not in line
                lines += [line.strip()] if inside and "SOLUTION" not in line else []
            # Shorter lines, such as `return scores`, may stand in any lesson.
            long = [line for line in lines if len(line) > 24]
            assert [line for line in long if json.dumps(line)[1:-1] in told] == []


# ------------------------------------------------------------------------- run again


def test_a_second_run_keeps_edits_and_adds_new_lessons(course, tmp_path):
    mine = tmp_path / "mine"
    workbook(mine)
    path = mine / small.LESSON
    edit(path, lambda cells: cells[4].update(source=small.RIGHT["90.1"]))
    before = path.read_bytes()
    shutil.copy(course / small.LESSON, course / "91_other.ipynb")
    done = workbook(mine)
    assert done == {small.LESSON: "up to date", "91_other.ipynb": "written"}
    assert path.read_bytes() == before


def test_a_new_version_replaces_what_nobody_edited(course, tmp_path):
    workbook(tmp_path / "mine")
    path = tmp_path / "mine" / small.LESSON
    edit(path, lambda cells: cells[1].update(execution_count=3))
    edit(course / small.LESSON, lambda cells: cells[0].update(source="# New title"))
    assert "replaced" in workbook(tmp_path / "mine")[small.LESSON]
    assert read(path).cells[0].source == "# New title"
    assert workbook(tmp_path / "mine")[small.LESSON] == "up to date"


def test_new_exercises_join_an_edited_notebook(course, tmp_path):
    exercise = small.EXERCISES["90.2"]
    cells = small.exercise_cells(exercise, small.HEADS["90.2"], small.BODIES["90.2"])
    edit(course / small.LESSON, lambda all: all.__delitem__(slice(-3, None)))
    workbook(tmp_path / "mine")
    path = tmp_path / "mine" / small.LESSON

    def answer(all):
        all[4].source = small.RIGHT["90.1"]
        all.append(nbformat.v4.new_markdown_cell("My notes"))

    edit(path, answer)
    edit(course / small.LESSON, lambda all: all.extend(cells))
    assert "1 new exercise" in workbook(tmp_path / "mine")[small.LESSON]
    book = read(path)
    assert book.cells[4].source == small.RIGHT["90.1"]
    ids = [cell.id for cell in book.cells[-4:-1]]
    assert ids == ["task-90-2", "ex-90-2", "test-90-2"]
    assert book.cells[-1].source == "My notes"
    assert small.BODIES["90.2"].strip() not in json.dumps(book)
    assert workbook(tmp_path / "mine")[small.LESSON] == "up to date"


def test_what_was_deleted_on_purpose_stays_away(course, tmp_path):
    workbook(tmp_path / "mine")
    path = tmp_path / "mine" / small.LESSON
    edit(path, lambda cells: cells.__delitem__(slice(-3, None)))
    edit(course / small.LESSON, lambda cells: cells[0].update(source="# New title"))
    assert "no new exercise" in workbook(tmp_path / "mine")[small.LESSON]
    assert "ex-90-2" not in answers(read(path))


@pytest.mark.parametrize("text", ["x", "{}", "[]", '{"cells": 1, "nbformat": 4}'])
def test_a_file_that_cannot_be_read_is_left(course, tmp_path, text):
    path = tmp_path / "mine" / small.LESSON
    path.parent.mkdir()
    path.write_text(text)
    assert "left as it is" in workbook(tmp_path / "mine")[small.LESSON]
    assert path.read_text() == text


def test_a_notebook_of_other_origin_is_left(course):
    before = (course / small.LESSON).read_bytes()
    assert "not written by this command" in workbook(course)[small.LESSON]
    assert (course / small.LESSON).read_bytes() == before


def test_a_file_is_no_folder(course, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match="is a file"):
        workbook(tmp_path / "file")


# --------------------------------------------------------------------------- progress


def test_progress_tells_points_and_what_is_next(course, tmp_path, capsys):
    mine = {"90.1": small.RIGHT["90.1"], "90.2": small.BLANK["90.2"]}
    small.hand_in(tmp_path / "mine", mine)
    progress(tmp_path / "mine")
    assert capsys.readouterr().out.splitlines() == [
        "90      1 of  2 exercises, 2 of 5 points",
        "all     1 of  2 exercises, 2 of 5 points",
        "next: 90.2 Count words: nothing is written here yet",
    ]


def test_progress_names_what_is_not_right_yet_and_the_end(course, tmp_path, capsys):
    wrong = small.MEANS.wrong[0]
    small.hand_in(tmp_path / "mine", small.RIGHT | {"90.1": wrong.source})
    progress(tmp_path / "mine")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("3 of 5 points; not right yet: 90.1")
    assert lines[-1] == f"next: 90.1 Column means: {wrong.message}"
    small.hand_in(tmp_path / "mine", small.RIGHT)
    progress(tmp_path / "mine")
    assert capsys.readouterr().out.splitlines()[-1] == "everything is done"


def test_progress_before_the_first_notebook(course, tmp_path, capsys):
    progress(tmp_path)
    assert "there is no notebook 90_*.ipynb" in capsys.readouterr().out
    with pytest.raises(BadInput, match="no such folder"):
        progress(tmp_path / "none")


# ------------------------------------------------------------------------ with nbgrader


@pytest.fixture
def gradebook(tmp_path, monkeypatch):
    """nbgrader's own course folder, with the first lesson as source, and its API."""
    from nbgrader.apps import NbGraderAPI
    from traitlets.config import Config

    monkeypatch.chdir(tmp_path)
    # nbgrader calls `alembic`, which stands beside this Python.
    beside = str(Path(sys.executable).parent)
    monkeypatch.setenv("PATH", beside, prepend=os.pathsep)
    monkeypatch.setenv("KIE_PROFILE", "smoke")
    source = tmp_path / "source" / "tour"
    source.mkdir(parents=True)
    shutil.copy(FIRST, source)
    config = Config()
    config.CourseDirectory.root = str(tmp_path)
    config.CourseDirectory.db_url = f"sqlite:///{tmp_path / 'gradebook.db'}"
    return NbGraderAPI(config=config)


def succeed(step):
    assert step["success"], step.get("error") or step.get("log")


def hand_in(folder, student, path):
    target = folder / "submitted" / student / "tour"
    target.mkdir(parents=True)
    shutil.copy(path, target)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SAWarning")
def test_nbgrader_generates_grades_and_gives_feedback(tmp_path, gradebook):
    succeed(gradebook.generate_assignment("tour"))
    released = tmp_path / "release" / "tour" / FIRST.name
    assert "SOLUTION" not in released.read_text()
    hand_in(tmp_path, "blank", released)
    hand_in(tmp_path, "full", FIRST)
    for student in ("blank", "full"):
        succeed(gradebook.autograde("tour", student))
        succeed(gradebook.generate_feedback("tour", student))
        feedback = tmp_path / "feedback" / student / "tour"
        assert (feedback / f"{FIRST.stem}.html").is_file()
    with gradebook.gradebook as book:
        score = {
            student: book.find_submission("tour", student).score
            for student in ("blank", "full")
        }
    number = FIRST.stem.partition("_")[0]
    points = sum(e.points for id, e in COURSE.items() if id.startswith(f"{number}."))
    assert score == {"blank": 0, "full": points}
