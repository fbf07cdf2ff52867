"""`python -m benchmarks.pictured` records the forecasts that the README's picture shows.

They are the last forecast of the first series of each source that judges (`benchmarks.textbook`),
by `general` and by the median of three statistical forecasters. Nothing was chosen by their looks.
The record is pictured.json, beside the recorded runs; `make figures` draws it.
"""

from typing import Any

import numpy as np
import torch

from benchmarks.forecasters import forecaster_of, model_key
from benchmarks.rows import one_line, place_of
from benchmarks.scores import rounded
from benchmarks.sources import Source
from benchmarks.textbook import (
    ENSEMBLED,
    SAMPLES,
    STATSFORECAST,
    cuts_of,
    sources_of,
    statistical,
)
from m2lib.files import write_json
from m2lib.forecaster import Forecaster, Sampling
from m2lib.forecaster.adapters import GENERAL
from m2lib.forecaster.sampling import TEMPERATURE
from m2lib.provenance import provenance
from m2lib.series import DECILES
from study.paper.textbook import JUDGING, PICTURED_RECORD
from study.settings import results_dir

PAST = 2
"""Horizons of the past that are shown."""


def pictured_row(forecaster: Forecaster, source: Source) -> dict[str, Any]:
    """Return the forecasts of a source that are shown, with the last steps before them.

    context: PAST horizons. truth and rival (the median of the three): (horizon,) each. deciles:
    those of `general`, (9, horizon).
    """
    cuts_of_first_series = [cut for cut in cuts_of(source) if cut[0] == 0]
    last_cut = cuts_of_first_series[-1]
    _, context, truth = last_cut
    (forecast,) = forecaster.sample(
        [context[:, None]], source.horizon, Sampling(SAMPLES, TEMPERATURE), season=source.season
    )
    medians = []
    for name in ENSEMBLED:
        (rival,) = statistical(STATSFORECAST[name], [last_cut], source.horizon, source.season)
        medians.append(rival[4])  # the fifth of nine deciles is the median
    return {
        "season": source.season,
        "context": rounded(context[-PAST * source.horizon :]),
        "truth": rounded(truth),
        "deciles": rounded(np.quantile(forecast.physical[..., 0], DECILES, axis=0)),
        "rival": rounded(np.median(medians, axis=0)),
    }


if __name__ == "__main__":
    with one_line():
        general = forecaster_of(GENERAL)
        made_by = model_key(general) | {"dtype": general.dtype, "samples": SAMPLES}
        rows = []
        for source in sources_of(JUDGING):
            place = place_of(source, JUDGING)
            rows.append(place | made_by | pictured_row(general, source))
        record = provenance(torch.device("cpu")) | {"rows": rows}
        write_json(results_dir() / PICTURED_RECORD, record)
