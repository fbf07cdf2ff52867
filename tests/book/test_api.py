"""The book's pages of the API: one for each package, with all its names."""

import importlib
import re

import pytest

from book import api


@pytest.fixture(params=api.PACKAGES)
def package(request):
    return request.param


@pytest.fixture
def page(package):
    return api.page(package)


def documented_on(page):
    directive = r"^\.\. (?:autofunction|autoclass|py:data):: (?:[\w.]+\.)?(\w+)$"
    return re.findall(directive, page, re.M)


def test_a_package_has_a_page_with_all_its_names(package, page):
    names = [name for names in api.handed_on(package).values() for name in names]
    assert documented_on(page) == names


def test_a_page_says_what_the_package_is(package, page):
    assert importlib.import_module(package).__doc__ in page


def test_every_constant_is_described(package):
    door = importlib.import_module(package)
    for module, names in api.handed_on(package).items():
        source = (api.folder_of(package) / f"{module}.py").read_text(encoding="utf-8")
        for name in names:
            assert callable(getattr(door, name)) or api.remark(source, name), name


def test_no_docstring_of_a_module_has_a_heading(package):
    """It would be a heading of the page, and so of the book."""
    for module in api.handed_on(package):
        docstring = importlib.import_module(f"{package}.{module}").__doc__ or ""
        assert not re.search(r"^-{3,}$", docstring, re.M), module


@pytest.mark.parametrize(
    ("name", "remark"),
    [
        pytest.param("A", "The first", id="a comment behind it"),
        pytest.param("B", "The second.", id="a string below it"),
        pytest.param("C", "", id="one of two"),
        pytest.param("D", "", id="the other of two"),
        pytest.param("E", "", id="the last"),
    ],
)
def test_what_is_said_of_a_constant_is_found(name, remark):
    source = 'A = 1  # the first\nB = {\n    "a": 1,\n}\n"""The second."""\nC, D = 1, 2\nE = 3\n'
    assert api.remark(source, name) == remark
