"""The house as a whole: its front doors, its settings, its fields, and the book's map of it."""

import ast
import importlib
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib.metadata import PackageNotFoundError, metadata
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import study.settings
from m2lib import __version__, settings
from m2lib.errors import InputError
from m2lib.files import ROOT
from study.profiles import PROFILES

WINGS = ("series", "accounting", "model", "decoding", "training")
DOORS = (
    "m2lib",
    *(f"m2lib.{wing}" for wing in WINGS),
    "m2tables",
    "study",
    "study.paper",
    "study.paper.drawings",
)


def modules_under(folder):
    """Return the paths of a package's modules, without its front doors."""
    return sorted(path for path in folder.rglob("*.py") if path.name != "__init__.py")


LIBRARY = modules_under(ROOT / "m2lib") + modules_under(ROOT / "m2tables")
STUDY = modules_under(ROOT / "study")
ALL_SETTINGS = settings.SETTINGS | study.settings.SETTINGS


def read(path):
    return path.read_text(encoding="utf-8")


def python(code, **options):
    """Run code in a new process of Python, and return what it prints."""
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, capture_output=True, encoding="utf-8", check=True, **options
    ).stdout


@pytest.mark.parametrize("door", DOORS)
def test_a_front_door_hands_on_what_it_names(door):
    folder = ROOT / door.replace(".", "/")
    package = importlib.import_module(door)
    # Once it is imported, a module must not hide a function of its own name.
    for path in sorted(folder.glob("[a-z]*.py")):
        importlib.import_module(f"{door}.{path.stem}")

    # The doors of m2lib and m2tables are lazy, and their names stand in __init__.pyi.
    source = max(folder.glob("__init__.py*"))
    names = set()
    for node in ast.parse(read(source)).body:
        if isinstance(node, ast.ImportFrom):
            names |= {alias.name for alias in node.names}
    names -= set(WINGS)  # which are modules

    assert len(names) >= 3
    assert [name for name in names if isinstance(getattr(package, name), ModuleType)] == []
    if door.startswith("m2"):
        # Of a typed package, a user's strict type checker takes what it does not list for private.
        assert set(package.__all__) - set(WINGS) == names


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Build a wheel, without a network, and return the folder where it is unpacked."""
    pytest.importorskip("hatchling", reason="builds the package, as pyproject.toml asks")
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel"]
    subprocess.run([*build, "--directory", folder], cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as content:
        content.extractall(folder / "lib")
    return folder / "lib"


def test_a_source_distribution_holds_what_makes_the_wheel_and_nothing_else(tmp_path):
    pytest.importorskip("hatchling", reason="builds the package, as pyproject.toml asks")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "sdist"]
    subprocess.run([*build, "--directory", tmp_path], cwd=ROOT, check=True, capture_output=True)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as content:
        held = {name.split("/")[1] for name in content.getnames()}
    beside = {".gitignore", "LICENSE", "LICENSES", "PKG-INFO", "README.md", "pyproject.toml"}
    assert held == {"m2lib", "m2tables", *beside}


def test_a_wheel_holds_the_two_packages_and_nothing_else(installed):
    (metadata,) = installed.glob("m2lib-*.dist-info")
    assert {path.name for path in installed.iterdir()} == {"m2lib", "m2tables", metadata.name}


def test_the_version_is_the_same_wherever_it_is_written():
    project = tomllib.loads(read(ROOT / "pyproject.toml"))["project"]
    (cited,) = re.findall(r"^version: (\S+)$", read(ROOT / "CITATION.cff"), re.MULTILINE)
    assert project["version"] == cited == __version__


def test_what_is_pinned_is_for_the_oldest_python_that_is_allowed():
    project = tomllib.loads(read(ROOT / "pyproject.toml"))["project"]
    oldest = project["requires-python"].removeprefix(">=")
    python = {"python_version": oldest, "python_full_version": f"{oldest}.0"}
    compared, unfit = [], []
    for line in read(ROOT / "constraints.txt").splitlines():
        if line.startswith("#"):
            continue
        pin = Requirement(line)
        if pin.marker and not pin.marker.evaluate(python):
            continue
        try:
            package = metadata(pin.name)
        except PackageNotFoundError:
            continue
        # Where another version is installed, nothing is known of the one that is pinned.
        if pin.specifier.contains(package["Version"]):
            compared.append(pin.name)
            if not SpecifierSet(package["Requires-Python"] or "").contains(oldest):
                unfit.append(pin.name)
    assert compared
    assert unfit == []


def test_the_changelog_has_the_version_unless_nothing_has_been_released():
    changelog = " ".join(read(ROOT / "CHANGELOG.md").split())
    nothing_yet = "Nothing has been released yet" in changelog
    assert (f"## [{__version__}] - " in changelog) != nothing_yet


def test_a_wheel_forecasts_without_network_and_checkout(installed, tmp_path):
    code = """
from m2lib.files import IN_CHECKOUT
from m2tables import Forecaster
from m2tables.language import GENERAL
_, median = Forecaster.from_pretrained().predict_quantiles(range(1, 21), 1, [0.5])
print(IN_CHECKOUT, tuple(median.shape), (GENERAL / "adapter_config.json").is_file(), sep="\\n")
"""
    elsewhere = os.environ | {"PYTHONPATH": str(installed), "HF_HUB_OFFLINE": "1"}
    assert python(code, cwd=tmp_path, env=elsewhere).splitlines() == ["False", "(1, 1)", "True"]


@pytest.fixture(scope="module")
def waited_for():
    """Import m2lib in a process of its own, and then use what needs no torch.

    Returns which of the libraries that take their time are loaded after each of the two.
    """
    code = """
import sys
SLOW = {"numpy", "scipy", "pandas", "matplotlib", "torch", "transformers"}
import m2lib
print(*sorted(SLOW & set(sys.modules)))
m2lib.encode, m2lib.load_series, m2lib.Shape, m2lib.forward_flops, m2lib.series, m2lib.accounting
print(*sorted(SLOW & set(sys.modules)))
"""
    after_import, after_use = python(code).splitlines()
    return after_import.split(), after_use.split()


def test_import_waits_for_nothing(waited_for):
    after_import, _ = waited_for
    assert after_import == []


def test_numbers_and_text_do_not_wait_for_torch(waited_for):
    _, after_use = waited_for
    assert "numpy" in after_use
    assert not {"torch", "transformers"} & set(after_use)


def test_variables_are_read_in_one_place():
    for path in LIBRARY + STUDY:
        if path.stem != "settings":
            read_here = re.findall(r"\b(?:environ\b[^\n]*?|getenv\()\s*[\"'](\w+)", read(path))
            assert [name for name in read_here if name.startswith("M2_")] == [], path


@pytest.mark.parametrize(
    ("modules", "known"),
    [
        pytest.param(LIBRARY, settings.SETTINGS, id="m2lib"),
        pytest.param(STUDY, ALL_SETTINGS, id="study"),
    ],
)
def test_a_variable_that_is_named_is_a_setting(modules, known):
    named = re.findall(r"\bM2_\w+", "".join(map(read, modules)))
    assert set(named) <= set(known)


@pytest.mark.parametrize("name", ALL_SETTINGS)
def test_an_empty_variable_is_not_set(name, monkeypatch):
    monkeypatch.setenv(name, "")
    assert settings.read(name, ALL_SETTINGS) is None


@pytest.mark.parametrize(
    "name", [name for name, setting in ALL_SETTINGS.items() if setting.pattern]
)
def test_a_nonsensical_value_is_refused_by_name(name, monkeypatch):
    monkeypatch.setenv(name, "huge\n")
    with pytest.raises(InputError) as error:
        settings.read(name, ALL_SETTINGS)
    assert str(error.value) == f"{name} is 'huge\\n'; it may be {ALL_SETTINGS[name].may_be}"


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("M2_OUT", study.settings.out_dir),
        ("M2_CACHE", settings.cache_dir),
        ("M2_RESULTS", study.settings.results_dir),
    ],
)
def test_a_folder_is_where_its_variable_says(name, folder, monkeypatch, tmp_path):
    monkeypatch.setenv(name, str(tmp_path / "new"))
    assert folder() == (tmp_path / "new").resolve()


def test_the_settings_name_every_profile():
    assert study.settings.SETTINGS["M2_PROFILE"].pattern.split("|") == list(PROFILES)


def public_dataclasses(path):
    """Return the public dataclasses of a module, as syntax."""
    classes = []
    for node in ast.walk(ast.parse(read(path))):
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            decorators = [ast.unparse(decorator) for decorator in node.decorator_list]
            if any("dataclass" in decorator for decorator in decorators):
                classes.append(node)
    return classes


def undescribed_fields(dataclass):
    """Return the fields of a dataclass, as syntax, below which no string stands."""
    fields = []
    for statement, below in zip(dataclass.body, [*dataclass.body[1:], None], strict=True):
        described = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
        if isinstance(statement, ast.AnnAssign) and not described:
            fields.append(statement.target.id)
    return fields


# Fields whose names say enough.
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
    undescribed = []
    for path in LIBRARY + STUDY:
        for dataclass in public_dataclasses(path):
            for field in undescribed_fields(dataclass):
                if field not in PLAIN:
                    undescribed.append(f"{path.stem}.{dataclass.name}.{field}")
    assert undescribed == []


@pytest.fixture(scope="module")
def map_of_the_house():
    return read(ROOT / "book" / "house.md")


def test_the_books_map_shows_every_wing(map_of_the_house):
    assert set(re.findall(r"^\| \d \| `(\w+)/`", map_of_the_house, re.M)) == set(WINGS)


@pytest.mark.parametrize("wing", WINGS)
def test_the_order_of_reading_has_every_module_and_needs_no_later_one(wing, map_of_the_house):
    (row,) = re.findall(rf"^\| `{wing}/` \| (.*) \|$", map_of_the_house, re.M)
    modules = re.findall(r"`(\w+)`", row)
    folder = ROOT / "m2lib" / wing
    assert sorted(modules) == [path.stem for path in modules_under(folder)]
    for place, module in enumerate(modules):
        needed = re.findall(rf"from m2lib\.{wing}\.(\w+) import", read(folder / f"{module}.py"))
        assert set(needed) <= set(modules[:place]), module


@pytest.mark.parametrize("wing", WINGS)
def test_a_wing_imports_from_the_others_through_their_doors(wing):
    others = "|".join(other for other in WINGS if other != wing)
    for path in modules_under(ROOT / "m2lib" / wing):
        past_a_door = re.findall(rf"from m2lib\.(?:{others})\.\w+ import .*", read(path))
        assert past_a_door == [], path.name


def test_the_lists_that_contributors_are_sent_to_exist():
    sent_to = re.findall(r"`(_?[A-Z][A-Z_]+)`", read(ROOT / "CONTRIBUTING.md"))
    folders = ("m2lib", "m2tables", "study", "benchmarks", "book", "tests")
    source = "\n".join(read(path) for folder in folders for path in modules_under(ROOT / folder))
    assert len(sent_to) > 15
    for name in sent_to:
        assert re.search(rf"^{name}\b.* = ", source, re.M), name


def test_the_modules_where_to_start_reading_exist(map_of_the_house):
    modules = re.findall(r"`(\w+/\w+\.py)`", map_of_the_house)
    assert modules
    for module in modules:
        in_the_library = (ROOT / "m2lib" / module).is_file()
        assert in_the_library or (ROOT / module).is_file(), module
