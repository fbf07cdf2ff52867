"""The PDF is made of the records as they stand, and shows the figures that the notebooks show."""

import io
import json
import re
import shutil

import matplotlib.pyplot as plt
import numpy as np
import pytest

from m2lib.files import ROOT, InputError
from m2lib.series import BASELINES
from study import SEARCH, STATISTICAL, TUNED
from study.paper import errors, numbers, pdf
from study.worlds import WORLDS


@pytest.fixture(scope="module")
def written():
    return json.loads((pdf.REPORT_FOLDER / "numbers.json").read_text(encoding="utf-8"))


def text():
    return (pdf.REPORT_FOLDER / "main.typ").read_text(encoding="utf-8")


def test_every_figure_of_the_pdf_is_one_that_a_notebook_shows():
    named = re.findall(r'"(\w+)\.svg"', text())
    cells = "".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "notebooks").glob("*.ipynb")
    )
    shown = re.findall(r'\bshow\(\\"(\w+)\\"\)|save_figure\(fig, \\"(\w+)\\"\)', cells)
    assert len(named) > 8
    assert set(named) <= set(pdf.FIGURES)
    # Lecture 2 draws the model that runs there, and lecture 7 shows the best of nine otherwise. The
    # lectures that go beyond the report leave out models that a reader has not met yet.
    in_the_paper_alone = {"fig1_architecture", "fig8_second", "yardstick_costs", "changed_worlds"}
    in_the_paper_alone |= {"more_per_flop", "fan_charts", "reliability", "trust"}
    assert set(named) - in_the_paper_alone <= {name for pair in shown for name in pair}


def test_a_figure_or_table_comes_after_the_text_that_calls_it():
    source = text()
    # A figure is then on the page where it stands in the source, or later.
    assert "#set figure(placement: auto)" in source
    labels = re.findall(r"(?m)^\) <([\w-]+)>$", source)
    assert len(labels) > 25
    for label in labels:
        assert 0 < source.find(f"@{label}") < source.find(f"<{label}>"), label


def test_no_page_but_the_last_is_half_empty():
    typst = pytest.importorskip("typst")
    pages = typst.compile(
        str(pdf.REPORT_FOLDER / "main.typ"), root=str(pdf.REPORT_FOLDER), format="png", ppi=20
    )
    assert len(pages) > 10
    for number, page in enumerate(pages[:-1], start=1):
        rows = plt.imread(io.BytesIO(page), format="png")[..., :3].min(axis=(1, 2)) < 0.9
        inked = np.flatnonzero(rows[: int(0.95 * len(rows))])  # without the page's number
        gaps = np.diff([*inked, int(0.93 * len(rows))])
        assert gaps.max() < len(rows) / 4, f"page {number}"


def test_no_semicolon_of_a_sentence_ends_an_expression():
    said = re.sub(r"(?m)^\s*//.*$|//.*$|`[^`]*`", "", text())
    assert ";" not in said.replace("\\;", "")  # after an expression Typst swallows it


def test_typst_rounds_as_python_does(tmp_path, written):
    typst = pytest.importorskip("typst")
    values = [
        value for _, value in leaves(written) if isinstance(value, float) and abs(value) < 1e5
    ]
    values += [3.05, 3.15, 3.25, 0.125, 0.375, 2.5, 3.5, 0.845 * 100]
    values += [0.05, 9.996, 0.0, -0.1499, -2.5]
    fix = re.search(r"(?s)#let fix\(.*?\n}\n", text())[0]
    (tmp_path / "values.json").write_text(json.dumps(values), encoding="utf-8")
    fixed = "range(4).map(digits => fix(x, digits: digits))"
    ask = f'#metadata(yaml("values.json").map(x => {fixed})) <rounded>'
    (tmp_path / "ask.typ").write_text(fix + ask, encoding="utf-8")
    answer = typst.query(str(tmp_path / "ask.typ"), "<rounded>", field="value", one=True)
    for value, texts in zip(values, json.loads(answer), strict=True):
        for digits, shown in enumerate(texts):
            expected = re.sub(r"^-(0(\.0*)?)$", r"\1", f"{value:.{digits}f}")  # -0.0 is 0.0
            assert shown.replace("−", "-") == expected, value


def leaves(value, path=""):
    """(path, number or text) of everything in a nested value."""
    if not isinstance(value, dict | list):
        yield path, value
        return
    for name, item in value.items() if isinstance(value, dict) else enumerate(value):
        yield from leaves(item, f"{path}/{name}")


def test_the_numbers_are_those_of_the_records(written):
    computed = json.dumps(numbers.numbers(errors.shown_profile()), allow_nan=False)
    now = dict(leaves(json.loads(computed)))
    then = dict(leaves(written))
    assert then.keys() == now.keys(), "run `make figures`"
    for path, value in now.items():
        # The last bits of fits and means depend on the processor.
        same = pytest.approx(value, rel=1e-9) if isinstance(value, float) else value
        assert then[path] == same, f"{path}: run `make figures`"


def test_the_pdf_is_what_its_sources_give_in_a_folder_of_its_own(tmp_path, monkeypatch, written):
    monkeypatch.setattr(pdf, "numbers", lambda profile: written)
    monkeypatch.setattr(pdf, "FIGURES", {})
    with pytest.raises(InputError, match=r"main\.typ: .*figures"):
        pdf.make_pdf(tmp_path)
    shutil.copytree(pdf.REPORT_FOLDER / "figures", tmp_path / "figures")
    made = pdf.make_pdf(tmp_path)
    committed = pdf.REPORT_FOLDER / "main.pdf"
    assert made.read_bytes() == committed.read_bytes(), "run `make figures`"


def test_without_all_records_nothing_is_made(tmp_path, monkeypatch):
    monkeypatch.setenv("M2_RESULTS", str(tmp_path))
    with pytest.raises(
        InputError,
        match=r"no record .*baseline\.json; `M2_PROFILE=laptop python -m study run baseline`",
    ):
        pdf.make_pdf(tmp_path / "report")
    monkeypatch.setenv("M2_PROFILE", "report")
    with pytest.raises(InputError, match="about the laptop's study, not report's"):
        pdf.make_pdf(tmp_path / "report")
    assert not (tmp_path / "report").exists()


def test_what_the_pdf_and_the_readme_say_in_words_is_so(written):
    ours, test, validation = (written["errors"][who] for who in ("ours", "test", "validation"))
    final = ours["final"]
    theirs = written["errors"]["published"]["final"]
    simple = [test[name] for name in BASELINES]
    assert all(final["mean"] < other["mean"] for other in (*simple, theirs))
    gains = written["gains"]["ours final"]
    assert [name for name in gains if gains[name]["mean interval"][0] <= 0] == [f"test {TUNED}"]
    others = (*simple[:3], ours["final-sampled"], final, theirs)
    assert simple[3]["median"] < min(errors["median"] for errors in others)
    assert abs(simple[2]["mean"] - theirs["mean"]) < 1  # "as good as the report's final model"
    assert min(STATISTICAL, key=lambda name: validation[name]["mean"]) == "AutoARIMA"
    copy = "nearest analogue in the context"
    general = "the language model, for any table"
    changed = [world for world in WORLDS if world != "as trained" and "size" not in world]
    assert len(changed) == 7
    plain = (copy, TUNED, "mean of the context, repeated", "the last period, repeated")
    for of, ahead in (("mean", 6), ("median", 3)):  # "in six of the eight worlds"
        worlds = [written["errors"][world] for world in ("as trained", *changed)]
        best = [min(world[name][of] for name in plain) for world in worlds]
        below = [world[general][of] < least for world, least in zip(worlds, best, strict=True)]
        assert sum(below) == ahead
    # Rates down, ranks across.
    losses = [written["replicated"]["fifth"][name]["loss"] for name in SEARCH]
    losses = np.reshape(losses, (3, 3))
    assert (np.diff(losses, axis=0) < 0).all()
    assert (np.diff(losses, axis=1) < 0).all()
    charged = sum(one["all flops"] for one in written["records"].values() if one["group"])
    for row in written["removed"]:
        if row["group"]:
            charged += sum(kind["coursework"] for kind in row["flops"].values())
    assert charged / written["table3"]["coursework"]["all"][0] == pytest.approx(1 / 50, rel=0.1)
    for name in ("rank", "linear", "linear-simulated", "low", "pairs", "cooldown"):
        for of in ("mean", "median"):
            assert ours["trial/tail"][of] < ours[f"trial/{name}"][of]
    # The first adapter trained on two threads in part, and the others on one. The searches have
    # forecast on two since, in float32.
    assert "2 threads" in written["replicated"]["report"]["default"]["device"]
    for name, record in written["replicated"]["fifth"].items():
        trained_on = record["device"].split("; ")[: 1 if name == "default" else -1]
        assert all("1 threads" in device for device in trained_on), name
