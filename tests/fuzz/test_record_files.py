"""Records that were altered at random: each is refused in one line, or says what its texts say."""

import copy
import json
import math
import random
import shutil

import pytest

from m2lib import cli
from m2lib.files import ROOT, InputError
from m2lib.study.records import load_record

pytestmark = pytest.mark.fuzz
LAPTOP = ROOT / "report" / "results" / "laptop-smollm2-135m"
NAMES = ("baseline", "default", "final", "final-sampled", "search/expt_4", "search/second_0")
ODD = (
    None,
    True,
    -1,
    0,
    10**400,
    0.5,
    -0.0,
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
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))


def alter(stored, draw):
    """Replace, delete, add or swap something at a random place."""
    *parents, last = draw.choice([path for path in places(stored) if path])
    place = stored
    for key in parents:
        place = place[key]
    what = draw.choice(("replace", "replace", "delete", "add", "swap"))
    if what == "replace":
        place[last] = draw.choice(ODD)
    elif what == "delete":
        del place[last]
    elif what == "add" and isinstance(place, dict):
        place[draw.choice(("x", "", "0", "status"))] = draw.choice(ODD)
    else:
        place[last] = copy.deepcopy(stored.get(draw.choice(sorted(stored))))


def test_altered_records(data, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("M2_RESULTS", str(tmp_path))
    monkeypatch.setenv("M2_PROFILE", "laptop")
    shutil.copytree(LAPTOP, tmp_path / LAPTOP.name)
    outcomes = {"read": 0, "refused": 0}
    for seed in range(400):
        draw = random.Random(seed)
        name = draw.choice(NAMES)
        stored = json.loads((LAPTOP / f"{name}.json").read_text(encoding="utf-8"))
        for _ in range(draw.choice((1, 1, 3))):
            alter(stored, draw)
        path = tmp_path / LAPTOP.name / f"{name}.json"
        content = json.dumps(stored).encode()
        if draw.random() < 0.2:  # a file cut short, or with bytes turned round
            cut = draw.randrange(len(content))
            content = content[:cut] if draw.random() < 0.5 else content[:cut] + draw.randbytes(8) + content[cut + 8 :]
        path.write_bytes(content)
        try:
            record, refusal = load_record("laptop", name, data), f"{path} was read"
        except InputError as error:
            record, refusal = None, str(error)
        assert str(path) in refusal, seed
        assert "\n" not in refusal, seed
        assert not record or (record.name, record.profile) == (name, "laptop"), seed
        outcomes["read" if record else "refused"] += 1
        if seed % 20 == 0:
            for command in ("status", "budget"):
                assert cli.main([command]) in (0, 1), seed
            assert capsys.readouterr().err.count("\n") <= 1, seed
        shutil.copy(LAPTOP / f"{name}.json", path)
    print(outcomes)
    assert outcomes["refused"] > 200
