"""The report's experiments as data, and the one way to run them."""

import time
from dataclasses import asdict, dataclass

import numpy as np

from m2lib.codec import CODEC_VERSION, decode, to_integers
from m2lib.data import SeriesSet, Split, load_series, split_ids
from m2lib.files import InputError, write_atomic
from m2lib.forecast import DECODE_VERSION, DecodeConfig, forecast
from m2lib.metrics import series_mae
from m2lib.profiles import Profile, active_profile
from m2lib.results import Result, describe_device, fingerprint, load_result, provenance, result_path, save_result


@dataclass(frozen=True)
class Experiment:
    """One run: the split whose series it forecasts, and how.

    featured: series ids that its figures show; they are forecast first, so that a short run has them.
    """

    name: str
    about: str
    split: str
    decode: DecodeConfig
    featured: tuple[int, ...] = ()

    @property
    def settings(self) -> dict:
        """All that decides the run's numbers, as it is recorded."""
        return {"split": self.split, "decode": asdict(self.decode)}


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
    )
}


def series_ids(experiment: Experiment, split: Split, limit: int | None) -> list[int]:
    """The ids an experiment forecasts, featured ones first, at most `limit` of them."""
    ids = getattr(split, experiment.split)
    return sorted(ids, key=lambda series: (series not in experiment.featured, series))[:limit]


def run(name: str, profile: Profile | None = None, *, data: SeriesSet | None = None, fresh: bool = False) -> Result:
    """Load an experiment's finished record, or run it, checkpointing after each batch.

    profile: default the active one. data: default `load_series()`. fresh: run again even where there is a record.
    An interrupted run goes on where it stopped, on the same device and in the same dtype. A record made from other
    weights, data or settings is replaced only if `fresh`, or if the profile is live. Raises InputError before anything
    is computed where the record cannot be written.
    """
    from tqdm.auto import tqdm

    from m2lib.backbones import load_backbone, weight_hash

    if name not in EXPERIMENTS:
        raise InputError(f"unknown experiment {name!r}: choose one of {', '.join(EXPERIMENTS)}")
    experiment = EXPERIMENTS[name]
    profile = profile or active_profile()
    data = load_series() if data is None else data
    decisive = {
        "settings": experiment.settings,
        "series": profile.series,
        "weights": weight_hash(profile.backbone),
        "data": data.fingerprint,
        "version": [CODEC_VERSION, DECODE_VERSION],
    }
    result = None if fresh else _stored(profile, name, decisive)
    if result and result.status == "done":
        return result

    backbone = load_backbone(profile.backbone)
    if result and (result.backbone["dtype"], result.device) != (backbone.dtype, describe_device(backbone.device)):
        raise InputError(
            f"{result_path(profile, name)} was begun in {result.backbone['dtype']} on {result.device}; go on there "
            f"(M2_DTYPE, M2_DEVICE), or `m2 run {name} --fresh` starts again"
        )
    result = result or Result(
        name=name,
        profile=profile.name,
        fingerprint=fingerprint(decisive),
        config=experiment.settings,
        backbone={"id": backbone.name, "weight_hash": backbone.weight_hash, "dtype": backbone.dtype},
        batch_size=profile.batch_size,
        data={"fingerprint": data.fingerprint, "series": len(data)},
        seed=0,
        **provenance(backbone.device),
    )
    result.status = "running"
    path = result_path(profile, name)
    # A folder that cannot be written to fails here, not after minutes of decoding. With `fresh` the old record stands
    # until the first batch is done.
    if fresh and path.exists():
        write_atomic(path, path.read_bytes())
    else:
        save_result(profile, result)
    ids = series_ids(experiment, split_ids(len(data)), profile.series)
    left = [series for series in ids if series not in result.series]
    started, before = time.perf_counter(), result.seconds
    try:
        with tqdm(total=len(ids), initial=len(ids) - len(left), desc=name, unit="series", disable=profile.live) as bar:
            for start in range(0, len(left), profile.batch_size):
                batch = left[start : start + profile.batch_size]
                result.series |= _evaluate(backbone, data, batch, experiment.decode)
                result.seconds = round(before + time.perf_counter() - started, 2)
                save_result(profile, result)
                bar.update(len(batch))
    except BaseException:
        result.status = "aborted"
        if result.series:
            save_result(profile, result)
        raise
    result.status = "done"
    save_result(profile, result)
    return result


def recorded_forecast(result: Result, data: SeriesSet, series: int) -> np.ndarray:
    """The forecast that a record holds as text: int64 (20, 2), scaled units."""
    config = result.config["decode"]
    last = to_integers(data.contexts[series, -1:], data.scales[series], config["rounding"])[0]
    return decode(result.series[series]["text"], config["steps"], tuple(last.tolist())).values


def _stored(profile: Profile, name: str, decisive: dict) -> Result | None:
    """The stored record of the same run; None where there is none, or a live profile's is another's.

    Raises InputError where going on would overwrite the record of another run.
    """
    if not result_path(profile, name).exists():
        return None
    try:
        stored = load_result(profile, name)
    except InputError as error:
        if profile.live:
            return None
        raise InputError(f"{error}; `m2 run {name} --fresh` replaces it") from error
    if stored.fingerprint == fingerprint(decisive):
        return stored
    if profile.live:
        return None
    was = {
        "settings": stored.config,
        "weights": stored.backbone["weight_hash"],
        "data": stored.data["fingerprint"],
    }
    different = [part for part, value in was.items() if fingerprint(value) != fingerprint(decisive[part])]
    raise InputError(
        f"{result_path(profile, name)} was recorded with other {' and '.join(different) or 'sizes or code versions'}; "
        f"`m2 run {name} --fresh` replaces it"
    )


def _evaluate(backbone, data: SeriesSet, ids: list[int], config: DecodeConfig) -> dict[int, dict]:
    """The record's `series` entries of one batch."""
    forecasts = forecast(backbone, data.contexts[ids], config, batch_size=len(ids), ids=ids)
    truths = to_integers(data.truths[ids], data.scales[ids], config.rounding)
    return {
        series: {
            "mae": float(series_mae(one.values[0], truth)),
            "repairs": one.repairs[0],
            "text": one.texts[0],
            "prompt_tokens": one.prompt_tokens,
            "padded_tokens": one.padded_tokens,
            "new_tokens": one.new_tokens,
        }
        for series, one, truth in zip(ids, forecasts, truths, strict=True)
    }
