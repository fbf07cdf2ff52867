"""Arrays: series without time stamps, in the forms in which chronos takes them.

`series_of` is to arrays what `items_of` in `m2lib.forecaster.tables` is to tables: it takes the
series out, and checks all their values once.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from m2lib.errors import InputError
from m2lib.series import MOST_VARIABLES, SHORTEST_CONTEXT


def series_of(context: Any, ids: Sequence[int | str] | None = None) -> list[np.ndarray]:
    """Take the series out of what `Forecaster.predict_quantiles` is given.

    Parameters
    ----------
    context : ndarray or Tensor of float, or sequence of them
        As in `Forecaster.predict_quantiles`.
    ids : sequence of int or str, optional
        The names of series in errors. Default: their numbers from 0.

    Returns
    -------
    list of ndarray of float64, each of shape (steps, variables)
        The series, in their order.

    Raises
    ------
    InputError
        For a table, for covariates, for another number of ids than of series, and for the first
        series that has another shape, too many variables, too few steps, or gaps.
    """
    if isinstance(context, pd.DataFrame):
        raise InputError(
            "context is a DataFrame, of which each row would be read as a series; give a long "
            "table to predict_df, or of a wide one context.to_numpy().T"
        )
    if getattr(context, "dtype", None) == np.dtype(object):
        context = list(context)  # series of unequal lengths, as NumPy and pandas hold them
    if isinstance(context, list | tuple):
        context = [_target_of(series) for series in context]
        if context and np.ndim(context[0]) == 0:  # a list of numbers is one series
            context = np.atleast_2d(context)
    else:
        context = np.atleast_2d(_for_numpy(context))  # an array of one series, or of several
    values = [np.atleast_2d(np.asarray(series, dtype=np.float64)).T for series in context]
    names = range(len(values)) if ids is None else ids
    if len(names) != len(values):
        raise InputError(
            f"there are {len(names)} ids and {len(values)} series; give an id for each series"
        )
    for name, series in zip(names, values, strict=True):
        _check_series(name, series)
    return values


def _check_series(name: int | str, series: np.ndarray) -> None:
    """Raise InputError for a series (steps, variables) that cannot be forecast."""
    if series.ndim != 2:
        raise InputError(
            f"series {name} has {series.ndim} axes; give it as (steps,), or as (variables, steps)"
        )
    if series.shape[1] > MOST_VARIABLES:
        raise InputError(
            f"series {name} has {series.shape[1]} variables, more than {MOST_VARIABLES}; "
            "give it as (variables, steps), and with fewer variables"
        )
    if len(series) < SHORTEST_CONTEXT:
        raise InputError(
            f"series {name} has {len(series)} steps, fewer than {SHORTEST_CONTEXT}; bring more, "
            "or drop it (an array is one series, or (series, steps))"
        )
    gaps = np.flatnonzero(~np.isfinite(series).all(axis=1))
    if len(gaps):
        raise InputError(
            f"series {name} is not finite at {len(gaps)} of its steps, the first of which "
            f"is {gaps[0]}; cut them off at its start, and fill them elsewhere"
        )


def refuse_covariates(name: str) -> None:
    """Raise InputError for an argument by which chronos takes covariates."""
    raise InputError(
        f"{name} holds covariates, which this model cannot use: it reads the past of the targets "
        f"alone; leave {name} out"
    )


def _target_of(series: Any) -> Any:
    """Return the past of a series that chronos-2 takes as a dict; any other series as it is.

    InputError for a dict that holds covariates, `past_covariates` or `future_covariates`.
    """
    if not isinstance(series, dict):
        return _for_numpy(series)
    for name in series.keys() - {"target"}:
        refuse_covariates(name)
    return _for_numpy(series["target"])


def _for_numpy(values: Any) -> Any:
    """Return a tensor as NumPy reads it: in float64 on the CPU, without gradients.

    What a masked array hides becomes NaN, because `np.asarray` would bring the hidden numbers back.
    All else is returned as it is.
    """
    if isinstance(values, torch.Tensor):
        return values.detach().cpu().double()
    if isinstance(values, np.ma.MaskedArray):
        return np.ma.filled(values.astype(np.float64), np.nan)
    return values
