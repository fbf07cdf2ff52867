"""The environment variables that the study has beside those of `m2lib.settings`."""

from pathlib import Path

from m2lib import settings
from m2lib.files import ROOT, workspace
from m2lib.settings import FOLDER, Setting

COMMITTED = ROOT / "report" / "results"
"""The folder of the records that come with the project."""
SETTINGS = {
    "M2_PROFILE": Setting(
        "how big a run is", "slice, laptop, fifth or report", "slice", "slice|laptop|fifth|report"
    ),
    "M2_RESULTS": Setting("where recorded runs lie", FOLDER, "report/results/"),
    "M2_OUT": Setting("where live runs, figures and checkpoints are written", FOLDER, "build/"),
}


def read(name: str) -> str | None:
    """Return the value of a variable of `SETTINGS`, as `m2lib.settings.read` gives it."""
    return settings.read(name, SETTINGS)


def results_dir() -> Path:
    """Return the folder of recorded runs, which `M2_RESULTS` names."""
    return settings.folder_of(read("M2_RESULTS"), COMMITTED)


def out_dir() -> Path:
    """Return `M2_OUT`, the folder that live runs write under."""
    return settings.folder_of(read("M2_OUT"), workspace() / "build")


def benchmark_record(file: str) -> Path:
    """Return where a benchmark's record is: in `M2_RESULTS`, else the committed one."""
    own = results_dir() / file
    return own if own.exists() else COMMITTED / file
