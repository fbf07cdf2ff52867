"""Writes notebooks/13_more_per_flop.ipynb; cells in order."""
import sys
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

cells = []
CHECK, HIDE, SOLUTION = "nbval-check-output", "hide-input", "hide-cell"


def md(text):
    cells.append(new_markdown_cell(text.strip("\n")))


def code(text, *tags, alt=None):
    meta = {}
    if tags:
        meta["tags"] = sorted(tags)
    if {HIDE, SOLUTION} & set(tags):
        meta["jupyter"] = {"source_hidden": True}
    if alt:
        meta["mystnb"] = {"image": {"alt": alt}}
    cells.append(new_code_cell(text.strip("\n"), metadata=meta))


exec(Path(__file__).with_name("cells.py").read_text(encoding="utf-8"))
nb = new_notebook(cells=cells)
for number, cell in enumerate(nb.cells):
    cell["id"] = f"u13-{number:03d}"
nb.metadata["kernelspec"] = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
if SAID:
    nb.metadata["numbers_said"] = SAID
nbformat.validate(nb)
nbformat.write(nb, sys.argv[1])
