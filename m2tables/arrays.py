"""Arrays: series without time stamps, in the forms in which chronos takes them."""

from typing import Any

import numpy as np
import pandas as pd

from m2lib.errors import InputError
from m2lib.series import MOST_VARIABLES


def series_of(context: Any) -> list[np.ndarray]:
    """Take the series out of what `Forecaster.predict_quantiles` is given.

    Parameters
    ----------
    context : ndarray or Tensor of float, or sequence of them
        One series (steps,), or several of them: (series, steps), or a list of any lengths. With
        more than one variable each is (variables, steps).

    Returns
    -------
    list of ndarray of float64, each of shape (steps, variables)
        The series, in their order.

    Raises
    ------
    InputError
        For a table or a dict, and for a series of another shape or with gaps, by its number from 0.
    """
    if not isinstance(context, list | tuple | pd.DataFrame | dict):
        context = _array(context)
    if isinstance(context, pd.DataFrame | dict) or any(isinstance(part, dict) for part in context):
        raise InputError(
            "context is a DataFrame, or has dicts; give a long table to predict_df, and of "
            "a wide one context.to_numpy().T; covariates are not used, so of dicts give the targets"
        )
    if not len(context):
        raise InputError("context holds no series; give at least one")
    is_one = np.ndim(context[0]) == 0  # numbers
    series = [
        np.atleast_2d(_array(part)).T.astype(np.float64)
        for part in ([context] if is_one else context)
    ]
    for number, values in enumerate(series):
        if values.ndim != 2 or not len(values) or not 1 <= values.shape[1] <= MOST_VARIABLES:
            raise InputError(
                f"series {number} has the shape {values.T.shape}; give it as (steps,), or as "
                f"(variables, steps) with up to {MOST_VARIABLES} variables"
            )
        if values.shape[1] != series[0].shape[1]:
            raise InputError(
                f"series {number} has {values.shape[1]} variables, and series 0 has "
                f"{series[0].shape[1]}; forecast them in two calls"
            )
        gaps = np.flatnonzero(~np.isfinite(values).all(axis=1))
        if len(gaps):
            raise InputError(
                f"series {number} is not finite at {len(gaps)} of its steps, the first of which is "
                f"{gaps[0]}; cut them off at its start, and fill them elsewhere"
            )
    return series


def _array(values: Any) -> np.ndarray:
    """Return a tensor of any device, or an array, as NumPy's; what a mask hides becomes NaN."""
    if hasattr(values, "detach"):
        return values.detach().cpu().double().numpy()
    if isinstance(values, np.ma.MaskedArray):
        return np.ma.filled(values.astype(np.float64), np.nan)
    return np.asarray(values)
