"""Records that were altered at random: each is refused in one line, or says what its texts say."""

import copy
import json
import math
import random

import pytest

from m2lib.files import ROOT, InputError
from study import load_record

pytestmark = pytest.mark.fuzz
LAPTOP = ROOT / "report" / "results" / "laptop-smollm2-135m"
NAMES = ("baseline", "default", "final", "final-sampled", "samples/best/test", "trial/tail")
ODD = (
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
    "\ud800",
    "../../evil",
    [],
    {},
    [[]],
)


def places(value, path=()):
    """The path of every value in a nested one."""
    yield path
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, item in items:
        yield from places(item, (*path, key))


def alter(stored, draw):
    """Replace, delete or swap something at a random place."""
    *parents, last = draw.choice([path for path in places(stored) if path])
    place = stored
    for key in parents:
        place = place[key]
    what = draw.choice(("replace", "delete", "swap"))
    if what == "delete":
        del place[last]
    else:
        place[last] = (
            draw.choice(ODD)
            if what == "replace"
            else copy.deepcopy(stored.get(draw.choice(sorted(stored))))
        )


def test_altered_records(data, tmp_path, monkeypatch):
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
            refusals.append(str(error))
    assert len(refusals) > 150
    assert all(str(tmp_path) in refusal and "\n" not in refusal for refusal in refusals)
