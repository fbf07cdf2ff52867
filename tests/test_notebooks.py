"""Committed notebooks are lectures, in a state in which nbval compares something."""

import io
import itertools
import re
import tokenize
from statistics import median

import nbformat
import pytest

from m2lib.files import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
CHECK = "nbval-check-output"
LIST_ITEM = r"\s*([0-9]+[.)]|[-+*])\s"


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return nbformat.read(request.param, as_version=4)


@pytest.fixture
def cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def tags(cell):
    return cell.metadata.get("tags", [])


def outputs(cell, kind):
    """What a cell shows of one MIME type; what it prints is text/plain too."""
    shown = []
    if kind == "text/plain":
        shown += [output.text for output in cell.outputs if output.output_type == "stream"]
    return shown + [output.data[kind] for output in cell.outputs if kind in output.get("data", {})]


def test_every_cell_was_executed_without_error_or_noise(cells):
    for place, cell in enumerate(cells, 1):
        if "remove-cell" not in tags(cell):
            count = cell.execution_count
            assert count == place, f"run all cells in order: the {place}th has [{count}]"
        for output in cell.outputs:
            assert output.output_type != "error", cell.source
            assert output.get("name") != "stderr", cell.source


def test_sliders_leave_nothing_behind(notebook, cells):
    assert "widgets" not in notebook.metadata
    assert not [cell.source for cell in cells if "remove-cell" in tags(cell) and cell.outputs]


def test_checked_cells_show_something_that_can_be_compared(cells):
    marked = [cell for cell in cells if CHECK in tags(cell)]
    assert marked
    assert not [cell.source for cell in cells if "NBVAL" in cell.source], "marks are tags of cells"
    for cell in marked:
        assert "".join(outputs(cell, "text/plain")).strip(), "a checked cell shows text or a table"
        assert not outputs(cell, "image/png"), "figures are not compared"


def logical_lines(source):
    """How many lines code has where none is broken: a call of five lines counts as one."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return sum(token.type in (tokenize.NEWLINE, tokenize.COMMENT) for token in tokens)


def test_cells_are_short(cells):
    shown = [cell for cell in cells if "hide-cell" not in tags(cell)]
    lengths = [logical_lines(cell.source) for cell in shown]
    assert median(lengths) <= 8
    assert max(lengths) <= 30


def test_every_figure_has_a_text_in_its_place(cells):
    for cell in cells:
        if outputs(cell, "image/png"):
            text = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
            assert len(text) > 30, (
                f"say in metadata mystnb.image.alt what this figure shows: {cell.source}"
            )


def test_what_is_folded_in_the_book_is_folded_in_jupyter(cells):
    for cell in cells:
        folded = bool({"hide-input", "hide-cell"} & set(tags(cell)))
        assert cell.metadata.get("jupyter", {}).get("source_hidden", False) == folded, cell.source


def test_a_notebook_is_a_lecture(notebook):
    first = notebook.cells[0].source
    last = notebook.cells[-1].source
    assert re.match(r"# \d+ · .+\n", first)
    for part in ("**You will see**", "**You need**"):
        assert part in first, part
    text = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    headings = [line for source in text for line in source.splitlines() if line.startswith("## ")]
    assert headings[-3:] == ["## In short", "## Exercises", "## Further reading"]
    links = dict(re.findall(r"\[(Previous|Next): [^\]]+\]\(([^)]+)\)", last))
    assert links
    assert all((ROOT / "notebooks" / target).is_file() for target in links.values())


def test_no_line_of_a_sentence_begins_a_list(notebook):
    """A line that begins with "60. So" after a line of text is shown as an item of a list."""
    for cell in notebook.cells:
        if cell.cell_type != "markdown":
            continue
        for paragraph in re.split(r"\n\s*\n", re.sub(r"```.*?```", "", cell.source, flags=re.S)):
            first, *others = paragraph.split("\n")
            if not re.match(LIST_ITEM, first) and not first.endswith(":"):
                assert not [line for line in others if re.match(LIST_ITEM, line)], paragraph


def test_previous_and_next_are_the_neighbours():
    assert len(NOTEBOOKS) > 9
    for path, later in itertools.pairwise(NOTEBOOKS):
        end = nbformat.read(path, as_version=4).cells[-1].source
        end_of_later = nbformat.read(later, as_version=4).cells[-1].source
        assert f"]({later.name})" in end
        assert f"]({path.name})" in end_of_later


def test_every_exercise_has_a_solution_that_is_folded_and_checks_itself(notebook):
    exercises = {}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            if exercises:
                exercises[max(exercises)].append(cell)
            continue
        heading = re.match(r"### Exercise (\d)", cell.source)
        if heading:
            exercises[int(heading[1])] = []
        elif exercises and cell.source.startswith("## "):  # no part between exercises and the end
            assert cell.source.startswith("## Exercises") or cell is notebook.cells[-1]
    assert list(exercises) == list(range(1, len(exercises) + 1))
    assert 3 <= len(exercises) <= 5
    for number, solution in exercises.items():
        assert solution, number
        assert all("hide-cell" in tags(cell) for cell in solution), number
        assert any("assert" in cell.source for cell in solution), number
