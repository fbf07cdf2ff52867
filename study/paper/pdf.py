"""report/main.pdf, from the records of the laptop's study: figures, numbers, Typst. No model is
loaded.

`python -m study pdf` (`make figures`) redraws report/figures/, report/numbers.json and
report/main.pdf; `python -m study pdf FOLDER` makes the same in a folder of its own.
"""

from inspect import getmembers, isfunction
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from m2lib import plots
from m2lib.files import ROOT, InputError, first_line, write_atomic, write_json
from study import REPLICATION
from study.paper import figures
from study.paper.errors import shown_profile
from study.paper.numbers import fullest_final, numbers

REPORT_FOLDER = ROOT / "report"
SOURCES = ("main.typ", "references.bib")
FIGURES = dict(getmembers(figures, lambda it: isfunction(it) and it.__module__ == figures.__name__))
FIGURES = {name: draw for name, draw in FIGURES.items() if not name.startswith("_")}
OF_REPLICATION = {"report": ("fig4", "fig6", "fig7"), "fifth": ("fig8", "context_lengths")}
"""The figures that show the replication's records and not the laptop's, by profile: all of the
report's steps, or a fifth."""
AT_THE_END = "fig9_final"
"""The one that shows its longest final run."""


def draw(name: str) -> Figure:
    """A figure of the paper, from the records of the profile that is shown, or of the replication.

    Raises InputError where a record that it needs is missing.
    """
    plots.use_style()
    if name == AT_THE_END:
        return FIGURES[name](fullest_final())
    replica = next(
        (profile for profile, names in OF_REPLICATION.items() if name.startswith(names)), None
    )
    return FIGURES[name](REPLICATION[replica] if replica else shown_profile())


def show(name: str) -> Figure:
    """The same, saved under build/figures."""
    figure = draw(name)
    plots.save_figure(figure, name)
    return figure


def make_pdf(folder: Path = REPORT_FOLDER) -> Path:
    """Draw the figures, write the numbers, and compile the PDF, whose bytes are the same for the
    same of these.

    Raises InputError where typst is not installed or finds a fault, and for any profile's study but
    the laptop's, whose results the text reads in words.
    """
    try:
        import typst
    except ImportError as error:
        raise InputError("the PDF needs typst: pip install typst") from error
    profile = shown_profile()
    if profile.name != "laptop":
        raise InputError(
            f"the text of the PDF is about the laptop's study, not {profile.name}'s: "
            "leave M2_PROFILE out"
        )
    # first, for it needs all records: nothing is redrawn where one is missing
    found = numbers(profile)
    for name in SOURCES if folder != REPORT_FOLDER else ():
        write_atomic(folder / name, (REPORT_FOLDER / name).read_bytes())
    for name in FIGURES:
        figure = draw(name)
        plots.save_figure(figure, name, folder=folder / "figures", kind="svg")
        plt.close(figure)
    write_json(folder / "numbers.json", found)
    try:
        content = typst.compile(str(folder / "main.typ"), root=str(folder))
    except RuntimeError as error:
        raise InputError(f"{folder / 'main.typ'}: {first_line(error)}") from error
    write_atomic(folder / "main.pdf", content)
    return folder / "main.pdf"
