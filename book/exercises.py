"""`python -m book.exercises FOLDER NOTEBOOKS...`: write lectures without their solutions.

In a lecture a cell with the tag `solution` answers an exercise, and the cell with the tag `check`
that follows asserts what a right answer has. Here the solutions are empty cells, and the outputs
that would answer a question (tag `hide-output`) are gone. Both kinds of cell have the metadata that
nbgrader's documentation describes, so that those who teach with it can hand the notebooks out and
mark them.
"""

import argparse
from itertools import groupby
from pathlib import Path

import nbformat
from nbformat import NotebookNode

SOLUTION = "solution"
CHECK = "check"
ANSWERS = "hide-output"
"""The tag of a cell whose output answers a question that was asked before it."""
EMPTY = "# Your answer"


def without_solutions(notebook: NotebookNode, name: str) -> NotebookNode:
    """Return a lecture with an empty cell for each solution, and without outputs that answer.

    `name` is the lecture's own, such as `05_flops`, and begins nbgrader's names of the cells.
    """
    cells = []
    number = 0
    # Several solution cells in a row are one answer.
    for kind, members in groupby(notebook.cells, _kind):
        if kind == SOLUTION:
            number += 1
            cells.append(_answer_cell(next(members), f"{name}-{number}"))
            continue
        for cell in members:
            if kind == CHECK:
                cell = _check_cell(cell, f"{name}-{number}-check")
            elif ANSWERS in _tags(cell):
                cell = _without_output(cell)
            cells.append(cell)
    return NotebookNode(notebook | {"cells": cells})


def _tags(cell: NotebookNode) -> list[str]:
    """Return a cell's tags."""
    return cell.metadata.get("tags", [])


def _kind(cell: NotebookNode) -> str:
    """Return whether a cell is a solution, a check or something else."""
    for tag in (SOLUTION, CHECK):
        if tag in _tags(cell):
            return tag
    return ""


def _without_output(cell: NotebookNode) -> NotebookNode:
    """Return a code cell as it is before it runs."""
    return NotebookNode(cell | {"outputs": [], "execution_count": None})


def _answer_cell(cell: NotebookNode, grade_id: str) -> NotebookNode:
    """Return the empty cell that takes the place of a solution."""
    metadata = NotebookNode(nbgrader=_nbgrader(grade_id, solution=True))
    return NotebookNode(_without_output(cell) | {"source": EMPTY, "metadata": metadata})


def _check_cell(cell: NotebookNode, grade_id: str) -> NotebookNode:
    """Return a check, folded as in the lecture, which the reader runs after the answer."""
    nbgrader = NotebookNode(_nbgrader(grade_id, solution=False) | {"points": 1})
    metadata = NotebookNode(cell.metadata | {"nbgrader": nbgrader})
    return NotebookNode(_without_output(cell) | {"metadata": metadata})


def _nbgrader(grade_id: str, *, solution: bool) -> NotebookNode:
    """Return nbgrader's metadata of an answer, or of the check that marks it."""
    return NotebookNode(
        grade_id=grade_id,
        grade=not solution,
        locked=not solution,
        schema_version=3,
        solution=solution,
        task=False,
    )


def write(folder: Path, paths: list[Path]) -> None:
    """Write the lectures without their solutions into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in paths:
        lecture = nbformat.read(path, as_version=4)
        nbformat.write(without_solutions(lecture, path.stem), folder / path.name)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("notebooks", nargs="+", type=Path)
    options = parser.parse_args()
    write(options.folder, options.notebooks)
