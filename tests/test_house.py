"""The house as a whole: its front doors, its settings, its fields, and the book's map of it."""

import ast
import importlib
import os
import re
import subprocess
import sys
import zipfile
from types import ModuleType

import pytest

import study.settings
from m2lib import settings
from m2lib.files import ROOT, InputError
from study.profiles import PROFILES

PACKAGE = ROOT / "m2lib"
WINGS = ("series", "accounting", "model", "decoding", "training", "forecaster")
DOORS = (
    "m2lib",
    *(f"m2lib.{wing}" for wing in WINGS),
    "study",
    "study.paper",
    "study.paper.drawings",
)
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")
ALL_SETTINGS = settings.SETTINGS | study.settings.SETTINGS
STUDY = sorted(path for path in (ROOT / "study").rglob("*.py") if path.name != "__init__.py")


def python(code):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True
    ).stdout


@pytest.mark.parametrize("door", DOORS)
def test_a_front_door_hands_on_what_it_names(door):
    package = importlib.import_module(door)
    for module in sorted(path.stem for path in (ROOT / door.replace(".", "/")).glob("[a-z]*.py")):
        importlib.import_module(f"{door}.{module}")  # a module must not hide a function of its name
    named = ast.parse(
        max((ROOT / door.replace(".", "/")).glob("__init__.py*")).read_text(encoding="utf-8")
    )
    names = {
        one.name for node in named.body if isinstance(node, ast.ImportFrom) for one in node.names
    } - set(WINGS)
    assert len(names) >= 3
    assert not [name for name in names if isinstance(getattr(package, name), ModuleType)]


def test_a_wheel_holds_the_library_and_its_adapter_and_nothing_else(tmp_path):
    """What a wheel holds, built elsewhere and used there, without a network and without the
    checkout."""
    pytest.importorskip("hatchling", reason="builds the package, as pyproject.toml asks")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory"]
    subprocess.run([*build, tmp_path], cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as content:
        top = {name.split("/")[0] for name in content.namelist()}
        content.extractall(tmp_path / "lib")
    assert top == {"m2lib", "m2lib-0.1.0.dist-info"}
    code = """
from m2lib.files import IN_CHECKOUT
from m2lib.forecaster import Forecaster
forecaster = Forecaster.from_pretrained()
_, median = forecaster.predict_quantiles([range(1, 21)], 1, [0.5], num_samples=1)
print(IN_CHECKOUT, tuple(median.shape), forecaster.adapter, sep="\\n")
"""
    elsewhere = os.environ | {"PYTHONPATH": str(tmp_path / "lib"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=elsewhere, capture_output=True, check=True
    )
    adapter = tmp_path / "lib" / "m2lib" / "forecaster" / "general"
    assert done.stdout.decode().splitlines() == ["False", "(1, 1)", str(adapter)]


def test_import_takes_no_time_and_numbers_and_text_do_not_wait_for_torch():
    timed = (
        "import sys, time; start = time.perf_counter(); import m2lib; "
        "print(time.perf_counter() - start)"
    )
    used = (
        "m2lib.encode, m2lib.load_series, m2lib.Shape, m2lib.forward_flops, "
        "m2lib.series, m2lib.accounting"
    )
    found = [python(f"{timed}; {used}; print('torch' in sys.modules)").split() for _ in range(3)]
    assert min(float(seconds) for seconds, _ in found) < 0.05
    assert {torch for _, torch in found} == {"False"}


def test_variables_are_read_in_one_place():
    for path in MODULES + STUDY:
        code = path.read_text(encoding="utf-8")
        read = set(re.findall(r"\b(?:environ\b[^\n]*?|getenv\()\s*[\"'](\w+)", code))
        assert path.stem == "settings" or not any(name.startswith("M2_") for name in read), path
    for modules, known in ((MODULES, settings.SETTINGS), (STUDY, ALL_SETTINGS)):
        code = "".join(path.read_text(encoding="utf-8") for path in modules)
        assert set(re.findall(r"\bM2_[A-Z]+\b", code)) <= set(known)


def test_an_empty_variable_is_not_set(monkeypatch):
    for name in ALL_SETTINGS:
        monkeypatch.setenv(name, "")
        assert settings.read(name, ALL_SETTINGS) is None


def test_a_nonsensical_value_is_refused_by_name(monkeypatch):
    for name, setting in ALL_SETTINGS.items():
        if setting.pattern:
            monkeypatch.setenv(name, "huge\n")
            with pytest.raises(InputError) as error:
                settings.read(name, ALL_SETTINGS)
            assert str(error.value) == f"{name} is 'huge\\n'; it may be {setting.may_be}"


def test_a_folder_is_where_its_variable_says(monkeypatch, tmp_path):
    folders = {
        "M2_OUT": settings.out_dir,
        "M2_CACHE": settings.cache_dir,
        "M2_RESULTS": study.settings.results_dir,
    }
    for name, folder in folders.items():
        monkeypatch.setenv(name, str(tmp_path / "new"))
        assert folder() == (tmp_path / "new").resolve()


def test_the_settings_name_every_profile():
    assert study.settings.SETTINGS["M2_PROFILE"].pattern.split("|") == list(PROFILES)


def fields():
    """(class, field, what stands below it) of every dataclass of the wings that a user
    configures."""
    for path in MODULES + STUDY:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and any(
                "dataclass" in ast.unparse(d) for d in node.decorator_list
            ):
                for statement, below in zip(node.body, [*node.body[1:], None], strict=True):
                    if isinstance(statement, ast.AnnAssign) and not node.name.startswith("_"):
                        yield f"{path.stem}.{node.name}", statement.target.id, below


PLAIN = {
    "name",
    "profile",
    "data",
    "backbone",
    "experiment",
    "commit",
    "device",
    "versions",
    "schema",
}


def test_every_field_says_what_it_is():
    bare = [
        f"{where}.{field}"
        for where, field, below in fields()
        if not (isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant))
        and field not in PLAIN
    ]
    assert bare == []


def test_the_books_map_shows_every_wing():
    house = (ROOT / "book" / "house.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| \d \| `(\w+)/`", house, re.M)) == set(WINGS)
    for module in re.findall(r"`(\w+/\w+\.py)`", house):  # where to start reading
        assert (PACKAGE / module).is_file() or (ROOT / module).is_file(), module
