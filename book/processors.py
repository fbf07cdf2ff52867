"""`python -m book.processors [VARIANT ...]`: do the lectures hold on lesser processors?

It executes the committed notebooks as if this processor knew fewer instructions (PyTorch's and
oneDNN's own switches take them away), in both dtypes, with one thread and with two. For each
variant it lists the cells that fail, and the numbers that a text quotes from an output and that the
output no longer has. Of a variant in bfloat16 only failures count, because the texts quote float32.
Writes build/processors/, a folder for each variant, and ends with 1 if a cell fails; numbers that
differ are to be looked at, because some of them are seconds. A variant takes as long as `make
report`, and in bfloat16, without instructions for it, several times as long.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import nbformat

from book.execute import Failure, execute
from m2lib.files import ROOT
from study.settings import out_dir

CHECKED = "nbval-check-output"
NUMBER = r"\d[\d,]*(?:\.\d+)?"
READ_IN = 3
"""An output is read in the cells of text that follow it, at most so many."""


@dataclass(frozen=True)
class Variant:
    """A processor that this one stands in for."""

    aten: str = ""
    """The most that PyTorch's own loops may use (`ATEN_CPU_CAPABILITY`); empty: all there is."""
    onednn: str = ""
    """The most that oneDNN's products may use (`ONEDNN_MAX_CPU_ISA`); empty: all there is."""
    dtype: str = "float32"
    threads: int = 1

    @property
    def name(self) -> str:
        """What it changes, in one word."""
        parts = [self.aten, self.onednn, self.dtype, f"{self.threads}t"]
        return "-".join(part.lower() for part in parts if part)

    @property
    def variables(self) -> dict[str, str]:
        """The environment variables that make this processor a lesser one."""
        switches = {"ATEN_CPU_CAPABILITY": self.aten, "ONEDNN_MAX_CPU_ISA": self.onednn}
        threads = str(self.threads)
        return {
            **{name: value for name, value in switches.items() if value},
            "M2_DTYPE": self.dtype,
            "OMP_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
        }


VARIANTS = (
    Variant(),
    Variant(threads=2),
    Variant("avx2", "AVX2"),
    Variant("default", "AVX2", threads=2),
    Variant("avx512", "AVX512_CORE"),
    Variant("avx512", "AVX512_CORE_VNNI", threads=2),
    Variant(dtype="bfloat16"),
    Variant("avx512", "AVX512_CORE_BF16", "bfloat16", 2),
    Variant("avx2", "AVX2", "bfloat16"),
)
"""Each value of each switch at least once, and bfloat16 with, without and beside instructions for
it."""


@dataclass
class Difference:
    """What a variant changes in one notebook."""

    notebook: str
    failure: Failure | None = None
    lost: dict[int, list[str]] = field(default_factory=dict)
    """By code cell (its number in brackets), the quoted numbers that its output has no longer, or
    where nbval compares the whole output, the first line that differs."""


def differences(
    committed: nbformat.NotebookNode, executed: nbformat.NotebookNode
) -> dict[int, list[str]]:
    """Return, by code cell, what the new outputs lack: see `Difference.lost`."""
    lost = {}
    for place, (old, new) in enumerate(zip(committed.cells, executed.cells, strict=True)):
        if old.cell_type != "code":
            continue
        old_text, new_text = _text_of(old), _text_of(new)
        missing = set(re.findall(NUMBER, old_text)) - set(re.findall(NUMBER, new_text))
        texts = [cell.source for cell in committed.cells[place + 1 :] if cell.cell_type != "code"]
        quoted = missing & set(re.findall(NUMBER, "\n".join(texts[:READ_IN])))
        if quoted:
            lost[old.execution_count] = sorted(quoted)
        elif CHECKED in old.metadata.get("tags", []) and old_text != new_text:
            new_lines = new_text.splitlines()
            lost[old.execution_count] = [
                line for line in old_text.splitlines() if line not in new_lines
            ][:1]
    return lost


def _text_of(cell: nbformat.NotebookNode) -> str:
    """Return all that a cell prints, and its tables, as text."""
    texts = []
    for output in cell.outputs:
        texts.append(output.get("text", ""))
        if "image/png" not in output.get("data", {}):
            texts.append(output.get("data", {}).get("text/plain", ""))
    return "".join(texts)


def difference_at(path: Path, variant: Variant, folder: Path) -> Difference:
    """Execute a notebook at a variant, keep it in a folder, and compare it with the committed one.

    Its records and figures go to a folder of its own, so that nothing comes from another variant.
    """
    own = {"M2_OUT": str(folder / path.stem), "M2_PROFILE": "slice", "TQDM_DISABLE": "1"}
    executed, failure = execute(path, variant.variables | own)
    nbformat.write(executed, folder / path.name)
    if failure:
        return Difference(path.name, failure)
    if variant.dtype != "float32":
        return Difference(path.name)
    committed = nbformat.read(path, as_version=4)
    return Difference(path.name, lost=differences(committed, executed))


def compare(paths: Sequence[Path], variant: Variant, folder: Path) -> list[Difference]:
    """Execute notebooks at a variant, on two cores, and return those that differ."""
    folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(max(1, 2 // variant.threads)) as pool:
        found = pool.map(lambda path: difference_at(path, variant, folder), paths)
        return [one for one in found if one.failure or one.lost]


def main() -> int:
    """Run the variants that the command line names, else all, and print a table."""
    names = {variant.name: variant for variant in VARIANTS}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("variants", nargs="*", choices=[[], *names], metavar="VARIANT")
    parser.add_argument("--notebooks", type=Path, nargs="+", help="only these")
    options = parser.parse_args()
    everything = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"), reverse=True)
    paths = [path.resolve() for path in options.notebooks or everything]

    any_failed = False
    print("| variant | notebook | what |\n|---|---|---|")
    for name in options.variants or names:
        found = compare(paths, names[name], out_dir() / "processors" / name)
        any_failed = any_failed or any(one.failure for one in found)
        for one in found:
            if one.failure:
                print(
                    f"| {name} | {one.notebook} | cell [{one.failure.cell}]: {one.failure.error} |"
                )
            for cell, numbers in one.lost.items():
                print(f"| {name} | {one.notebook} | cell [{cell}] lost {', '.join(numbers)} |")
        if not found:
            print(f"| {name} | {len(paths)} notebooks | nothing |", flush=True)
    return int(any_failed)


if __name__ == "__main__":
    sys.exit(main())
