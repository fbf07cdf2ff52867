"""The gallery draws what is recorded."""

import numpy as np
import pytest

from book import gallery
from m2lib.series import VARIABLES, split_ids
from study import PROFILES
from study.paper import finished_records


@pytest.fixture(scope="module", params=gallery.SHOWN)
def split(request):
    return request.param


@pytest.fixture(scope="module")
def records(split):
    """Return the records that a gallery shows, by what they are called there."""
    runs = gallery.SHOWN[split]
    by_name = finished_records(PROFILES["laptop"], *runs.values())
    return {title: by_name[name] for title, name in runs.items()}


@pytest.fixture(scope="module")
def series(split):
    """Return one of the series of a gallery."""
    return getattr(split_ids(), split)[7]


@pytest.fixture(scope="module")
def row(series, records):
    return gallery.row_of(series, records)


def test_each_run_of_a_gallery_has_all_series_of_its_split(split, records):
    for record in records.values():
        assert sorted(record.series) == list(getattr(split_ids(), split))


def test_the_error_of_a_forecast_is_that_of_its_curves(row, records):
    for title in records:
        errors = []
        for variable in VARIABLES:
            forecast = np.array(row[f"{title} {variable}"])
            truth = np.array(row[variable][80:])
            errors.append(forecast - truth)
        assert row[title] == round(float(np.abs(errors).mean()), 1)


def test_a_row_has_the_texts_of_the_records(row, records, series):
    for record in records.values():
        entry = record.series[series]
        text = entry["text"] if "text" in entry else entry["texts"][0]  # the first of the samples
        assert text in row["words"]


def test_a_forecast_lies_in_its_band_which_is_wide_only_for_samples(row, records):
    for title in records:
        for variable in VARIABLES:
            forecast = np.array(row[f"{title} {variable}"])
            # The outline goes along the lower end, and back along the upper one.
            low, high_backwards = np.split(np.array(row[f"{title} {variable} band"]), 2)
            high = high_backwards[::-1]
            assert np.all(low - 1 < forecast)  # ends and forecast are rounded
            assert np.all(forecast < high + 1)
            assert np.any(low < high) == ("×48" in title)
