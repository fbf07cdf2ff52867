"""The house as a whole: its front doors, its settings, its fields, and the book's map of it."""

import ast
import importlib
import os
import re
import subprocess
import sys
from contextlib import suppress
from types import ModuleType

import pytest

import m2lib
from m2lib import settings
from m2lib.files import ROOT, InputError
from m2lib.study.profiles import PROFILES

PACKAGE = ROOT / "m2lib"
WINGS = ("series", "accounting", "model", "forecasting", "training", "study", "forecaster", "paper")
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")


def python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True).stdout


@pytest.mark.parametrize("door", ["m2lib", *(f"m2lib.{wing}" for wing in WINGS)])
def test_a_front_door_hands_on_what_it_names(door):
    package = importlib.import_module(door)
    for module in sorted(path.stem for path in (ROOT / door.replace(".", "/")).glob("[a-z]*.py")):
        importlib.import_module(f"{door}.{module}")  # a module must not hide a function of its name
    assert len(package.__all__) >= 3
    assert not [name for name in package.__all__ if isinstance(getattr(package, name), ModuleType)]


def test_front_doors_do_not_wait_for_torch():
    doors = ", ".join(("m2lib", *(f"m2lib.{wing}" for wing in WINGS)))
    used = "m2lib.encode, m2lib.load_series, m2lib.Shape, m2lib.forward_flops, m2lib.DecodeConfig"
    assert python(f"import sys, {doors}; {used}; print('torch' in sys.modules)") == "False\n"


def test_importing_m2lib_takes_no_time():
    code = "import time; start = time.perf_counter(); import m2lib; print(time.perf_counter() - start)"
    assert min(float(python(code)) for _ in range(3)) < 0.05


def test_what_a_user_needs_is_at_the_front():
    needed = {"load_series", "encode", "decode", "load_backbone", "inject_lora", "train", "forecast", "Shape"}
    assert needed | {"forward_flops"} <= set(m2lib.__all__)


def test_variables_are_read_in_one_place():
    for path in MODULES:
        read = set(re.findall(r"environ[^\n]*?[\"'](\w+)", path.read_text(encoding="utf-8")))
        assert path.stem == "settings" or not any(name.startswith("M2_") for name in read), path
    named = set(re.findall(r"\bM2_[A-Z]+\b", "".join(path.read_text(encoding="utf-8") for path in MODULES)))
    assert named == set(settings.SETTINGS)
    assert named <= set(re.findall(r"M2_[A-Z]+", settings.described()))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("M2_PROFILE", "huge"),
        ("M2_DEVICE", "cuda:first"),
        ("M2_DTYPE", "float16"),
        ("M2_RECOMPUTE", "maybe"),
        ("M2_PROFILE", "slice\n"),
        ("M2_DEVICE", "cpu\ncuda"),
        ("M2_DTYPE", "float32\udcff"),
    ],
)
def test_a_nonsensical_value_is_refused_by_name(name, value, monkeypatch):
    monkeypatch.setenv(name, value)
    with pytest.raises(InputError) as error:
        settings.read(name)
    assert str(error.value) == f"{name} is {value!r}; it may be {settings.SETTINGS[name].may_be}"


def test_a_refusal_is_one_short_line(monkeypatch):
    monkeypatch.setenv("M2_PROFILE", "slice\n" * 10_000)
    with pytest.raises(InputError, match=r"M2_PROFILE is .*; it may be slice, laptop, fifth or report") as error:
        settings.read("M2_PROFILE")
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300


@pytest.mark.skipif(os.name == "nt", reason="Windows looks for such paths, and finds nothing there")
@pytest.mark.parametrize("name", [name for name, setting in settings.SETTINGS.items() if not setting.pattern])
@pytest.mark.parametrize("value", ["~nosuchuser/x", "a" * 300, "a/" * 3000, "caf\udce9"], ids=range(4))
def test_a_path_that_leads_nowhere_is_refused_by_name(name, value, monkeypatch):
    monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=f"^{name} is .*, which leads nowhere"):
        settings.read(name)
    for place in (settings.out_dir, settings.cache_dir, settings.results_dir):
        with suppress(InputError):
            place()


def test_a_home_that_is_not_known_is_said(monkeypatch):
    monkeypatch.delenv("M2_CACHE", raising=False)
    for home in ("HOME", "USERPROFILE"):  # Windows reads the second
        monkeypatch.setenv(home, "caf\udce9")
    with pytest.raises(InputError, match=r"^M2_CACHE is '~/\.cache/m2lib', which leads nowhere"):
        settings.cache_dir()


@pytest.mark.parametrize(("words", "value"), [("0 no No FALSE off", "0"), ("1 yes YES true On", "1")])
def test_a_switch_understands_words(words, value, monkeypatch):
    for word in words.split():
        monkeypatch.setenv("M2_RECOMPUTE", word)
        assert settings.read("M2_RECOMPUTE") == value
    monkeypatch.setenv("M2_BACKBONE", "No")  # a folder's name may be such a word
    assert settings.read("M2_BACKBONE") == "No"


def test_a_folder_may_not_lie_in_a_file(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    folders = {"M2_OUT": settings.out_dir, "M2_CACHE": settings.cache_dir, "M2_RESULTS": settings.results_dir}
    for name, folder in folders.items():
        monkeypatch.setenv(name, str(tmp_path / "new"))
        assert folder() == (tmp_path / "new").resolve()
        for wrong in ("file", "file/below"):
            monkeypatch.setenv(name, str(tmp_path / wrong))
            with pytest.raises(InputError, match=f"{name} is .*, which is or lies in a file; it may be a folder"):
                folder()


def test_the_settings_name_every_profile():
    assert settings.SETTINGS["M2_PROFILE"].pattern.split("|") == list(PROFILES)


def fields():
    """(class, field, what stands below it) of every dataclass of the wings that a user configures."""
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and any("dataclass" in ast.unparse(d) for d in node.decorator_list):
                for statement, below in zip(node.body, [*node.body[1:], None], strict=True):
                    if isinstance(statement, ast.AnnAssign) and not node.name.startswith("_"):
                        yield f"{path.stem}.{node.name}", statement.target.id, below


PLAIN = {"name", "profile", "data", "backbone", "experiment", "commit", "device", "versions", "schema"}


def test_every_field_says_what_it_is():
    bare = [
        f"{where}.{field}"
        for where, field, below in fields()
        if not (isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)) and field not in PLAIN
    ]
    assert bare == []


def test_the_books_map_shows_every_module_and_no_other():
    house = (ROOT / "book" / "house.md").read_text(encoding="utf-8")
    tree = re.search(r"```\nm2lib/\n(.*?)```", house, re.S)[1]
    wing, shown = "", set()
    for line in tree.splitlines():
        if match := re.match(r"  (\w+)/ +\w", line):
            wing = match[1]
        elif match := re.match(r"  (  )?(\w+\.py) +\w", line):
            shown.add(f"{wing}/{match[2]}" if match[1] else match[2])
    assert shown == {path.relative_to(PACKAGE).as_posix() for path in MODULES}
