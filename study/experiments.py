"""Every experiment, the report's and those that go beyond it, as data.

Each is declared at the report's size; `study.plans` gives it the size of a profile.
"""

from dataclasses import dataclass, replace
from functools import partial
from itertools import product

from m2lib.decoding import DecodeConfig
from m2lib.errors import InputError
from m2lib.model import ALL_TARGETS
from m2lib.training import TrainConfig
from study import selections
from study.selections import AdapterOf, Selection

REPORT_PROTOCOL = DecodeConfig.as_published(context_tokens=512)
CONSTRAINED = DecodeConfig(constrained=True)
SAMPLED = DecodeConfig(constrained=True, temperature=0.7, n_samples=12)
WHOLE_SPLIT = 50
"""How many series the validation split has, and as many the test split."""


@dataclass(frozen=True)
class Experiment:
    """One run as it is declared, at the report's size: what is trained, which series it then
    forecasts, and how."""

    name: str
    about: str
    """What it is for, in words."""
    protocol: DecodeConfig = REPORT_PROTOCOL
    """How it forecasts."""
    group: str | None = None
    """Its row in the report's Table 3; None: it goes beyond the report, and its FLOPs are not
    charged to the budget."""
    training: TrainConfig | None = None
    """What it trains with; None: it trains nothing."""
    training_series: int | None = None
    """On how many series of the training split it trains, which its training's seed draws; None: on
    all of them."""
    simulated_from_recipe: bool = False
    """Whether it trains on *simulated* series instead of the training split: predator-prey systems
    of the data set's recipe, simulated anew for each step, so that none repeats."""
    adapter: AdapterOf | None = None
    """The earlier experiment whose adapter it forecasts with or, if it trains, trains further;
    None: it starts from the untuned model."""
    split: str = "validation"
    """Whose series are forecast: `validation` or `test`."""
    select: Selection | None = None
    """Chooses some validation series, which are forecast instead of the whole split."""
    featured: tuple[int, ...] = ()
    """The ids of series that its figures show. They are forecast first, so that a short run has
    them."""
    backbone: str | None = None
    """The language model, if it is not the profile's."""
    shuffled: bool = False
    """Whether the backbone's weights are shuffled first, as a control that has lost what
    pretraining taught."""
    milestones: tuple[int, ...] = ()
    """Training steps after which the whole validation split is evaluated; empty: the profile says
    how many of its series are, and how often."""

    @property
    def num_forecasts(self) -> int:
        """How many series it forecasts at the report's size."""
        return self.select.count if self.select else WHOLE_SPLIT


# Validation series that figures show, because they differ: 94 keeps swinging, 99 spirals inwards,
# 141 spirals outwards.
FEATURED = (94, 99, 141)
# The settings of the report's first adapter.
FIRST = TrainConfig(steps=5000, learning_rate=1e-5, rank=4, batch_size=2, sequence_length=512)
# The settings that the report's search chose, those of search/expt_6, for the final adapter.
CHOSEN = TrainConfig(steps=15400, learning_rate=1e-4, rank=2, batch_size=2, sequence_length=512)
# The search's pairs of learning rate and rank: expt_0 has (1e-5, 2), expt_1 (1e-5, 4), ...
GRID = tuple(product((1e-5, 5e-5, 1e-4), (2, 4, 8)))
SEARCH = tuple(f"search/expt_{i}" for i in range(len(GRID)))
"""The search's experiments, one for each pair of learning rate and rank."""
SECOND = tuple(f"search/second_{place}" for place in range(3))
"""The search's second round: its best three adapters by mean, on the other 15 hard series."""
LENGTHS = (128, 512, 768)
"""The lengths of context that the report compares, in tokens."""
CONTEXTS = tuple(f"context/{length}" for length in LENGTHS)
"""The experiments that compare lengths of context, one for each of LENGTHS."""

# Which validation series are forecast, by whose errors, and how many they are.
HARDEST = Selection(selections.worst_5, ("default",), 5)
OTHER_HARD = Selection(selections.others_of_hard_20, ("baseline", "default"), 15)
HARD_AND_EASY = Selection(selections.hard_and_easy, ("baseline",), 25)
THE_REST = Selection(selections.all_but_hard_and_easy, ("baseline",), 25)


def _first_round() -> list[Experiment]:
    """Return the search's runs of the first round, one for each pair of learning rate and rank."""
    runs = []
    for i, (rate, rank) in enumerate(GRID):
        rate_number = i // 3 + 1  # each rate has three ranks
        run = Experiment(
            SEARCH[i],
            f"the search: rate {rate_number} of 3, rank {rank}, "
            "on the five hardest series (section 3.2)",
            group="first search",
            select=HARDEST,
            training=replace(FIRST, steps=3150, learning_rate=rate, rank=rank),
        )
        runs.append(run)
    return runs


_REPORTED = [
    Experiment(
        "baseline",
        "the untuned model on validation (section 2.2)",
        group="baseline",
        featured=FEATURED,
    ),
    Experiment(
        "default",
        "the report's first adapter, on 25 validation series (section 3.1)",
        group="default",
        training=FIRST,
        select=HARD_AND_EASY,
        featured=FEATURED,
    ),
    *_first_round(),
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
            name,
            f"windows and prompts of {length} tokens, on the five hardest series (section 3.2)",
            DecodeConfig.as_published(context_tokens=length),
            group="second search",
            select=HARDEST,
            training=replace(CHOSEN, steps=1500, sequence_length=length),
        )
        for name, length in zip(CONTEXTS, LENGTHS, strict=True)
    ),
    Experiment(
        "final",
        "the chosen settings, trained with what is left, on the test series (section 3.3)",
        group="final",
        training=CHOSEN,
        split="test",
    ),
    Experiment("untuned-test", "the untuned model on the test series", group="final", split="test"),
]
WARM = TrainConfig(
    steps=5000,
    learning_rate=1e-3,
    rank=16,
    batch_size=2,
    sequence_length=640,
    warmup=0.05,
    decay="cosine",
    clip_norm=1.0,
)
_BEYOND = [
    Experiment(
        "baseline-constrained",
        "the baseline with the whole context, correct rounding and a grammar on the output",
        CONSTRAINED,
        featured=FEATURED,
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
        training=WARM,
        featured=FEATURED,
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
    *(
        Experiment(
            f"context/{length}-at-512",
            f"the adapter of {length} tokens, prompted with 512, as the report's evaluation was",
            adapter=AdapterOf((f"context/{length}",)),
            select=HARDEST,
        )
        for length in (128, 768)
    ),
]


def _trial(
    name: str,
    tried: str,
    training: TrainConfig,
    *,
    simulated_from_recipe: bool = False,
    shuffled: bool = False,
    backbone: str | None = None,
) -> Experiment:
    """Return a trial on the validation series."""
    return Experiment(
        f"trial/{name}",
        f"trial: {tried}",
        CONSTRAINED,
        training=training,
        simulated_from_recipe=simulated_from_recipe,
        shuffled=shuffled,
        backbone=backbone,
    )


# What was tried for the laptop's final run, on the way from default-warm. No series is longer than
# 1024 tokens, so here a window is a whole series.
WHOLE_SERIES = TrainConfig(
    steps=240,
    learning_rate=3e-3,
    rank=16,
    batch_size=1,
    sequence_length=1024,
    warmup=0.05,
    decay="cosine",
    clip_norm=1.0,
)
_TRIALS = [
    _trial("rate", "one whole series a step, rate 0.003", WHOLE_SERIES),
    _trial(
        "rate-high", "one whole series a step, rate 0.01", replace(WHOLE_SERIES, learning_rate=1e-2)
    ),
    _trial(
        "units",
        "one whole series a step, rate 0.003, last digits at a quarter",
        replace(WHOLE_SERIES, units_weight=0.25),
    ),
    Experiment(
        "trial/sampled",
        "trial: the adapter of rate 0.01, the median of 12 sampled forecasts",
        SAMPLED,
        adapter=AdapterOf(("trial/rate-high",)),
    ),
]
# What was tried for the best run. Each arm changes something in trial/rate and, by the coursework's
# count of FLOPs, costs the same within 4%. "Both" are adapters on all seven linear layers and
# series that never repeat.
LINEAR = replace(WHOLE_SERIES, targets=ALL_TARGETS)
RANK_4 = replace(LINEAR, rank=4, learning_rate=6e-3)
SMALL = replace(WHOLE_SERIES, steps=920, learning_rate=2e-3, rank=0, batch_size=8)  # no adapters
_simulated = partial(_trial, simulated_from_recipe=True)
_ARMS = [
    _trial("linear", "all seven linear layers", LINEAR),
    _simulated("simulated", "series that never repeat", WHOLE_SERIES),
    _simulated("linear-simulated", "both of these", LINEAR),
    _simulated("rank", "both, rank 4 at rate 0.006", RANK_4),
    _simulated(
        "tail",
        "these, and a window's last token weighs four times its first",
        replace(RANK_4, tail_weight=4.0),
    ),
    _simulated("low", "both, rate 0.0015", replace(LINEAR, learning_rate=1.5e-3)),
    _simulated("pairs", "both, two series a step", replace(LINEAR, steps=120, batch_size=2)),
    _simulated(
        "cooldown", "both, at the full rate until the last fifth", replace(LINEAR, decay="cooldown")
    ),
    _simulated("shuffled", "both, on shuffled weights", LINEAR, shuffled=True),
    _simulated(
        "small", "a small model from random weights, all of it trained", SMALL, backbone="small"
    ),
]
# What the arms led to. A long run bears a lower learning rate than a short one, so its peak is
# lower. It stays at the peak until step 4122, so its milestones are what shorter runs would have
# reached before they cooled down.
BEST = TrainConfig(
    steps=5152,
    learning_rate=4e-3,
    rank=4,
    batch_size=1,
    sequence_length=1024,
    warmup=0.0233,  # 120 steps
    decay="cooldown",
    clip_norm=1.0,
    targets=ALL_TARGETS,
)
_BEST = Experiment(
    "best",
    "more accuracy per FLOP: all seven linear layers, 5152 series that never repeat, "
    "on the test series",
    CONSTRAINED,
    training=BEST,
    simulated_from_recipe=True,
    split="test",
    milestones=(250, 500, 1000, 2000, 4000),
)
# The recipe of the best run on a few series of the training split: the same series that a small
# network learns from. How many steps it takes is chosen on the validation series.
FEW_STEPS = {3: (60, 240), 10: (240,), 30: (240, 720), 100: (240, 720), 300: (720,)}
"""The numbers of training steps that are tried on so many series."""


def few_name(count: int, steps: int, seed: int = 0) -> str:
    """Return the name of the experiment that trains on so many series, such as `few/30/240-0`."""
    return f"few/{count}/{steps}-{seed}"


def _few(count: int, steps: int, seed: int = 0) -> Experiment:
    return Experiment(
        few_name(count, steps, seed),
        f"the recipe of `best` on {count} training series: {steps} steps, seed {seed}",
        CONSTRAINED,
        training=replace(BEST, steps=steps, warmup=0.05, seed=seed),
        training_series=count,
    )


def few_test_name(count: int, seed: int) -> str:
    """Return the name of the experiment that forecasts the test series with such an adapter."""
    return f"few/test/{count}-{seed}"


def _few_test(count: int, seed: int) -> Experiment:
    return Experiment(
        few_test_name(count, seed),
        f"what was learned from {count} training series, seed {seed}, on the test series",
        CONSTRAINED,
        adapter=AdapterOf((few_name(count, 720, seed),)),
        split="test",
    )


_FEW = [_few(count, steps) for count, tried in FEW_STEPS.items() for steps in tried]
# 720 steps are better on the validation series than fewer. Three seeds show how far trainings of
# one kind differ; the test series have the last word.
SEEDS = {30: (0, 1, 2), 100: (0, 1, 2), 300: (0,)}
"""The seeds of the trainings of 720 steps on so many series."""
_FEW += [_few(count, 720, seed) for count, seeds in SEEDS.items() for seed in seeds if seed]
_FEW += [_few_test(count, seed) for count, seeds in SEEDS.items() for seed in seeds]
# How sure the forecasts are: samples from the untuned model and from two adapters. LLMTIME uses a
# temperature of 0.7 for GPT-3, and final-sampled does too.
TEMPERATURES = (0.3, 0.5, 0.7, 0.85, 1.0)
"""The temperatures that are compared. At temperature 1 tokens are drawn with the probabilities that
the model gives them; the lower the temperature, the more often the likeliest token is drawn."""
# tests/study/test_experiments.py checks these.
SAMPLED_AT = {"untuned": 1.0, "final": 0.5, "best": 0.7}
"""The temperature at which the untuned model, and each of two adapters, has its lowest CRPS on the
validation series."""


def _samples(name: str, who: str, temperature: float, n_samples: int, split: str) -> Experiment:
    """Return an experiment that samples a split's series, untuned or with an adapter (`who`)."""
    return Experiment(
        name,
        f"{who}: {n_samples} samples of each {split} series at temperature {temperature}",
        replace(SAMPLED, temperature=temperature, n_samples=n_samples),
        adapter=None if who == "untuned" else AdapterOf((who,)),
        split=split,
    )


def _all_samples() -> list[Experiment]:
    """Return the experiments that try each temperature, then those at the temperatures chosen."""
    experiments = []
    for who in SAMPLED_AT:
        for temperature in TEMPERATURES:
            name = f"temperature/{who}/{temperature}"
            experiments.append(_samples(name, who, temperature, 12, "validation"))
    for who, temperature in SAMPLED_AT.items():
        for split in ("validation", "test"):
            name = f"samples/{who}/{split}"
            experiments.append(_samples(name, who, temperature, 48, split))
    return experiments


_SAMPLES = _all_samples()
FINAL_TRIALS = tuple(trial.name for trial in _TRIALS)
"""What was tried for the laptop's final run."""
START = "trial/rate"
"""The trial whose settings each of ARMS changes."""
ARMS = tuple(arm.name for arm in _ARMS)
"""What was tried for the best run."""
_ALL = (*_REPORTED, *_BEYOND, *_TRIALS, *_ARMS, _BEST, *_FEW, *_SAMPLES)
EXPERIMENTS = {experiment.name: experiment for experiment in _ALL}
"""All experiments, by name."""


def experiment_named(name: str) -> Experiment:
    """Return the experiment that is declared under a name, or raise InputError if none is."""
    if name not in EXPERIMENTS:
        raise InputError(f"unknown experiment {name!r}: choose one of {', '.join(EXPERIMENTS)}")
    return EXPERIMENTS[name]
