"""The lectures' cards on the book's first page, and the map that they are made from."""

import html
import json

import pytest

from book import cards
from m2lib.files import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def read_notebook(path):
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def lectures():
    """Return the lectures in the map."""
    return cards.lectures_of((ROOT / "book" / "before.md").read_text(encoding="utf-8"))


def test_the_map_has_each_lecture(lectures):
    assert [lecture.name for lecture in lectures] == [path.stem for path in NOTEBOOKS]


def test_the_map_has_the_titles_of_the_lectures(lectures):
    for lecture, path in zip(lectures, NOTEBOOKS, strict=True):
        first_line = read_notebook(path)["cells"][0]["source"][0]
        assert first_line.startswith(f"# {lecture.title}"), first_line


def test_a_lecture_asks_a_question(lectures):
    for lecture in lectures:
        assert lecture.question.endswith("?")


def test_the_short_path_has_six_lectures(lectures):
    assert sum(lecture.short for lecture in lectures) == 6


def test_each_lecture_has_a_picture_for_its_card(lectures):
    assert list(cards.PICTURES) == [lecture.name for lecture in lectures]


def test_a_card_has_a_picture_of_its_lecture(lectures):
    for lecture, path in zip(lectures, NOTEBOOKS, strict=True):
        png, alt = cards.picture(read_notebook(path), cards.PICTURES[lecture.name])
        card = cards.card(lecture, alt)

        assert png.startswith(b"\x89PNG")
        assert html.escape(alt) in card
        assert f"{lecture.minutes} minutes" in card
        assert ("short path" in card) == lecture.short


def test_a_card_whose_picture_is_gone_says_which_figures_there_are():
    figure = {"data": {"image/png": "iVBORw0KGgo="}}
    cell = {"outputs": [figure], "metadata": {"mystnb": {"image": {"alt": "A new one."}}}}

    with pytest.raises(SystemExit, match="begins with 'An old one', only:\nA new one"):
        cards.picture({"cells": [cell]}, "An old one")
