"""`python -m book.execute FOLDER NOTEBOOKS...`: execute notebooks into a folder, each for itself.

One that fails takes no other with it: the folder then has it as committed, below a banner that
names the cell and the error. FOLDER/failures.txt says in three lines for each of them which
notebook failed, in which cell, and how to run it alone; where all went well it is not there. With
--tidy they are written as they are committed.
"""

import argparse
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellControlSignal, DeadKernelError

FAILURES = "failures.txt"
COMMITTED_METADATA = ("kernelspec", "language_info")


@dataclass(frozen=True)
class Failure:
    """Where a notebook failed, and how."""

    name: str
    """The notebook's file, such as `06_lora_default.ipynb`."""
    cell: int
    """The failed cell's number among the code cells, as Jupyter shows it in brackets."""
    error: str
    """The error's type and message, in one line."""
    source: str
    """The cell's first line."""

    def __str__(self) -> str:
        """Return three lines: which notebook, which cell, and how to run it alone."""
        return (
            f"failed: notebooks/{self.name}\n"
            f"  in cell [{self.cell}], `{self.source}`: {self.error}\n"
            f"  run it alone: .venv/bin/pytest notebooks/{self.name}\n"
        )


def execute(
    path: Path, variables: Mapping[str, str] | None = None
) -> tuple[nbformat.NotebookNode, Failure | None]:
    """Run a notebook's cells in a kernel of its own, in its own folder, until one of them fails.

    The variables are set in the kernel, beside those of this process.

    Returns
    -------
    notebook : NotebookNode
        With its new outputs, up to the cell that failed.
    failure : Failure or None
        None if all cells ran.
    """
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    # The places of the cells that have begun to run. The counts in the cells would not do: where a
    # kernel dies, the message that brings the last one may be lost.
    begun: list[int] = []
    client = NotebookClient(
        notebook,
        timeout=None,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
        record_timing=False,
        on_cell_execute=lambda cell, cell_index: begun.append(cell_index),
    )
    try:
        client.execute(env=os.environ | dict(variables or {}))
    except (CellControlSignal, DeadKernelError) as error:
        return notebook, _failure(path.name, notebook, begun[-1], error)
    return notebook, None


def _failure(name: str, notebook: nbformat.NotebookNode, place: int, error: Exception) -> Failure:
    """Describe the failure of the cell at a place."""
    failed = notebook.cells[place]
    number = sum(cell.cell_type == "code" for cell in notebook.cells[: place + 1])
    raised = [output for output in failed.outputs if output.output_type == "error"]
    described = f"{raised[0].ename}: {raised[0].evalue}" if raised else str(error)
    first_line = next(line for line in failed.source.splitlines() if line.strip())
    return Failure(name, number, _one_line(described), first_line.strip())


def _one_line(text: str) -> str:
    return " ".join(text.split())[:300]


def with_banner(path: Path, failure: Failure) -> nbformat.NotebookNode:
    """Return a notebook as committed, below a banner that says what failed when it was executed."""
    notebook = nbformat.read(path, as_version=4)
    banner = (
        "```{warning}\n"
        f"**This lecture failed when it was executed for this website**, in cell [{failure.cell}]\n"
        f"(`{failure.source}`). What you see is the lecture as it was committed.\n\n"
        f"`{failure.error.replace('`', chr(39)) or 'no message'}`\n"
        "```"
    )
    title = notebook.cells[0].source.split("\n", 1)
    # The title stays first, because the website takes it from there.
    notebook.cells[0].source = "\n".join([title[0], "", banner, "", *title[1:]])
    return notebook


def tidy(notebook: nbformat.NotebookNode) -> None:
    """Take out of a notebook what is not committed, because it has random names: widgets' states.

    They stand in the notebook's metadata, and in the outputs of cells with the tag `remove-cell`.
    """
    for name in set(notebook.metadata) - set(COMMITTED_METADATA):
        del notebook.metadata[name]
    for cell in notebook.cells:
        if "remove-cell" in cell.metadata.get("tags", []):
            cell.outputs, cell.execution_count = [], None


def execute_all(
    paths: Sequence[Path], folder: Path, lanes: int, tidily: bool = False
) -> list[Failure]:
    """Execute notebooks into a folder, `lanes` of them at a time, and return what failed."""
    folder.mkdir(parents=True, exist_ok=True)

    def execute_into_folder(path: Path) -> Failure | None:
        start = time.monotonic()
        notebook, failure = execute(path)
        if failure:
            notebook = with_banner(path, failure)
        if tidily:
            tidy(notebook)
        nbformat.write(notebook, folder / path.name)
        ended = "FAILED" if failure else "executed"
        print(f"{path.stem}: {ended} after {time.monotonic() - start:.0f} s", flush=True)
        return failure

    with ThreadPoolExecutor(lanes) as pool:
        failures = [failure for failure in pool.map(execute_into_folder, paths) if failure]
    if failures:
        text = "".join(map(str, failures))
        (folder / FAILURES).write_text(text, encoding="utf-8")
    return failures


def main() -> None:
    """Execute the notebooks that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("notebooks", type=Path, nargs="+")
    parser.add_argument("--lanes", type=int, default=1, help="how many at a time")
    parser.add_argument("--tidy", action="store_true", help="write them as they are committed")
    options = parser.parse_args()
    execute_all(options.notebooks, options.folder, options.lanes, options.tidy)


if __name__ == "__main__":
    main()
