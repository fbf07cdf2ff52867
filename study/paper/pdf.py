"""How report/main.pdf is made from the records of the laptop's study: figures, numbers, Typst.

No model is loaded.

`python -m study pdf` (`make figures`) redraws report/figures/, report/numbers.json and
report/main.pdf, and writes the tables of README and pages; `python -m study pdf FOLDER` makes the
PDF in a folder of its own, and leaves the pages as they are.
"""

from inspect import getmembers, isfunction
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from m2lib.errors import InputError, first_line
from m2lib.files import ROOT, write_atomic, write_json
from study import PROFILES, REPLICATION, Profile, plots
from study.paper import figures
from study.paper.errors import shown_profile
from study.paper.numbers import numbers
from study.paper.pages import write_pages

REPORT_FOLDER = ROOT / "report"
SOURCES = ("main.typ", "references.bib")
FIGURES = {
    name: function
    for name, function in getmembers(figures, isfunction)
    if function.__module__ == figures.__name__ and not name.startswith("_")
}
"""The public functions of `figures`, by name; not those that it imports."""
IN_PAPER = (
    "best_forecasts",
    "rival",
    "fig4_baseline_forecasts",
    "fig5_baseline_errors",
    "fig6_forecasts",
    "fig7_reduced_validation",
    "fig8_search",
    "context_lengths",
    "fig9_final",
    "table3_budget",
)
"""The figures that report/main.typ shows; the others are drawn for lectures, by `show`."""
OF_REPLICATION = {
    "report": (
        "fig4_baseline_forecasts",
        "fig6_forecasts",
        "fig7_reduced_validation",
        "context_lengths",
        "fig9_final",
    ),
    "fifth": ("fig8_search",),
}
"""The figures that show the replication's records and not the laptop's, by profile: all of the
report's steps, or a fifth."""


def draw(name: str) -> Figure:
    """Draw a figure of the paper, from the records of the profile that is shown or a replication's.

    Raises InputError for an unknown name, and if a record that it needs is missing.
    """
    if name not in FIGURES:
        raise InputError(f"no figure {name!r}: choose one of {', '.join(FIGURES)}")
    plots.use_style()
    return FIGURES[name](_profile_of(name))


def _profile_of(figure: str) -> Profile:
    """Return the profile whose records a figure shows."""
    for profile, names in OF_REPLICATION.items():
        if figure in names:
            return REPLICATION[profile]
    return shown_profile()


def show(name: str) -> Figure:
    """Draw a figure as `draw` does, and save it under build/figures."""
    figure = draw(name)
    plots.save_figure(figure, name)
    return figure


def make_pdf(folder: Path) -> Path:
    """Draw the figures, write the numbers, compile the PDF, and return its path.

    The same figures and numbers give the same bytes. Raises InputError if typst is not installed or
    finds a fault, and for any profile or backbone but the laptop's, whose results the text puts
    into words.
    """
    try:
        import typst
    except ImportError as error:
        raise InputError("the PDF needs typst: pip install typst") from error
    profile = shown_profile()
    if profile != PROFILES["laptop"]:
        raise InputError(
            f"the text of the PDF is about the laptop's study, not {profile.name}'s on "
            f"{profile.backbone}; unset M2_PROFILE and M2_BACKBONE"
        )
    # This comes first because it needs all records: if one is missing, nothing is redrawn.
    numbers_printed = numbers(profile)
    if folder != REPORT_FOLDER:
        for name in SOURCES:
            write_atomic(folder / name, (REPORT_FOLDER / name).read_bytes())
    for name in IN_PAPER:
        figure = draw(name)
        plots.save_figure(figure, name, folder=folder / "figures", kind="svg")
        plt.close(figure)
    write_json(folder / "numbers.json", numbers_printed)
    if folder == REPORT_FOLDER:
        write_pages(numbers_printed)
    try:
        content = typst.compile(str(folder / "main.typ"), root=str(folder))
    except RuntimeError as error:
        raise InputError(f"{folder / 'main.typ'}: {first_line(error)}") from error
    write_atomic(folder / "main.pdf", content)
    return folder / "main.pdf"
