"""What nbval cannot see: that the committed notebooks are in a state in which it compares anything."""

from statistics import median

import nbformat
import pytest

from m2lib.files import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
CHECK = "# NBVAL_CHECK_OUTPUT"


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def cells(request):
    return [cell for cell in nbformat.read(request.param, as_version=4).cells if cell.cell_type == "code"]


def test_there_are_notebooks():
    assert [path.stem[:2] for path in NOTEBOOKS][:4] == ["01", "02", "03", "04"]


def test_every_cell_was_executed_without_error_or_noise(cells):
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    for cell in cells:
        assert not [o for o in cell.outputs if o.output_type == "error" or o.get("name") == "stderr"], cell.source


def test_checks_are_marked_so_that_nbval_sees_them(cells):
    marked = [cell for cell in cells if CHECK in cell.source]
    assert marked
    for cell in marked:
        assert CHECK in cell.source.splitlines(), "text on the marker's line disables it"
        assert "".join(o.get("text", "") for o in cell.outputs).strip(), "a checked cell prints something"
        assert all(o.output_type == "stream" for o in cell.outputs), "figures and tables are not compared"


def test_cells_are_short(cells):
    lengths = [len(cell.source.splitlines()) for cell in cells]
    assert median(lengths) <= 8
    assert max(lengths) <= 30
