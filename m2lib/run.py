"""The one way to run an experiment: train, forecast, score, and record on the way."""

import shutil
import time
from pathlib import Path

import numpy as np

from m2lib.codec import CODEC_VERSION, encode, to_integers
from m2lib.data import SeriesSet, load_series, split_ids
from m2lib.experiments import EXPERIMENTS, series_ids
from m2lib.files import InputError, out_dir, write_atomic
from m2lib.forecast import DECODE_VERSION, DecodeConfig, forecast, read_back
from m2lib.metrics import series_mae
from m2lib.profiles import Profile, active_profile
from m2lib.results import Result, describe_device, fingerprint, load_result, provenance, result_path, save_result
from m2lib.vocabulary import text_to_ids


def adapter_path(profile: Profile | str, name: str) -> Path:
    """The folder of a trained experiment's adapter, beside its record."""
    return result_path(profile, name).with_suffix("")


def run(name: str, profile: Profile | None = None, *, data: SeriesSet | None = None, fresh: bool = False) -> Result:
    """Load an experiment's finished record, or run it, with a checkpoint every so many steps and after each batch.

    profile: default the active one. data: default `load_series()`. fresh: run again even where there is a record.
    An interrupted run goes on where it stopped, on the same device and in the same dtype. A record made from other
    weights, data or settings is replaced only if `fresh`, or if the profile is live. An experiment whose series are
    selected by an earlier one runs that too, if it has no record. Raises InputError before anything is computed where
    the record cannot be written.
    """
    from m2lib.backbones import load_backbone, weight_hash

    if name not in EXPERIMENTS:
        raise InputError(f"unknown experiment {name!r}: choose one of {', '.join(EXPERIMENTS)}")
    experiment = EXPERIMENTS[name]
    profile = profile or active_profile()
    data = load_series() if data is None else data
    decisive = {
        "settings": experiment.settings(profile),
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
        config=decisive["settings"],
        backbone={"id": backbone.name, "weight_hash": backbone.weight_hash, "dtype": backbone.dtype},
        batch_size=profile.batch_size,
        data={"fingerprint": data.fingerprint, "series": len(data)},
        seed=0,
        **provenance(backbone.device),
    )
    result.status = "running"
    path = result_path(profile, name)
    # A folder that cannot be written to fails here, not after minutes of work. With `fresh` the old record stands
    # until there is something to put in its place.
    replaces = fresh and path.exists()
    if replaces:
        write_atomic(path, path.read_bytes())
    else:
        save_result(profile, result)
    try:
        if experiment.train is not None:
            _train(backbone, data, profile, result, experiment.decode, fresh)
        earlier = run(experiment.select[0], profile, data=data).maes() if experiment.select else None
        ids = series_ids(experiment, profile.series, len(data), earlier)
        _forecast(backbone, data, ids, experiment.decode, profile, result)
    except BaseException:
        result.status = "aborted"
        if result.series or result.loss_curve or not replaces:
            save_result(profile, result)
        raise
    result.status = "done"
    save_result(profile, result)
    return result


def _train(backbone, data: SeriesSet, profile: Profile, result: Result, decode: DecodeConfig, fresh: bool) -> None:
    """Train the experiment's adapter into the backbone, going on from its checkpoints, and store it."""
    from m2lib.lora import save_adapter
    from m2lib.train import TrainConfig, make_windows, train

    config = TrainConfig(**result.config["train"])
    split = split_ids(len(data))

    def windows(ids):
        texts = [encode(data.trajectories[i], data.scales[i], decode.rounding, i) for i in ids]
        return make_windows([text_to_ids(text) for text in texts], config.sequence_length)

    name = "-".join((result.profile, result.backbone["id"], result.backbone["dtype"], result.name, result.fingerprint))
    checkpoints = out_dir() / "checkpoints" / name
    if fresh and checkpoints.exists():
        shutil.rmtree(checkpoints)

    def record(log):
        result.loss_curve, result.evaluations = log.losses, log.evaluations
        result.seconds = round(result.seconds + log.seconds - result.train_seconds, 2)
        result.train_seconds = round(log.seconds, 2)
        save_result(profile, result)

    watched = list(split.validation[:: -(-len(split.validation) // max(1, profile.watched))])
    train_windows, watched_windows = windows(split.train), windows(watched)

    def evaluate():
        return _watch(backbone, data, watched, watched_windows, decode if profile.watched_forecasts else None)

    log = train(
        backbone.model,
        train_windows,
        config,
        checkpoints,
        checkpoint_every=profile.checkpoint_every,
        on_checkpoint=record,
        evaluate=evaluate if profile.watched else None,
        evaluate_every=profile.evaluate_every,
        progress=not profile.live,
    )
    record(log)
    save_adapter(backbone.model, adapter_path(profile, result.name), backbone.name)


def _watch(backbone, data: SeriesSet, ids: list[int], windows: np.ndarray, decode: DecodeConfig | None) -> dict:
    """Validation loss (nats a token, mean over windows) and, given `decode`, MAE (scaled units) of a few series."""
    import torch

    from m2lib.train import window_loss

    losses = [
        window_loss(backbone.model, window).item() for window in torch.from_numpy(windows).to(backbone.device)[:, None]
    ]
    measured = {"loss": float(np.mean(losses))}
    if decode:
        maes = [entry["mae"] for entry in _evaluate(backbone, data, ids, decode).values()]
        measured |= {"mae_mean": float(np.mean(maes)), "mae_median": float(np.median(maes))}
    return measured


def _forecast(
    backbone, data: SeriesSet, ids: list[int], config: DecodeConfig, profile: Profile, result: Result
) -> None:
    """Forecast the series that the record lacks, saving it after each batch."""
    from tqdm.auto import tqdm

    result.series = {series: result.series[series] for series in ids if series in result.series}
    left = [series for series in ids if series not in result.series]
    started, before = time.perf_counter(), result.seconds
    bar = tqdm(total=len(ids), initial=len(ids) - len(left), desc=result.name, unit="series", disable=profile.live)
    with bar:
        for start in range(0, len(left), profile.batch_size):
            batch = left[start : start + profile.batch_size]
            result.series |= _evaluate(backbone, data, batch, config)
            result.seconds = round(before + time.perf_counter() - started, 2)
            save_result(profile, result)
            bar.update(len(batch))


def recorded_forecast(result: Result, data: SeriesSet, series: int) -> np.ndarray:
    """The forecast that a record holds as text: int64 (20, 2), scaled units."""
    config = DecodeConfig(**result.config["decode"])
    return read_back(result.series[series]["text"], data.contexts[series], data.scales[series], config).values


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
