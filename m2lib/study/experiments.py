"""The report's experiments as data, with the rules that choose their series and adapters."""

import random
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from itertools import product

from m2lib.files import InputError
from m2lib.forecasting.protocol import DecodeConfig
from m2lib.series.data import SPLIT_SEED, split_ids
from m2lib.series.metrics import best_and_worst, summarise
from m2lib.study.profiles import Profile

Maes = dict[int, float]  # errors by series id, scaled units


@dataclass(frozen=True)
class Experiment:
    """One run: what is trained, whose series it then forecasts, and how.

    group: its row in the report's Table 3; None: it goes beyond the report, and its FLOPs are not charged.
    forecasts: how many series it forecasts, all told. decode: how.
    train: the settings of `train.TrainConfig` (None: no training). adapter: the experiment whose adapter is used
    instead, or (i, names), the i-th best of several by mean error (neither: the untuned model).
    split: whose series are forecast; select narrows them: a rule and the earlier experiments whose errors it gets.
    featured: series ids that its figures show; they are forecast first, so that a short run has them.
    """

    name: str
    about: str
    group: str | None
    forecasts: int
    decode: DecodeConfig
    train: dict | None = None
    adapter: str | tuple | None = None
    split: str = "validation"
    select: tuple | None = None
    featured: tuple[int, ...] = ()

    @property
    def kinds(self) -> tuple[str, str]:
        """Its name and what stands before the name's slash: under either a profile may size it."""
        return self.name, self.name.split("/")[0]

    def watched(self, profile: Profile) -> bool:
        """Whether a profile forecasts its watched series at this experiment's evaluations, too."""
        return bool(set(self.kinds) & set(profile.watched_forecasts))

    def at(self, profile: Profile) -> "Experiment":
        """The experiment with the settings of training and decoding that a profile replaces."""
        sizes, decode = (
            next((dict(table[kind]) for kind in self.kinds if kind in table), {})
            for table in (profile.train, profile.decode)
        )
        return replace(self, train=self.train and self.train | sizes, decode=replace(self.decode, **decode))

    def settings(self, profile: Profile) -> dict:
        """All that decides the run's numbers at a profile, as it is recorded."""
        here = self.at(profile)
        settings = {"split": self.split, "decode": asdict(here.decode)}
        if self.select:
            rule, *names = self.select
            settings["select"] = f"{rule.__name__}({', '.join(names)})"
        if self.adapter:
            settings["adapter"] = self.adapter
        if here.train:
            settings["train"] = here.train
        return settings

    def earlier(self) -> tuple[str, ...]:
        """The experiments whose results decide the series and the adapter of this one."""
        adapters = (self.adapter,) if isinstance(self.adapter, str) else (self.adapter or ())[1:]
        return (*(self.select or ())[1:], *adapters)


def hard_and_easy(baseline: Maes) -> list[int]:
    """The report's reduced validation set: the worst 20 of 50 and 5 of the best 30; in proportion for others."""
    best, worst = _hard(baseline)
    drawn = random.Random(SPLIT_SEED).sample(best, min(len(best), max(1, len(baseline) * 5 // 50)))
    return sorted(worst + drawn)


def all_but_hard_and_easy(baseline: Maes) -> list[int]:
    """The others: what the report's first adapter was never asked about."""
    return sorted(baseline.keys() - set(hard_and_easy(baseline)))


def worst_5(default: Maes) -> list[int]:
    """The five series that the first adapter forecasts worst, on which the report compares settings."""
    return sorted(best_and_worst(default, worst=min(5, len(default)))[1])


def others_of_hard_20(baseline: Maes, default: Maes) -> list[int]:
    """The rest of the baseline's worst 20, on which the report asks its three best settings again."""
    return sorted(set(_hard(baseline)[1]) - set(worst_5(default)))


def _hard(baseline: Maes) -> tuple[list[int], list[int]]:
    return best_and_worst(baseline, worst=max(1, len(baseline) * 20 // 50))


def adapter_of(experiment: Experiment, maes: Callable[[str], Maes]) -> str | None:
    """The name of the experiment whose adapter this one uses; `maes` gives an experiment's errors by its name."""
    if not isinstance(experiment.adapter, tuple):
        return experiment.adapter
    place, *names = experiment.adapter
    means = {name: summarise(maes(name).values()).mean for name in names}
    return sorted(names, key=lambda name: (means[name], name))[place]


def chosen(maes: Callable[[str], Maes]) -> str:
    """The report's choice: of the search's three best by mean the one with the lowest median over the hard 20."""
    medians = {}
    for second in SECOND:
        name = adapter_of(EXPERIMENTS[second], maes)
        medians[name] = summarise((maes(name) | maes(second)).values()).median
    return min(medians, key=lambda name: (medians[name], name))


def series_ids(experiment: Experiment, limit: int | None, n: int, maes: Callable[[str], Maes] | None = None) -> list:
    """The ids an experiment forecasts of n series, featured ones first, at most `limit` of them.

    maes: gives the errors of the earlier experiments that `select` names.
    """
    ids = getattr(split_ids(n), experiment.split)
    if experiment.select:
        rule, *names = experiment.select
        ids = rule(*(maes(name) for name in names))
    return sorted(ids, key=lambda series: (series not in experiment.featured, series))[:limit]


PUBLISHED = DecodeConfig.as_published(context_tokens=512)
CONSTRAINED = DecodeConfig(constrained=True)
SAMPLED = DecodeConfig(constrained=True, temperature=0.7, n_samples=12)
SHOWN = (94, 99, 141)
CHOSEN = {"learning_rate": 1e-4, "rank": 2}  # by the report's search: expt_6
GRID = tuple(product((1e-5, 5e-5, 1e-4), (2, 4, 8)))  # rate, rank
SEARCH = tuple(f"search/expt_{i}" for i in range(len(GRID)))
SECOND = tuple(f"search/second_{place}" for place in range(3))

_BASELINE = Experiment(
    "baseline",
    about="the untuned model on the validation series, by the report's protocol (its section 2.2)",
    group="baseline",
    forecasts=50,
    decode=PUBLISHED,
    featured=SHOWN,
)
_DEFAULT = Experiment(
    "default",
    about="the report's first adapter, on 25 validation series (its section 3.1)",
    group="default",
    forecasts=25,
    decode=PUBLISHED,
    train={"steps": 5000, "learning_rate": 1e-5, "rank": 4, "sequence_length": 512},
    select=(hard_and_easy, "baseline"),
    featured=SHOWN,
)
_SEARCH = [
    Experiment(
        name,
        about=f"the search: rate {i // 3 + 1} of 3, rank {rank}, on the five hardest series (section 3.2)",
        group="first search",
        forecasts=5,
        decode=PUBLISHED,
        train={"steps": 3150, "learning_rate": rate, "rank": rank, "sequence_length": 512},
        select=(worst_5, "default"),
    )
    for i, (name, (rate, rank)) in enumerate(zip(SEARCH, GRID, strict=True))
]
_SECOND = [
    Experiment(
        name,
        about=f"the search's number {place + 1} by mean, on the other 15 hard series",
        group="first search",
        forecasts=15,
        decode=PUBLISHED,
        adapter=(place, *SEARCH),
        select=(others_of_hard_20, "baseline", "default"),
    )
    for place, name in enumerate(SECOND)
]
_CONTEXT = [
    Experiment(
        f"context/{length}",
        about=f"windows and prompts of {length} tokens, on the five hardest series (section 3.2)",
        group="second search",
        forecasts=5,
        decode=DecodeConfig.as_published(context_tokens=length),
        train={"steps": 1500, **CHOSEN, "sequence_length": length},
        select=(worst_5, "default"),
    )
    for length in (128, 512, 768)
]
_FINAL = Experiment(
    "final",
    about="the chosen settings, trained with what is left, on the test series (section 3.3)",
    group="final",
    forecasts=50,
    decode=PUBLISHED,
    train={"steps": 15400, **CHOSEN, "sequence_length": 512},
    split="test",
)
_UNTUNED_TEST = replace(
    _BASELINE,
    name="untuned-test",
    about="the untuned model on the test series",
    group="final",
    split="test",
    featured=(),
)
WARM = {
    "steps": 5000,
    "learning_rate": 1e-3,
    "rank": 16,
    "sequence_length": 640,
    "warmup": 0.05,
    "decay": "cosine",
    "clip_norm": 1.0,
}
_BEYOND = [
    Experiment(
        "baseline-constrained",
        about="the baseline with the whole context, correct rounding and a grammar on the output",
        group=None,
        forecasts=50,
        decode=CONSTRAINED,
        featured=SHOWN,
    ),
    Experiment(
        "default-rest",
        about="the first adapter on the other 25: does it forget the easy ones?",
        group=None,
        forecasts=25,
        decode=PUBLISHED,
        adapter="default",
        select=(all_but_hard_and_easy, "baseline"),
    ),
    Experiment(
        "default-warm",
        about="a laptop's recipe: higher rank and rate, warm-up and cosine decay, all validation series",
        group=None,
        forecasts=50,
        decode=CONSTRAINED,
        train=WARM,
        featured=SHOWN,
    ),
    replace(
        _UNTUNED_TEST,
        name="untuned-test-constrained",
        about="the untuned model on the test series, with the whole context, correct rounding and a grammar",
        group=None,
        decode=CONSTRAINED,
    ),
    Experiment(
        "final-sampled",
        about="the final adapter on the test series, the median of 12 sampled forecasts of each",
        group=None,
        forecasts=50,
        decode=SAMPLED,
        adapter="final",
        split="test",
    ),
    Experiment(
        "context/768-rest",
        about="the adapter of 768 tokens on the other 15 hard series",
        group=None,
        forecasts=15,
        decode=DecodeConfig.as_published(context_tokens=768),
        adapter="context/768",
        select=(others_of_hard_20, "baseline", "default"),
    ),
]
# What was tried for the laptop's final run, on the way from default-warm. No series is longer than 1024 tokens, so
# here a window is a whole series.
WHOLE = WARM | {"steps": 240, "sequence_length": 1024, "batch_size": 1}
_TRIALS = [
    *(
        Experiment(
            f"trial/{name}",
            about=f"trial: one whole series a step, {tried}",
            group=None,
            forecasts=50,
            decode=CONSTRAINED,
            train=WHOLE | changes,
        )
        for name, tried, changes in (
            ("rate", "rate 0.003", {"learning_rate": 3e-3}),
            ("rate-high", "rate 0.01", {"learning_rate": 1e-2}),
            ("units", "rate 0.003, last digits at a quarter", {"learning_rate": 3e-3, "units_weight": 0.25}),
        )
    ),
    Experiment(
        "trial/sampled",
        about="trial: the adapter of rate 0.01, the median of 12 sampled forecasts",
        group=None,
        forecasts=50,
        decode=SAMPLED,
        adapter="trial/rate-high",
    ),
]
TRIALS = tuple(one.name for one in _TRIALS)
EXPERIMENTS = {
    experiment.name: experiment
    for experiment in (_BASELINE, _DEFAULT, *_SEARCH, *_SECOND, *_CONTEXT, _FINAL, _UNTUNED_TEST, *_BEYOND, *_TRIALS)
}


def experiment_named(name: str) -> Experiment:
    """Raises InputError for an unknown name."""
    if name not in EXPERIMENTS:
        raise InputError(f"unknown experiment {name!r}: choose one of {', '.join(EXPERIMENTS)}")
    return EXPERIMENTS[name]
