"""The sampled forecasts that are recorded, and beside them those of an autoregression."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

import study
from m2lib import series
from study import Profile, Record
from study.paper.errors import data, finished_record

GREEDY = {"untuned": "untuned-test-constrained", "final": "final", "best": "best"}
"""For each model whose samples are shown, the experiment that forecasts the test series with it
greedily."""
LOG_VAR = f"log-VAR({study.ORDER}), bootstrap"
"""The competitor without a language model, of the order that the validation series chose."""


@dataclass(frozen=True)
class Sampled:
    """Sampled forecasts of a split's series: the language model's, and beside them log-VAR's."""

    records: dict[str, Record]
    """The language model's samples, by whose they are: `untuned`, `final`, `best`."""
    ids: list[int]
    """The series."""
    contexts: np.ndarray
    """Scaled units, (n, 80, 2)."""
    truths: np.ndarray
    """Scaled units, (n, 20, 2)."""
    samples: dict[str, np.ndarray]
    """Scaled units, (n, n_samples, 20, 2), by forecaster."""

    @classmethod
    def of(cls, records: dict[str, Record]) -> "Sampled":
        """Read the samples of records, all of which are of the same series.

        The log-VAR draws as many samples as they have.
        """
        series_set = data()
        first_record = next(iter(records.values()))
        ids = sorted(first_record.series)
        scales = series_set.scales[ids]
        contexts = series.to_integers(series_set.contexts[ids], scales)
        truths = series.to_integers(series_set.truths[ids], scales)
        samples = {}
        for who, record in records.items():
            samples[who] = np.stack([study.recorded_samples(record, series_set, i) for i in ids])
        samples[LOG_VAR] = series.log_var_paths(
            contexts, first_record.protocol.n_samples, np.random.default_rng(0), order=study.ORDER
        )
        return cls(records, ids, contexts, truths, samples)

    @property
    def shown(self) -> str:
        """Whose forecasts are drawn: the last of the language model's."""
        return list(self.records)[-1]

    def by_series(self, score: Callable[..., float], name: str) -> pd.Series:
        """Return the score of a forecaster's samples for each series, by its id.

        score: takes the samples and the truth of a series.
        """
        return pd.Series(map(score, self.samples[name], self.truths), self.ids)

    def held(
        self, name: str, levels: Iterable[float] = (0.5, 0.8, 0.95), factor: float = 1
    ) -> dict[float, float]:
        """Return the share of true values in the bands of a forecaster, by level.

        Its samples are stretched by a factor first.
        """
        stretched = [
            np.maximum(series.stretched(samples, factor), 0) for samples in self.samples[name]
        ]
        shares = {}
        for level in levels:
            by_series = [
                series.coverage(samples, truth, level)
                for samples, truth in zip(stretched, self.truths, strict=True)
            ]
            shares[level] = float(np.mean(by_series))
        return shares

    def factor(self, name: str) -> float:
        """Return by how much a forecaster's samples must be stretched to hold what they should.

        Stretched by this factor, their 80% band holds 80% of these true values.
        """
        samples = np.moveaxis(self.samples[name], 1, 0)
        stretches = series.stretch_needed(samples, self.truths, 0.8)
        return float(series.conformal(stretches.ravel(), 0.8))


def sampled(profile: Profile, split: str = "test") -> Sampled:
    """Return the recorded samples of a split's series."""
    records = {who: finished_record(profile, f"samples/{who}/{split}") for who in GREEDY}
    return Sampled.of(records)


def median_mae(samples: np.ndarray, truth: np.ndarray) -> float:
    """Return the MAE of the samples' median."""
    return float(series.series_mae(np.median(samples, axis=0), truth))
