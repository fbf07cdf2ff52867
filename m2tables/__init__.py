"""Forecasts of any table, with the names of chronos and pandas.

    import pandas as pd
    from m2tables import Forecaster

    table = pd.read_csv("sales.csv")  # item_id, timestamp, target
    ahead = Forecaster.from_pretrained().predict_df(table, prediction_length=14)

Its names are loaded when first used, so that `m2 --help` does not wait for torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
