"""A lecture that fails takes no other with it."""

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from book.execute import FAILURES, execute_all


@pytest.fixture
def write_notebook(tmp_path):
    """Return a function that writes a notebook of some code cells, as committed."""

    def write(name, *sources):
        cells = [new_markdown_cell("# A title\n\nA first sentence.")]
        for number, source in enumerate(sources, start=1):
            cell = new_code_cell(source, execution_count=number)
            cell.outputs = [nbformat.v4.new_output("stream", text="as committed\n")]
            cells.append(cell)
        path = tmp_path / f"{name}.ipynb"
        nbformat.write(new_notebook(cells=cells), path)
        return path

    return write


def test_others_are_executed_and_the_failed_one_says_where(write_notebook, tmp_path):
    broken = write_notebook(
        "1_broken", "a = 1\nprint(a)", "", "assert a == 2, 'no\\nluck'", "a = 3"
    )
    whole = write_notebook("2_whole", "print(6 * 7)")

    (failure,) = execute_all([broken, whole], tmp_path / "out", lanes=2)

    assert (failure.name, failure.cell) == ("1_broken.ipynb", 3)
    assert failure.error == "AssertionError: no luck"
    executed = nbformat.read(tmp_path / "out" / "2_whole.ipynb", as_version=4)
    assert executed.cells[1].outputs[0].text == "42\n"
    committed = nbformat.read(tmp_path / "out" / "1_broken.ipynb", as_version=4)
    assert committed.cells[0].source.startswith("# A title\n")
    assert "cell [3]" in committed.cells[0].source
    assert "no luck" in committed.cells[0].source
    assert [cell.outputs[0].text for cell in committed.cells[1:]] == ["as committed\n"] * 4
    lines = (tmp_path / "out" / FAILURES).read_text(encoding="utf-8").splitlines()
    assert len(lines) == 3
    assert "1_broken.ipynb" in lines[0]
    assert "[3]" in lines[1]
    assert "pytest notebooks/1_broken.ipynb" in lines[2]


def test_a_kernel_that_dies_is_a_failure_of_its_cell(write_notebook, tmp_path):
    dies = write_notebook("1_dies", "a = 1", "import os; os._exit(3)", "a")

    (failure,) = execute_all([dies], tmp_path / "out", lanes=1)

    assert failure.cell == 2
    assert "died" in failure.error


def test_where_all_goes_well_no_failure_is_noted(write_notebook, tmp_path):
    assert not execute_all([write_notebook("1_whole", "a = 1")], tmp_path / "out", lanes=1)
    assert not (tmp_path / "out" / FAILURES).exists()


def test_what_is_committed_keeps_no_widget(write_notebook, tmp_path):
    path = write_notebook("1_widget", "a = 1", "print(a)", "print(a + 1)")
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata["widgets"] = {"state": "of random names"}
    notebook.cells[2].metadata["tags"] = ["remove-cell"]
    nbformat.write(notebook, path)

    execute_all([path], tmp_path / "out", lanes=1, tidily=True)

    executed = nbformat.read(tmp_path / "out" / path.name, as_version=4)
    assert "widgets" not in executed.metadata
    assert executed.cells[2].outputs == []
    assert executed.cells[3].outputs[0].text == "2\n"
