"""The PDF is made of the records as they stand, and shows the figures that the notebooks show."""

import json
import re
import shutil

import pytest

from m2lib.errors import InputError
from m2lib.files import ROOT
from study.paper import pdf

SOURCE = (pdf.REPORT_FOLDER / "main.typ").read_text(encoding="utf-8")


def test_the_figures_of_the_pdf_are_those_that_are_drawn_for_it():
    assert set(re.findall(r'"(\w+)\.svg"', SOURCE)) == set(pdf.IN_PAPER) <= set(pdf.FIGURES)


def test_every_figure_that_is_drawn_is_shown():
    readers = [pdf.REPORT_FOLDER / "main.typ", ROOT / "README.md"]
    readers += [*(ROOT / "book").glob("*.md"), *(ROOT / "notebooks").glob("*.ipynb")]
    read = "\n".join(path.read_text(encoding="utf-8") for path in readers)
    for name in pdf.FIGURES:
        assert re.search(rf'\b{name}(\.svg|\\"\))', read), name  # or show(\"NAME\") in a notebook


def test_the_folder_of_figures_holds_those_that_are_drawn():
    files = {path.stem for path in (pdf.REPORT_FOLDER / "figures").glob("*.svg")}
    assert files == set(pdf.IN_PAPER), "run `make figures`, and delete what is no longer drawn"


def test_a_figure_of_the_report_is_drawn_from_the_replications_records():
    assert pdf.draw("fig4_baseline_forecasts").get_suptitle() == "qwen2.5-coder-0.5b"


@pytest.mark.parametrize(
    ("name", "profile"),
    [
        ("fig4_baseline_forecasts", "report"),
        ("fig5_baseline_errors", "laptop"),
        ("fig6_forecasts", "report"),
        ("fig7_reduced_validation", "report"),
        ("context_lengths", "report"),
        ("fig9_final", "report"),
        ("fig8_search", "fifth"),
        ("final_forecasts", "laptop"),
    ],
)
def test_a_figure_is_drawn_from_the_records_that_its_caption_is_about(name, profile, monkeypatch):
    monkeypatch.setitem(pdf.FIGURES, name, lambda shown: shown.name)
    assert pdf.draw(name) == profile


def floats_in(path):
    """Return all floats of a JSON file."""
    floats = []

    def keep(digits):
        floats.append(float(digits))

    json.loads(path.read_text(encoding="utf-8"), parse_float=keep)
    return floats


def test_typst_rounds_as_python_does(tmp_path):
    typst = pytest.importorskip("typst")
    printed = floats_in(pdf.REPORT_FOLDER / "numbers.json")
    values = [value for value in printed if abs(value) < 1e5]
    values += [3.05, 3.15, 0.05, 0.845 * 100]  # a little above or below half of the last digit
    values += [3.25, 0.125, 0.375, 2.5, 3.5, -2.5]  # exactly half of it
    values += [9.996, 0.0, -0.1499]  # up to one digit more, zero, and up to it
    (tmp_path / "values.json").write_text(json.dumps(values), encoding="utf-8")
    fix = re.search(r"(?s)#let fix\(.*?\n}\n", SOURCE)[0]
    to_3_digits = "range(4).map(digits => fix(x, digits: digits))"
    ask = f'#metadata(yaml("values.json").map(x => {to_3_digits})) <rounded>'
    (tmp_path / "ask.typ").write_text(fix + ask, encoding="utf-8")

    answer = typst.query(str(tmp_path / "ask.typ"), "<rounded>", field="value", one=True)

    for value, rounded in zip(values, json.loads(answer), strict=True):
        for digits, text in enumerate(rounded):
            expected = re.sub(r"^-(0(\.0*)?)$", r"\1", f"{value:.{digits}f}")  # -0.0 is 0.0
            assert text.replace("−", "-") == expected, value


def test_the_pdf_is_what_its_sources_give_in_a_folder_of_its_own(
    tmp_path, monkeypatch, printed_numbers
):
    monkeypatch.setattr(pdf, "numbers", lambda profile: printed_numbers)
    monkeypatch.setattr(pdf, "IN_PAPER", ())  # the committed ones are copied instead
    shutil.copytree(pdf.REPORT_FOLDER / "figures", tmp_path / "figures")

    made = pdf.make_pdf(tmp_path)

    committed = pdf.REPORT_FOLDER / "main.pdf"
    assert made.read_bytes() == committed.read_bytes(), "run `make figures`"


def test_what_typst_does_not_find_is_an_error_of_one_line(tmp_path, monkeypatch, printed_numbers):
    monkeypatch.setattr(pdf, "numbers", lambda profile: printed_numbers)
    monkeypatch.setattr(pdf, "IN_PAPER", ())
    with pytest.raises(InputError, match=r"main\.typ: .*figures"):
        pdf.make_pdf(tmp_path)


def test_without_all_records_nothing_is_made(tmp_path, monkeypatch):
    monkeypatch.setenv("M2_RESULTS", str(tmp_path))

    message = r"no record .*baseline\.json; `M2_PROFILE=laptop python -m study run baseline`"
    with pytest.raises(InputError, match=message):
        pdf.make_pdf(tmp_path / "report")
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize(("profile", "backbone"), [("report", "smollm2-135m"), ("laptop", "tiny")])
def test_of_a_study_that_the_text_is_not_about_nothing_is_made(
    profile, backbone, tmp_path, monkeypatch
):
    monkeypatch.setenv("M2_PROFILE", profile)
    monkeypatch.setenv("M2_BACKBONE", backbone)

    message = f"about the laptop's study, not {profile}'s on {backbone}; unset M2_PROFILE"
    with pytest.raises(InputError, match=message):
        pdf.make_pdf(tmp_path / "report")
    assert not (tmp_path / "report").exists()
