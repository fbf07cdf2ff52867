"""Records that were altered at random: each is refused in one line, or says what its texts say."""

import copy
import json
import math
import random

import pytest

from m2lib.errors import InputError
from m2lib.files import ROOT
from study.records import load_record

pytestmark = pytest.mark.fuzz
LAPTOP = ROOT / "report" / "results" / "laptop-smollm2-135m"
# Untuned and trained, greedy and sampled, of the report and beyond it.
NAMES = ("baseline", "default", "final", "final-sampled", "samples/best/test", "trial/tail")
ODD_VALUES = (
    None,
    True,
    -1,
    0,
    10**400,
    0.5,
    math.nan,
    math.inf,
    "",
    "x" * 10_000,
    "\ud800",  # half a character, which UTF-8 cannot write
    "../../evil",
    [],
    {},
    [[]],
)


def paths_in(value, path=()):
    """Yield the path of every value in a nested one: `("series", "94", "mae")`."""
    yield path
    items = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, item in items:
        yield from paths_in(item, (*path, key))


def alter(stored, draw):
    """Replace or delete what is at a random path, or put another field of the record there."""
    paths = [path for path in paths_in(stored) if path]
    *parents, last = draw.choice(paths)
    place = stored
    for key in parents:
        place = place[key]

    change = draw.choice(("replace", "delete", "swap"))
    if change == "delete":
        del place[last]
    elif change == "replace":
        place[last] = draw.choice(ODD_VALUES)
    else:
        field = draw.choice(sorted(stored))
        place[last] = copy.deepcopy(stored.get(field))


def test_altered_records_are_refused_in_one_line_or_say_what_their_texts_say(
    data, tmp_path, monkeypatch
):
    monkeypatch.setenv("M2_RESULTS", str(tmp_path))
    refusals = []
    for seed in range(400):
        draw = random.Random(seed)
        name = draw.choice(NAMES)
        stored = json.loads((LAPTOP / f"{name}.json").read_text(encoding="utf-8"))
        for _ in range(draw.choice((1, 1, 3))):
            alter(stored, draw)
        path = tmp_path / LAPTOP.name / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(stored), encoding="utf-8")
        try:
            assert load_record("laptop", name, data).name == name
        except InputError as error:
            # The message as it was written, because str(error) shows a line break as \n.
            refusals.append(error.args[0])

    assert len(refusals) > 150
    for refusal in refusals:
        assert str(tmp_path) in refusal
        assert "\n" not in refusal
