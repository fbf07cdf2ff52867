"""report/main.pdf, from the records of the laptop's study: figures, numbers, Typst. No model is loaded.

`m2 pdf` (`make figures`) redraws report/figures/, report/numbers.json and report/main.pdf; `m2 pdf FOLDER` makes the
same in a folder of its own.
"""

import hashlib
import json
import re
from pathlib import Path

import matplotlib.pyplot as plt

from m2lib.files import ROOT, InputError, first_line, write_atomic
from m2lib.paper import panels, plots
from m2lib.paper.numbers import numbers
from m2lib.study import record_path

REPORT_FOLDER = ROOT / "report"
SOURCES = ("main.typ", "references.bib")


def inputs(folder: Path = REPORT_FOLDER) -> list[Path]:
    """All files that a report's PDF is made of: sources, numbers, figures, and the records behind them."""
    named = re.findall(r'"(\w+\.svg)"', (folder / "main.typ").read_text(encoding="utf-8"))
    records = record_path(panels.shown_profile(), "x").parent.rglob("*.json")
    return [
        *(folder / name for name in SOURCES),
        folder / "numbers.json",
        *sorted({folder / "figures" / name for name in named}),
        *sorted(path for path in records if path.name != "adapter_config.json"),
    ]


def inputs_hash(folder: Path = REPORT_FOLDER) -> str:
    """SHA-256 over the names and contents of `inputs`. Raises InputError naming one that is missing."""
    digest = hashlib.sha256()
    for path in inputs(folder):
        if not path.is_file():
            raise InputError(f"{path} is missing, which {folder / 'main.typ'} names; `make figures` draws the figures")
        digest.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def compile_pdf(folder: Path = REPORT_FOLDER) -> Path:
    """Compile main.typ, and write beside the PDF the hash of what it was made of.

    Raises InputError where typst is not installed or finds a fault.
    """
    try:
        import typst
    except ImportError as error:
        raise InputError("the PDF needs typst: pip install typst") from error
    made_of = inputs_hash(folder)
    try:
        content = typst.compile(str(folder / "main.typ"), root=str(folder))
    except RuntimeError as error:
        raise InputError(f"{folder / 'main.typ'}: {first_line(error)}") from error
    write_atomic(folder / "main.pdf", content)
    write_atomic(folder / "main.pdf.inputs.sha256", f"{made_of}\n".encode())
    return folder / "main.pdf"


def make_pdf(folder: Path = REPORT_FOLDER) -> Path:
    """Draw the figures, write the numbers, compile the PDF. Raises InputError for any profile's study but the laptop's.

    The text reads that study's results in words; `panels.show` draws the figures of another one.
    """
    profile = panels.shown_profile()
    if profile.name != "laptop":
        raise InputError(f"the text of the PDF is about the laptop's study, not {profile.name}'s: leave M2_PROFILE out")
    found = numbers(profile)  # first, for it needs all records: nothing is redrawn where one is missing
    for name in SOURCES if folder != REPORT_FOLDER else ():
        write_atomic(folder / name, (REPORT_FOLDER / name).read_bytes())
    for name in panels.FIGURES:
        figure = panels.draw(name)
        plots.save_figure(figure, name, folder=folder / "figures", kind="svg")
        plt.close(figure)
    write_atomic(folder / "numbers.json", (json.dumps(found, indent=1) + "\n").encode())
    return compile_pdf(folder)
