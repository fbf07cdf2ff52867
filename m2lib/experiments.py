"""The report's experiments as data, with the rules that choose their series."""

import random
from collections.abc import Callable
from dataclasses import asdict, dataclass

from m2lib.data import SPLIT_SEED, split_ids
from m2lib.forecast import DecodeConfig
from m2lib.metrics import best_and_worst
from m2lib.profiles import Profile


@dataclass(frozen=True)
class Experiment:
    """One run: what is trained, whose series it then forecasts, and how.

    train: the settings of `train.TrainConfig` (None: no training). adapter: the experiment whose adapter is used
    instead (neither: the untuned model). split: whose series are forecast; select narrows them by the errors of an
    earlier experiment (its name, and a rule from errors by id to ids).
    featured: series ids that its figures show; they are forecast first, so that a short run has them.
    """

    name: str
    about: str
    split: str
    decode: DecodeConfig
    train: dict | None = None
    adapter: str | None = None
    select: tuple[str, Callable[[dict[int, float]], list[int]]] | None = None
    featured: tuple[int, ...] = ()

    def settings(self, profile: Profile) -> dict:
        """All that decides the run's numbers at a profile, as it is recorded."""
        settings = {"split": self.split, "decode": asdict(self.decode)}
        if self.select:
            settings["select"] = f"{self.select[1].__name__}({self.select[0]})"
        if self.adapter:
            settings["adapter"] = self.adapter
        if self.train:
            settings["train"] = self.train | dict(profile.train.get(self.name, {}))
        return settings


def hard_and_easy(maes: dict[int, float]) -> list[int]:
    """The report's reduced validation set: the worst 20 of 50 and 5 of the best 30; in proportion for others."""
    best, worst = best_and_worst(maes, worst=max(1, len(maes) * 20 // 50))
    drawn = random.Random(SPLIT_SEED).sample(best, min(len(best), max(1, len(maes) * 5 // 50)))
    return sorted(worst + drawn)


def all_but_hard_and_easy(maes: dict[int, float]) -> list[int]:
    """The others: what the report's first adapter was never asked about."""
    return sorted(maes.keys() - set(hard_and_easy(maes)))


EXPERIMENTS = {
    experiment.name: experiment
    for experiment in (
        Experiment(
            "baseline",
            about="the untuned model on the validation series, by the report's protocol (its section 2.2)",
            split="validation",
            decode=DecodeConfig.published(context_tokens=512),
            featured=(94, 99, 141),
        ),
        Experiment(
            "baseline-constrained",
            about="the same with the whole context, correct rounding and a grammar on the output",
            split="validation",
            decode=DecodeConfig(constrained=True),
            featured=(94, 99, 141),
        ),
        Experiment(
            "default",
            about="the report's first adapter, on 25 validation series (its section 3.1)",
            split="validation",
            decode=DecodeConfig.published(context_tokens=512),
            train={"steps": 5000, "learning_rate": 1e-5, "rank": 4, "sequence_length": 512},
            select=("baseline", hard_and_easy),
            featured=(94, 99, 141),
        ),
        Experiment(
            "default-rest",
            about="the same adapter on the other 25: does it forget the easy ones? (beyond the report)",
            split="validation",
            decode=DecodeConfig.published(context_tokens=512),
            adapter="default",
            select=("baseline", all_but_hard_and_easy),
        ),
        Experiment(
            "default-warm",
            about="a laptop's recipe: higher rank and rate, warm-up and cosine decay, all validation series",
            split="validation",
            decode=DecodeConfig(constrained=True),
            train={
                "steps": 5000,
                "learning_rate": 1e-3,
                "rank": 16,
                "sequence_length": 640,
                "warmup": 0.05,
                "decay": "cosine",
                "clip_norm": 1.0,
            },
            featured=(94, 99, 141),
        ),
    )
}


def series_ids(experiment: Experiment, limit: int | None, n: int, earlier: dict[int, float] | None = None) -> list[int]:
    """The ids an experiment forecasts of n series, featured ones first, at most `limit` of them.

    earlier: the errors, by id, of the experiment that `select` names.
    """
    ids = experiment.select[1](earlier) if experiment.select else getattr(split_ids(n), experiment.split)
    return sorted(ids, key=lambda series: (series not in experiment.featured, series))[:limit]
