"""Lectures without solutions: what the reader gets, and what nbgrader reads."""

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from book.exercises import EMPTY, without_solutions
from m2lib.files import ROOT

LECTURES = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))


@pytest.fixture
def lecture():
    """Return a lecture with a question, and an exercise whose solution has two cells."""
    shown = [new_output("stream", text="42\n")]
    return new_notebook(
        cells=[
            new_markdown_cell("See [the page](../book/symbols.md)."),
            new_code_cell("print(42)", outputs=shown, metadata={"tags": ["hide-output"]}),
            new_code_cell("print(41 + 1)", outputs=shown),
            new_code_cell("half = 21", metadata={"tags": ["hide-cell", "solution"]}),
            new_code_cell("both = 2 * half", metadata={"tags": ["hide-cell", "solution"]}),
            new_code_cell("assert both == 42", metadata={"tags": ["hide-cell", "check"]}),
        ]
    )


def test_a_solution_is_an_empty_cell_and_its_check_stays(lecture):
    *_, answer, check = without_solutions(lecture, "05").cells
    assert answer.source == EMPTY
    assert answer.metadata.nbgrader.solution
    assert not answer.metadata.get("tags")
    assert check.source == "assert both == 42"
    assert check.metadata.nbgrader.grade


def test_only_outputs_that_answer_a_question_are_gone(lecture):
    _, answers, other, *_ = without_solutions(lecture, "05").cells
    assert answers.outputs == []
    assert other.outputs


@pytest.mark.parametrize("path", LECTURES, ids=lambda path: path.stem)
def test_each_lecture_without_solutions_is_a_notebook_with_its_checks(path):
    lecture = nbformat.read(path, as_version=4)
    blank = without_solutions(lecture, path.stem)
    nbformat.validate(blank)
    graded = [cell.metadata.nbgrader for cell in blank.cells if "nbgrader" in cell.metadata]
    answers = [marks.grade_id for marks in graded if marks.solution]
    checks = [marks.grade_id for marks in graded if marks.grade]
    assert len(answers) >= 3
    assert checks == [f"{answer}-check" for answer in answers]
