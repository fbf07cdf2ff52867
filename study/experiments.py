"""The report's experiments, and those that go beyond it, as data."""

from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import product
from typing import Any

from m2lib.accounting import PROJECTIONS
from m2lib.decoding import DecodeConfig
from m2lib.files import InputError
from m2lib.series import TABLES, TextFormat, split_ids
from m2lib.training import COSINE, TrainConfig
from study import rules
from study.profiles import Profile
from study.rules import AdapterOf, ErrorsOf, Selection
from study.synthetic.families import FAMILIES

REPORT_PROTOCOL = DecodeConfig.as_published(context_tokens=512)
CONSTRAINED = DecodeConfig(constrained=True)
SAMPLED = DecodeConfig(constrained=True, temperature=0.7, n_samples=12)
WHOLE_SPLIT = 50
"""Series of the validation split."""


@dataclass(frozen=True)
class Experiment:
    """One run: what is trained, whose series it then forecasts, and how."""

    name: str
    about: str
    """What it is for, in words."""
    protocol: DecodeConfig = REPORT_PROTOCOL
    """How it forecasts."""
    group: str | None = None
    """Its row in the report's Table 3; None: it goes beyond the report, and its FLOPs are not
    charged."""
    train: dict[str, Any] | None = None
    """Settings of `training.TrainConfig`; None: no training."""
    simulated: bool = False
    """Whether it trains on series simulated for each step, of which none repeats, instead of the
    training split."""
    made_up: TextFormat | None = None
    """The text format of made-up series, where it trains on those instead; such a run forecasts no
    series of ours."""
    without: str = ""
    """The family of made-up series that is left out."""
    pairs: float = 0.0
    """The share of its steps that hold prey and predators alone, of made-up series."""
    adapter: AdapterOf | None = None
    """Whose adapter is used instead, or trained on; where this is None too, the model is
    untuned."""
    split: str = "validation"
    """Whose series are forecast: `validation` or `test`."""
    select: Selection | None = None
    """Narrows the split to some of its series."""
    featured: tuple[int, ...] = ()
    """Series ids that its figures show; they are forecast first, so that a short run has them."""
    backbone: str | None = None
    """Which language model, where it is not the profile's."""
    shuffled: bool = False
    """Whether the backbone's weights are shuffled first: a control without what pretraining
    taught."""
    milestones: tuple[int, ...] = ()
    """Training steps after which the whole validation split is evaluated; empty: what the profile
    watches, as often.

    Of made-up series as many are watched as the validation split has.
    """

    marks: tuple[int, ...] = ()
    """Training steps after which the adapter is kept too: that of a shorter run of the same
    settings."""

    @property
    def forecasts(self) -> int:
        """How many series it forecasts, all told."""
        return 0 if self.made_up else self.select.count if self.select else WHOLE_SPLIT

    def watch(self, profile: Profile) -> tuple[int, list[int], bool]:
        """What a profile evaluates while the experiment trains, before the first step, after the
        last, and in between.

        How many validation series; after which steps in between; and whether they are also
        forecast, or only their loss is taken.
        """
        steps = self.training(profile).get("steps", 0)
        if profile.watched and (self.milestones or self.made_up):
            return WHOLE_SPLIT, [step for step in self.milestones if step < steps], not self.made_up
        after = range(profile.evaluate_every, steps, profile.evaluate_every)
        return profile.watched, list(after), self.name in profile.watched_forecasts

    def at(self, profile: Profile) -> "Experiment":
        """The experiment with the settings of training and protocol that a profile replaces."""
        kind = self.name.split("/")[0]  # what a profile says of the name counts for more
        train, protocol = (
            {**sizes.get(kind, {}), **sizes.get(self.name, {})}
            for sizes in (profile.train, profile.protocol)
        )
        return replace(
            self,
            train=self.train and self.train | train,
            protocol=replace(self.protocol, **protocol),
        )

    def training(self, profile: Profile) -> dict[str, Any]:
        """The settings of its training at a profile; none where it trains nothing."""
        return self.at(profile).train or {}

    def config(self, profile: Profile) -> TrainConfig | None:
        """The same, with the defaults."""
        train = self.training(profile)
        return TrainConfig(**train) if train else None

    def settings(self, profile: Profile) -> dict[str, Any]:
        """All that decides the run's numbers at a profile, as it is recorded.

        Records are told apart by a hash of this, so its form never changes: an adapter is a name,
        or place and names.
        """
        sized = self.at(profile)
        settings: dict[str, Any] = {"split": self.split, "decode": asdict(sized.protocol)}
        if self.select:
            settings["select"] = str(self.select) + (
                " of the report" if profile.as_reported else ""
            )
        if self.adapter:
            names, reported = self.adapter.names, ["of the report"] if profile.as_reported else []
            settings["adapter"] = (
                names[0] if len(names) == 1 else [self.adapter.place, *names, *reported]
            )
        if sized.train:
            settings["train"] = sized.train
        for name in ("simulated", "without", "pairs", "backbone", "shuffled"):
            if getattr(self, name):
                settings[name] = getattr(self, name)
        if self.made_up:
            settings["made_up"] = self.made_up.settings()
        return settings

    def earlier(self, profile: Profile) -> tuple[str, ...]:
        """The experiments whose results decide the series and the adapter of this one."""
        if profile.as_reported:  # the published errors have chosen
            return (self.adapter.chosen(rules.chosen_by),) if self.adapter else ()
        return (
            *(self.select.reads if self.select else ()),
            *(self.adapter.names if self.adapter else ()),
        )


def series_ids(experiment: Experiment, limit: int | None, n: int, errors_of: ErrorsOf) -> list[int]:
    """The ids an experiment forecasts of n series, featured ones first, at most `limit` of them."""
    ids = getattr(split_ids(n), experiment.split) if experiment.forecasts else []
    if experiment.select:
        ids = experiment.select.rule(*map(errors_of, experiment.select.reads))
    return sorted(ids, key=lambda series: (series not in experiment.featured, series))[:limit]


SHOWN = (94, 99, 141)
FIRST = {"steps": 5000, "learning_rate": 1e-5, "rank": 4, "sequence_length": 512}
CHOSEN = {"learning_rate": 1e-4, "rank": 2}  # by the report's search: expt_6
# Where context/512 and search/expt_6 end, and a few steps more, to see how the error falls.
MARKS = (500, 1500, 3150, 5000, 7500, 10000, 12500)
GRID = tuple(product((1e-5, 5e-5, 1e-4), (2, 4, 8)))  # rate, rank
SEARCH = tuple(f"search/expt_{i}" for i in range(len(GRID)))
SECOND = tuple(f"search/second_{place}" for place in range(3))

HARDEST = Selection(rules.worst_5, ("default",), 5)
OTHER_HARD = Selection(rules.others_of_hard_20, ("baseline", "default"), 15)
HARD_AND_EASY = Selection(rules.hard_and_easy, ("baseline",), 25)
THE_REST = Selection(rules.all_but_hard_and_easy, ("baseline",), 25)

_REPORTED = [
    Experiment(
        "baseline",
        "the untuned model on validation (section 2.2)",
        group="baseline",
        featured=SHOWN,
    ),
    Experiment(
        "default",
        "the report's first adapter, on 25 validation series (section 3.1)",
        group="default",
        train=FIRST,
        select=HARD_AND_EASY,
        featured=SHOWN,
    ),
    *(
        Experiment(
            name,
            f"the search: rate {i // 3 + 1} of 3, rank {rank}, "
            "on the five hardest series (section 3.2)",
            group="first search",
            select=HARDEST,
            train={"steps": 3150, "learning_rate": rate, "rank": rank, "sequence_length": 512},
        )
        for i, (name, (rate, rank)) in enumerate(zip(SEARCH, GRID, strict=True))
    ),
    *(
        Experiment(
            name,
            f"the search's number {place + 1} by mean, on the other 15 hard series",
            group="first search",
            adapter=AdapterOf(SEARCH, place),
            select=OTHER_HARD,
        )
        for place, name in enumerate(SECOND)
    ),
    *(
        Experiment(
            f"context/{length}",
            f"windows and prompts of {length} tokens, on the five hardest series (section 3.2)",
            DecodeConfig.as_published(context_tokens=length),
            group="second search",
            select=HARDEST,
            train={"steps": 1500, **CHOSEN, "sequence_length": length},
        )
        for length in (128, 512, 768)
    ),
    Experiment(
        "final",
        "the chosen settings, trained with what is left, on the test series (section 3.3)",
        group="final",
        train={"steps": 15400, **CHOSEN, "sequence_length": 512},
        split="test",
        marks=MARKS,
    ),
    Experiment("untuned-test", "the untuned model on the test series", group="final", split="test"),
]
WARM = {"steps": 5000, "learning_rate": 1e-3, "rank": 16, "sequence_length": 640, **COSINE}
_BEYOND = [
    Experiment(
        "baseline-constrained",
        "the baseline with the whole context, correct rounding and a grammar on the output",
        CONSTRAINED,
        featured=SHOWN,
    ),
    Experiment(
        "default-rest",
        "the first adapter on the other 25: does it forget the easy ones?",
        adapter=AdapterOf(("default",)),
        select=THE_REST,
    ),
    Experiment(
        "default-warm",
        "a laptop's recipe: higher rank and rate, warm-up and cosine decay, all validation series",
        CONSTRAINED,
        train=WARM,
        featured=SHOWN,
    ),
    Experiment(
        "untuned-test-constrained",
        "the untuned model on the test series, with the whole context, correct rounding "
        "and a grammar",
        CONSTRAINED,
        split="test",
    ),
    Experiment(
        "final-sampled",
        "the final adapter on the test series, the median of 12 sampled forecasts of each",
        SAMPLED,
        adapter=AdapterOf(("final",)),
        split="test",
    ),
    Experiment(
        "context/768-rest",
        "the adapter of 768 tokens on the other 15 hard series",
        DecodeConfig.as_published(context_tokens=768),
        adapter=AdapterOf(("context/768",)),
        select=OTHER_HARD,
    ),
]


def _trial(name: str, tried: str, train: dict[str, Any] | None = None, **more: Any) -> Experiment:
    return Experiment(
        f"trial/{name}", f"trial: {tried}", **{"protocol": CONSTRAINED, "train": train, **more}
    )


# What was tried for the laptop's final run, on the way from default-warm. No series is longer than
# 1024 tokens, so here a window is a whole series.
WHOLE = WARM | {"steps": 240, "sequence_length": 1024, "batch_size": 1}
RATE = WHOLE | {"learning_rate": 3e-3}
MEDIAN_OF_12: dict[str, Any] = {"protocol": SAMPLED, "adapter": AdapterOf(("trial/rate-high",))}
_TRIALS = [
    _trial("rate", "one whole series a step, rate 0.003", RATE),
    _trial("rate-high", "one whole series a step, rate 0.01", WHOLE | {"learning_rate": 1e-2}),
    _trial(
        "units",
        "one whole series a step, rate 0.003, last digits at a quarter",
        RATE | {"units_weight": 0.25},
    ),
    _trial(
        "sampled", "the adapter of rate 0.01, the median of 12 sampled forecasts", **MEDIAN_OF_12
    ),
]
# What was tried for the best run, from trial/rate on and at its FLOPs by the rules (within 3%).
LINEAR = RATE | {"targets": list(PROJECTIONS)}
RANK_4 = LINEAR | {"rank": 4, "learning_rate": 6e-3}
SMALL = WHOLE | {"steps": 920, "learning_rate": 2e-3, "rank": 0, "batch_size": 8}
_simulated = partial(_trial, simulated=True)
_ARMS = [
    _trial("linear", "all seven linear layers", LINEAR),
    _simulated("simulated", "series that never repeat", RATE),
    _simulated("linear-simulated", "both of these", LINEAR),
    _simulated("rank", "both, rank 4 at rate 0.006", RANK_4),
    _simulated(
        "tail",
        "these, and a window's last token weighs four times its first",
        RANK_4 | {"tail_weight": 4.0},
    ),
    _simulated("low", "both, rate 0.0015", LINEAR | {"learning_rate": 1.5e-3}),
    _simulated("pairs", "both, two series a step", LINEAR | {"steps": 120, "batch_size": 2}),
    _simulated(
        "cooldown", "both, at the full rate until the last fifth", LINEAR | {"decay": "cooldown"}
    ),
    _simulated("shuffled", "both, on shuffled weights", LINEAR, shuffled=True),
    _simulated(
        "small", "a small model from random weights, all of it trained", SMALL, backbone="small"
    ),
]
# What they led to. A long run bears less than a short one, so its peak is lower; and it stays there
# for 4122 steps, so that its milestones are what shorter runs would have come to before they cooled
# down. Its first 4122 steps are those of a run of 6000 whose loss rose from step 4760 on, from 0.62
# to 0.83: the full rate is too much for so long. It was taken up again at its checkpoint of step
# 4122, and cooled down from there; what came after is counted as discarded.
_BEST = Experiment(
    "best",
    "more accuracy per FLOP: all seven linear layers, 5152 series that never repeat, "
    "on the test series",
    CONSTRAINED,
    train=RANK_4 | {"steps": 5152, "learning_rate": 4e-3, "warmup": 0.0233, "decay": "cooldown"},
    simulated=True,
    split="test",
    milestones=(250, 500, 1000, 2000, 4000),
)
# What was tried for the adapter of any table, on made-up series, and judged on other such and on
# real ones.
MADE_UP = RANK_4 | {"decay": "cooldown"}


def _tables(name: str, tried: str, train: dict[str, Any] = MADE_UP, **more: Any) -> Experiment:
    return Experiment(
        f"tables/{name}", f"for any table: {tried}", **{"train": train, "made_up": TABLES, **more}
    )


_TABLES = [
    _tables("three-digits", "numbers of three digits"),
    _tables("four-digits", "numbers of four digits", made_up=replace(TABLES, digits=4)),
    _tables("rank-8", "rank 8, rate 0.004", MADE_UP | {"rank": 8, "learning_rate": 4e-3}),
    _tables(
        "tail", "a window's last token weighs four times its first", MADE_UP | {"tail_weight": 4.0}
    ),
    _tables("one", "series of one variable alone", made_up=TABLES.of(1)),
    *(
        _tables(f"no-{family}", f"without the family {family}", without=family)
        for family in FAMILIES
    ),
    _tables(
        "one-plain",
        "one variable alone, without components",
        made_up=TABLES.of(1),
        without="components",
    ),
]
# The adapter for any table, at the rate of the long run. Its first 1300 steps are those of a run of
# 2000, which spent some 200 of them on coming back from a rise of its loss; it was cooled down from
# there. Then it went on, four times. The run general-tail was declared with 4000 steps, and cooled
# down from step 1800 on.
_any_table = partial(Experiment, made_up=TABLES)
_GENERAL = [
    _any_table(
        "general",
        "an adapter for any table: made-up series that never repeat",
        milestones=(250, 500, 1000),
        train=MADE_UP | {"steps": 1625, "learning_rate": 4e-3, "warmup": 0.0615},
    ),
    _any_table(
        "general-long",
        "the adapter for any table, trained on at a lower rate, on other made-up series",
        train=MADE_UP | {"steps": 2000, "learning_rate": 2e-3, "warmup": 0.05, "seed": 1},
        adapter=AdapterOf(("general",)),
        milestones=(500, 1000),
    ),
    _any_table(
        "general-pairs",
        "the adapter for any table, trained on, above all on prey and predators",
        train=MADE_UP | {"steps": 1500, "learning_rate": 2.5e-3, "warmup": 0.05, "seed": 2},
        adapter=AdapterOf(("general-long",)),
        milestones=(500, 1000),
        pairs=0.7,
    ),
    _any_table(
        "general-tail",
        "the adapter for any table, trained on, with more weight on what follows a long context",
        train=MADE_UP
        | {"steps": 2250, "learning_rate": 2e-3, "warmup": 0.0889, "seed": 3, "tail_weight": 4.0},
        adapter=AdapterOf(("general-pairs",)),
        milestones=(1000, 2000),
        pairs=0.8,
    ),
    _any_table(
        "general-even",
        "the adapter for any table, trained on at a low rate, half on prey and predators",
        train=MADE_UP
        | {"steps": 1000, "learning_rate": 1e-3, "warmup": 0.05, "seed": 4, "tail_weight": 4.0},
        adapter=AdapterOf(("general-tail",)),
        pairs=0.5,
    ),
]
# How sure the forecasts are: samples of three adapters. At temperature 1 tokens are drawn from what
# the model itself believes, below it ever more often the likeliest one; 0.7 is what LLMTIME takes
# for GPT-3, and final-sampled has.
TEMPERATURES = (0.3, 0.5, 0.7, 0.85, 1.0)
# Each adapter's with the lowest CRPS on the validation series; tests/study/test_experiments.py
# holds them to that.
SAMPLED_AT = {"untuned": 1.0, "final": 0.5, "best": 0.7}


def _samples(name: str, temperature: float, n_samples: int, split: str) -> Experiment:
    who = name.split("/")[1]
    return Experiment(
        name,
        f"{who}: {n_samples} samples of each {split} series at temperature {temperature}",
        replace(SAMPLED, temperature=temperature, n_samples=n_samples),
        adapter=None if who == "untuned" else AdapterOf((who,)),
        split=split,
    )


_SAMPLES = [
    *(
        _samples(f"temperature/{who}/{t}", t, 12, "validation")
        for who, t in product(SAMPLED_AT, TEMPERATURES)
    ),
    *(
        _samples(f"samples/{who}/{split}", t, 48, split)
        for (who, t), split in product(SAMPLED_AT.items(), ("validation", "test"))
    ),
]
TRIALS, ARMS = (tuple(trial.name for trial in trials) for trials in (_TRIALS, _ARMS))
EXPERIMENTS = {
    it.name: it
    for it in (*_REPORTED, *_BEYOND, *_TRIALS, *_ARMS, _BEST, *_TABLES, *_GENERAL, *_SAMPLES)
}


def experiment_named(name: str) -> Experiment:
    """Raises InputError for an unknown name."""
    if name not in EXPERIMENTS:
        raise InputError(f"unknown experiment {name!r}: choose one of {', '.join(EXPERIMENTS)}")
    return EXPERIMENTS[name]
