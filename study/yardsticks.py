"""The recorded errors and costs of the yardsticks, and of language models beside them.

They were measured on the study's series and on other worlds by `python -m benchmarks.yardsticks`.
"""

from typing import Any

from m2lib.files import read_json
from study.settings import benchmark_record

YARDSTICKS = "yardsticks.json"
"""The file of recorded yardsticks, beside the records of runs."""
STATISTICAL = ("AutoARIMA", "AutoETS", "AutoTheta")
"""The models of statsforecast among the yardsticks."""
ORDER = 9
"""The order from 1 to 10 at which log-VAR has the lowest mean error on the validation series."""
TUNED = f"log-VAR({ORDER}), its order chosen on validation"
"""The name, among the yardsticks, of the autoregression whose order is ORDER."""


def recorded_rows(where: str) -> dict[str, dict[str, Any]]:
    """Return the recorded rows of a set, by forecaster.

    They are read from `M2_RESULTS` if it holds such a record, else from the committed one.

    A row holds `seconds` of one core and executed `flops`, each a series, and `maes` in scaled
    units by series id. Where its flops are a `bound`, `at least` or `at most`, they are not the
    number itself: of a fit only the right-hand sides are counted, and a statistical model is
    charged what a core computes at most in its seconds. Of a language model there are its FLOPs by
    the rules too (`coursework`), and a hash of its `adapter`'s files.
    """
    rows = {}
    for row in read_json(benchmark_record(YARDSTICKS))["rows"]:
        if row["set"] == where:
            # JSON's keys are texts.
            maes = {int(series_id): mae for series_id, mae in row["maes"].items()}
            rows[row["forecaster"]] = row | {"maes": maes}
    return rows


def recorded_yardsticks(where: str) -> dict[str, dict[int, float]]:
    """Return the recorded errors of every forecaster on a set: MAE by series id, by name."""
    return {name: row["maes"] for name, row in recorded_rows(where).items()}
