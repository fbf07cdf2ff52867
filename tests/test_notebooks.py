"""What nbval cannot see: that the committed notebooks are lectures, in a state in which it compares
anything."""

import itertools
import json
import re
from statistics import median

import nbformat
import pytest

from m2lib.files import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
CHECK = "nbval-check-output"


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
    printed = (
        [o.text for o in cell.outputs if o.output_type == "stream"] if kind == "text/plain" else []
    )
    return printed + [o.data[kind] for o in cell.outputs if kind in o.get("data", {})]


def test_every_cell_was_executed_without_error_or_noise(cells):
    for place, cell in enumerate(cells, 1):
        assert cell.execution_count == place or "remove-cell" in tags(cell)
        assert not [
            o for o in cell.outputs if o.output_type == "error" or o.get("name") == "stderr"
        ], cell.source


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


def test_lectures_are_read_to_the_end(notebook):
    """At most 2,000 words, no sentence over 35, one in twenty over 25; headings, tables and code
    are not prose."""
    prose = "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    prose = re.sub(
        r"```.*?```|\$\$.*?\$\$|^\s*[|>#].*?$",
        "",
        prose.split("## Further reading")[0],
        flags=re.S | re.M,
    )
    blocks = re.split(r"\n\s*\n|^\s*(?:[-*+]|\d+\.)\s", prose, flags=re.M)
    found = [
        part.split() for block in blocks for part in re.split(r"(?<=[.!?])\s+(?=[A-Z*`\"(])", block)
    ]
    lengths = [len(words) for words in found if len(words) > 3]
    assert sum(lengths) <= 2000
    assert max(lengths) <= 35, max(found, key=len)
    assert sum(length > 25 for length in lengths) <= len(lengths) / 20


def test_cells_are_short(cells):
    lengths = [len(cell.source.splitlines()) for cell in cells if "hide-cell" not in tags(cell)]
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
    first, last = notebook.cells[0].source, notebook.cells[-1].source
    assert re.match(r"# \d+ · .+\n", first)
    for part in ("**You will see**", "**You need**"):
        assert part in first, part
    text = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    headings = [line for source in text for line in source.splitlines() if line.startswith("## ")]
    assert headings[-3:] == ["## In short", "## Exercises", "## Further reading"]
    links = dict(re.findall(r"\[(Previous|Next): [^\]]+\]\(([^)]+)\)", last))
    assert links
    assert all((ROOT / "notebooks" / target).is_file() for target in links.values())


def test_previous_and_next_are_the_neighbours():
    assert len(NOTEBOOKS) > 9
    for path, later in itertools.pairwise(NOTEBOOKS):
        last, first = (
            nbformat.read(which, as_version=4).cells[-1].source for which in (path, later)
        )
        assert f"]({later.name})" in last
        assert f"]({path.name})" in first


def test_every_exercise_has_a_solution_that_is_folded_and_checks_itself(notebook):
    exercises = {}
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and (found := re.match(r"### Exercise (\d)", cell.source)):
            exercises[int(found[1])] = []
        elif cell.cell_type == "markdown" and cell.source.startswith("## "):
            assert (
                cell.source.startswith("## Exercises")
                or not exercises
                or cell is notebook.cells[-1]
            )
        elif exercises and cell.cell_type == "code":
            exercises[max(exercises)].append(cell)
    assert list(exercises) == list(range(1, len(exercises) + 1))
    assert 3 <= len(exercises) <= 5
    for number, solution in exercises.items():
        assert solution, number
        assert all("hide-cell" in tags(cell) for cell in solution), number
        assert any("assert" in cell.source for cell in solution), number


# Numbers in sentences. What is named by a number, or belongs to a formula, a link or a title, is
# none of them.
NAMED = (
    r"(?:[Ss]ections?|[Ff]igures?|[Tt]ables?|[Nn]otebooks?|[Ee]xercises?|[Dd]epartures?|[Pp]arts?)"
)
NOT_SAID = (
    r"```.*?```", r"`[^`]*`", r"\$\$.*?\$\$", r"\$[^$]*\$", r"\]\([^)]*\)", r"<[^>]*>",
    rf"{NAMED}\s+\d[\d.]*(?:(?:,| and| to|,? or)\s+\d[\d.]*)*", r"(?m)^#+ .*$", r"\[\d+ · [^\]]*\]",
)  # fmt: skip
NUMBER = re.compile(r"(?<![\w.,^])-?(\d{1,3}(?:,\d{3})+|\d+)(\.\d+)?(?:e([+-]?\d+))?(%?)(?![\w^])")
WORDS = "report/numbers.json", "report/published/*", "m2lib/model/configs/*.json"


def said(source):
    """The numbers in the sentences of a markdown cell, as they are written."""
    for pattern in NOT_SAID:
        source = re.sub(
            pattern, " ", source, flags=re.DOTALL if "```" in pattern or r"\$\$" in pattern else 0
        )
    return NUMBER.finditer(source)


def value(found):
    whole, fraction, exponent, percent = found.groups()
    number = float(whole.replace(",", "") + (fraction or "") + f"e{exponent or 0}")
    return number / 100 if percent else number, len((fraction or ".")[1:]) - int(
        exponent or 0
    ) + 2 * bool(percent)


def holds(known, found):
    """Whether a number, rounded as it is written, is known."""
    number, digits = value(found)
    return any(abs(round(other, digits) - number) < 1e-9 * max(1, number) for other in known)


@pytest.fixture(scope="session")
def recorded():
    """Numbers of the study: three digits at least, because among hundreds of them every short one
    is found."""
    texts = [
        path.read_text(encoding="utf-8")
        for pattern in WORDS
        for path in ROOT.glob(pattern)
        if path.is_file()
    ]
    return {value(found)[0] for text in texts for found in NUMBER.finditer(text)}


def test_every_number_in_a_sentence_is_in_an_output_a_record_or_a_published_table(
    notebook, recorded
):
    shown = [
        text
        for cell in notebook.cells
        if cell.cell_type == "code"
        for text in outputs(cell, "text/plain")
    ]
    shown += [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    known = {value(found)[0] for text in shown for found in NUMBER.finditer(text)}
    allowed = set(notebook.metadata.get("numbers_said", []))
    reading = False
    for cell in notebook.cells:
        reading = reading or cell.source.startswith("## Further reading")
        if cell.cell_type != "markdown" or reading:
            continue
        for found in said(cell.source):
            long = len(re.sub(r"\D", "", found[0].split("e")[0]).strip("0")) >= 3
            fine = found[0] in allowed or holds(known, found) or (long and holds(recorded, found))
            assert fine, f"{found[0]!r} in: {json.dumps(cell.source)}"
