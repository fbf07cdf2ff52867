"""What several tests of the paper read: the numbers that the PDF prints, and recorded samples."""

import pytest

from m2lib.files import read_json
from study import load_record
from study.paper import pdf


@pytest.fixture(scope="session")
def printed_numbers():
    """Return report/numbers.json, the numbers that the committed PDF prints."""
    return read_json(pdf.REPORT_FOLDER / "numbers.json")


@pytest.fixture(scope="session")
def sampled_record():
    """Return a record of samples of the 50 test series, which therefore has a CRPS for each."""
    return load_record("laptop", "final-sampled")
