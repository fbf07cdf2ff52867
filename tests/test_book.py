"""The book's pages hang together, need no network, and become a website without a warning."""

import fnmatch
import html
import importlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import study.cli
from book import api, cards, gallery
from m2lib import accounting, cli, settings
from m2lib.accounting import Shape, total
from m2lib.files import ROOT
from m2lib.model import BACKBONES, backbone_config
from m2lib.series import VARIABLES, split_ids
from study import (
    PROFILES,
    REPLICATION,
    SEARCH,
    SECOND,
    published_statements,
    trained_with,
)
from study.paper import finished_records
from study.paper.errors import LENGTHS

BOOK = ROOT / "book"
PAGES = sorted(BOOK.rglob("*.md"))


def read(name):
    return (BOOK / name).read_text(encoding="utf-8")


def rows(page):
    """The rows of a page's tables, as lists of cells."""
    lines = [line for line in page.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line[1:-1].split("|")] for line in lines]


def test_nothing_comes_from_another_machine():
    for path in [*BOOK.glob("*.py"), *BOOK.glob("_static/*")]:
        assert not re.search(r"https?:|//[\w.]+\.\w+/", path.read_text(encoding="utf-8")), path
    assert "nb_ipywidgets_js = {}" in read("conf.py")


def test_every_page_is_in_the_table_of_contents():
    listed = re.findall(r"^```\{toctree\}\n(.*?)^```", read("index.md"), re.M | re.S)
    patterns = [line for block in listed for line in block.split() if not line.startswith(":")]
    assert {"notebooks/*", "api/*"} <= set(patterns)
    for path in PAGES:
        name = path.relative_to(BOOK).with_suffix("").as_posix()
        assert name == "index" or any(fnmatch.fnmatch(name, pattern) for pattern in patterns), name


@pytest.mark.parametrize("path", [*sorted(ROOT.glob("*.md")), *PAGES], ids=lambda path: path.name)
def test_links_lead_to_files(path):
    for link in re.findall(r"\]\(([^):#]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
        assert (path.parent / link).exists(), link


@pytest.mark.parametrize(
    "name",
    [
        "README.md",
        "book/tables.md",
        "book/capstone.md",
        "book/clusters.md",
        "tests/slurm/single_node.sh",
    ],
)
def test_commands_are_understood(name):
    page = (ROOT / name).read_text(encoding="utf-8")
    blocks = [page] if name.endswith(".sh") else re.findall(r"^```sh\n(.*?)^```", page, re.M | re.S)
    understood = 0
    for block in blocks:
        for line in block.replace("\\\n", " ").splitlines():
            line = line.removeprefix(".venv/bin/")
            line = re.sub(r'^"\$bin/(\w+)"', r"\1", line)  # as the script calls them
            if not re.match(r"(M2_\S+ )*(m2|python -m study) ", line):
                continue
            words = shlex.split(re.split(r" \| | 2?>", line)[0], comments=True)
            words = [word for word in words if not word.startswith("M2_")]
            app, start = (cli.app, 1) if words[0] == "m2" else (study.cli.app, 3)
            app.parse_args(words[start:], exit_on_error=False, print_error=False)
            understood += 1
    assert understood


def test_the_map_has_each_lecture():
    lectures = cards.lectures_of(read("before.md"))
    notebooks = sorted(ROOT.glob("notebooks/*.ipynb"))
    assert [lecture.name for lecture in lectures] == [path.stem for path in notebooks]
    for lecture, path in zip(lectures, notebooks, strict=True):
        title = json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"][0]
        assert title.startswith(f"# {lecture.title}"), title
        assert lecture.question.endswith("?")
    assert sum(lecture.short for lecture in lectures) == 6


def test_a_card_has_a_picture_of_its_lecture():
    lectures = cards.lectures_of(read("before.md"))
    assert list(cards.PICTURES) == [lecture.name for lecture in lectures]
    for lecture in lectures:
        path = ROOT / "notebooks" / f"{lecture.name}.ipynb"
        notebook = json.loads(path.read_text(encoding="utf-8"))
        png, alt = cards.picture(notebook, cards.PICTURES[lecture.name])
        assert png.startswith(b"\x89PNG")
        shown = cards.card(lecture, alt)
        assert html.escape(alt) in shown
        assert f"{lecture.minutes} minutes" in shown
        assert ("short path" in shown) == lecture.short


def test_a_card_whose_picture_is_gone_says_which_figures_there_are():
    figure = {"data": {"image/png": "iVBORw0KGgo="}}
    cell = {"outputs": [figure], "metadata": {"mystnb": {"image": {"alt": "A new one."}}}}
    with pytest.raises(SystemExit, match="begins with 'An old one', only:\nA new one"):
        cards.picture({"cells": [cell]}, "An old one")


def test_the_gallery_draws_what_is_recorded():
    for split, runs in gallery.SHOWN.items():
        ids = getattr(split_ids(), split)
        records = finished_records(PROFILES["laptop"], *runs.values())
        assert all(sorted(record.series) == list(ids) for record in records.values())
        row = gallery.row_of(ids[7], {title: records[name] for title, name in runs.items()})
        for title, name in runs.items():
            errors = [
                np.subtract(row[f"{title} {variable}"], row[variable][80:])
                for variable in VARIABLES
            ]
            assert row[title] == round(float(np.abs(errors).mean()), 1)
            entry = records[name].series[ids[7]]
            assert entry.get("text", entry.get("texts", [""])[0]) in row["words"]
            for variable in VARIABLES:
                low, high = np.split(np.array(row[f"{title} {variable} band"]), 2)  # there and back
                forecast = np.array(row[f"{title} {variable}"])
                assert np.all((low - 1 < forecast) & (forecast < high[::-1] + 1))
                assert np.any(low < high[::-1]) == ("×48" in title)


def test_the_glossary_is_sorted_and_its_words_are_used():
    page = read("glossary.md")
    glossary = re.search(r"```\{glossary\}\n(.*?)```", page, re.S)[1]
    terms = re.findall(r"^(\w.*)\n    \w", glossary, re.M)
    assert len(terms) > 40
    assert terms == sorted(terms, key=str.casefold)
    references = re.findall(r"\{term\}`(?:[^`<]*<)?([^`>]+)>?`", " ".join(page.split()))
    assert references
    assert set(references) <= set(terms)
    texts = []
    for path in ROOT.glob("notebooks/*.ipynb"):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        texts += ["".join(cell["source"]) for cell in cells]
    for path in (*ROOT.glob("m2lib/*/*.py"), ROOT / "README.md"):
        texts.append(path.read_text(encoding="utf-8"))
    words = " ".join(" ".join(texts).split()).casefold()
    assert [term for term in terms if term.casefold() not in words] == []


def test_every_setting_profile_and_model_is_described():
    table = rows(read("settings.md"))
    for name, setting in (settings.SETTINGS | study.settings.SETTINGS).items():
        assert [f"`{name}`", setting.about, setting.may_be, setting.default] in table
    assert {f"`{name}`" for name in PROFILES} <= {row[0] for row in table}
    assert {f"`{name}`" for name in BACKBONES} <= {row[0] for row in rows(read("models.md"))}


def test_the_case_file_names_the_runs_as_they_were_run():
    report, replica = PROFILES["report"], REPLICATION["fifth"]
    table = [row for row in rows(read("case_file.md")) if row[0].startswith("`")]
    names = [row[0].strip("`") for row in table]
    assert {*SEARCH, *SECOND, *(f"context/{length}" for length in LENGTHS)} <= set(names)
    records = finished_records(replica, *names)
    for name, (_, what_for, tokens, whole, shorter, series, hours) in zip(
        names, table, strict=True
    ):
        record, start = records[name], records[name].plan.start
        assert series == str(len(record.series))
        assert hours == f"{record.seconds / 3600:.2f}"
        assert tokens == str(record.protocol.context_tokens)
        if start:
            assert what_for == f"the adapter of `{start}`"
            assert whole == shorter == "–"
        else:
            trained = record.training
            rate = f"{trained.learning_rate:.5f}".rstrip("0")
            assert what_for == f"rate {rate}, rank {trained.rank}"
            assert tokens == str(trained.sequence_length)
            assert whole == str(trained_with(name, report).steps)
            assert shorter == str(trained.steps) == str(len(record.loss_curve))


def test_symbols_stand_for_what_the_library_has():
    shapes = [Shape.of(backbone_config(name)) for name in ("smollm2-135m", "qwen2.5-0.5b")]
    source = "".join(path.read_text(encoding="utf-8") for path in ROOT.glob("m2lib/*/*.py"))
    for _, _, named, *sizes in rows(read("symbols.md")):
        for name in re.findall(r"`([\w.]+)`", named):
            assert re.search(rf"\b{name.split('.')[-1]}\b *[:=(]", source), name
        if "".join(sizes).isdigit():
            attribute = re.search(r"`Shape\.(\w+)`", named)[1]
            assert sizes == [str(getattr(shape, attribute)) for shape in shapes]


def test_the_reports_accountant_is_priced_as_it_counts():
    qwen = Shape.of(backbone_config("qwen2.5-0.5b"))
    page = read("accountant.md")
    table = rows(page)
    extra = accounting.departure_costs(qwen, 512, rank=2)
    for number, words in accounting.DEPARTURES.items():
        if number < 5:
            per = "a forward pass"
        elif number == 5:
            per = "a training step"
        else:
            per = "a forecast"
        assert [str(number), words, f"{extra[number]:+.3g}", per] in table
    assert f"{sum(extra[number] for number in (1, 2, 3, 4)):,} FLOPs" in page
    counted = {"convention": "published"}
    printed = published_statements()
    one = total(accounting.forward_flops(qwen, 512, **counted))
    whole = total(accounting.forecast_flops(qwen, 512, 220, **counted))
    passes = whole / one
    token = total(accounting.cached_step_flops(qwen, 512, **counted))
    assert int(passes) == printed["passes per forecast"]
    found = {
        "passes per forecast": ("g", f"{passes:.1f}"),
        "FLOPs per generated token": (".2g", f"{whole / int(passes):.3g}"),
        "speed-up of decoding by a KV cache": ("g", f"{220 * one / whole:.2f}"),
    }
    for named, (form, ours) in found.items():
        assert [named, f"{printed[named]:{form}}", ours] in table
    assert f"{whole / int(passes):.2g}" == f"{printed['FLOPs per generated token']:.2g}"
    assert f"a forecast's price, {whole:.3g}" in page
    assert f"a cached step costs {token:.3g}" in page
    again = sum(total(accounting.forward_flops(qwen, 512 + new, rank=2)) for new in range(220))
    saved = again / total(accounting.forecast_flops(qwen, 512, 220, rank=2))
    assert f"a factor of {saved:.0f} in" in " ".join(page.split())
    for kind, expected in (("published", [4, 6]), ("coursework", [6, 12])):
        forward = total(accounting.forward_flops(qwen, 512, rank=2, convention=kind))
        of_batches = [
            total(accounting.train_step_flops(qwen, 512, rank=2, batch=n, convention=kind))
            for n in (2, 4)
        ]
        assert [round(flops / forward) for flops in of_batches] == expected


def test_the_accountant_gives_its_terms_and_conventions_as_it_counts():
    table = rows(read("accountant.md"))
    qwen, toy, small = (
        Shape.of(backbone_config(name)) for name in ("qwen2.5-0.5b", "tiny", "smollm2-135m")
    )
    forward = accounting.forward_flops(qwen, 512, rank=4)
    terms = {row[0]: row[2:] for row in table if len(row) == 4 and row[3].endswith("%")}
    whole = total(forward)
    assert terms == {
        part: [f"{flops:,}", f"{flops / whole:.2%}"]
        for part, flops in (forward | {"all": whole}).items()
    }

    adapted = {"rank": 2, "convention": "executed"}
    everything = {"rank": 0, "convention": "executed"}
    work = {
        "forward": accounting.forward_flops(toy, 10, **adapted),
        "prefill": accounting.forecast_flops(toy, 10, 1, **adapted),
        "cached step": accounting.cached_step_flops(toy, 11, **adapted),
        "training step, adapters": accounting.train_step_flops(toy, 10, batch=1, **adapted),
        "training step, all weights": accounting.train_step_flops(toy, 10, batch=1, **everything),
        "SmolLM2-135M, two texts of 96 tokens": accounting.forward_flops(small, 96, **everything),
    }
    for name, cost in work.items():
        flops = f"{2 * total(cost):,}"
        assert [name, flops, flops] in table

    for convention in accounting.CONVENTIONS:
        kind = {"rank": 4, "convention": convention}
        one = total(accounting.forward_flops(qwen, 512, **kind))
        step = total(accounting.train_step_flops(qwen, 512, batch=2, **kind))
        assert [convention, f"{one:.4g}", f"{step:.4g}", f"{step / one:.2f}"] in table
        kind = {"rank": 2, "convention": convention}
        cached = total(accounting.forecast_flops(qwen, 512, 220, **kind))
        grows = convention != "published"  # the report keeps the length of the prompt
        again = sum(
            total(accounting.forward_flops(qwen, 512 + grows * new, **kind)) for new in range(220)
        )
        assert [convention, f"{again:.3g}", f"{cached:.3g}", f"{again / cached:.3g}"] in table


@pytest.mark.parametrize("package", api.PACKAGES)
def test_the_api_has_a_page_for_each_package_with_all_its_names_once(package):
    page = api.page(package)
    door = sys.modules[package]
    directive = r"^\.\. (?:autofunction|autoclass|py:data):: (?:[\w.]+\.)?(\w+)$"
    documented = re.findall(directive, page, re.M)
    assert documented == [name for names in api.handed_on(package).values() for name in names]
    assert door.__doc__ in page
    # Sphinx would warn of what is described twice, and a warning ends `make site`.
    modules = re.findall(r"^\.\. automodule:: (\S+)$(?!\n   :no-index:)", page, re.M)
    members = [f"{package}.{name}" for name in documented]
    assert len(modules + members) == len({*modules, *members})
    # A heading in a module's docstring would be one of the page, and so of the book.
    for module in api.handed_on(package):
        docstring = importlib.import_module(f"{package}.{module}").__doc__ or ""
        assert not re.search(r"^-{3,}$", docstring, re.M), module


def test_what_is_said_of_a_constant_is_found():
    source = 'A = 1  # the first\nB = {\n    "a": 1,\n}\n"""The second."""\nC, D = 1, 2\nE = 3\n'
    assert [api.remark(source, name) for name in "ABCDE"] == [
        "The first",
        "The second.",
        "",
        "",
        "",
    ]


@pytest.fixture(scope="module")
def browser():
    """The path of a browser; without one, or without playwright, nothing is looked at."""
    pytest.importorskip("playwright", reason="`make browse` installs it")
    from book.browse import find_browser

    return find_browser() or pytest.skip("no Chromium is installed")


BAD = """<!DOCTYPE html><html><body style="margin: 0">
<script src="https://cdn.example.org/mathjax.js"></script><script>undefinedFunction()</script>
<p>$$x^2$$</p><p><code>$$fine$$</code></p>
<img src="missing.png" alt="A curve that rises."><img src="_images/seen.svg">
<a href="nowhere.html">one</a> <a href="#nothing">two</a>
<a href="#here">three</a> <a href="https://example.org">four</a>
<div id="here" style="width: 600px">wide</div>
<pre style="width: 300px; overflow: auto">short</pre>
<details><pre style="width: 300px; overflow: auto">x = 1
a_line_of_more_than_three_hundred_pixels = "which nobody can read to its end"</pre></details>
<label>step <input type="range" max="3"><img src="_images/seen.svg" alt="A square."></label>
</body></html>"""


def test_the_browser_sees_each_kind_of_fault(browser, tmp_path):
    from book.browse import FAULTS, browse

    (tmp_path / "index.html").write_text(BAD, encoding="utf-8")
    (tmp_path / "_images").mkdir()
    (tmp_path / "_images" / "seen.svg").write_text(
        '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>', encoding="utf-8"
    )
    report = browse(tmp_path, browser)
    assert not report.good
    assert report.faults.keys() == FAULTS.keys()
    assert all(report.faults.values())
    assert (report.pages, report.images, report.links) == (1, 3, 3)
    counts = {"left": 1, "raw": 1, "links": 2, "silent": 1, "wide": 1}
    assert {kind: len(report.faults[kind]) for kind in counts} == counts
    assert "1 formulas left as TeX" in "\n".join(report.lines())
    (clipped,) = report.faults["clipped"]  # that which is folded, and no shorter block
    assert clipped.startswith("index.html: 77 columns: a_line_of_more_than")


@pytest.mark.skipif(not shutil.which("make"), reason="make is not on this machine")
def test_the_website_is_made_without_a_warning(tmp_path):
    site = tmp_path / "report"
    # The path is relative, because that of the checkout may hold spaces.
    bin = os.path.relpath(Path(sys.executable).parent, ROOT)
    variables = [f"BIN={bin}", f"PAGES={tmp_path / 'pages'}", f"REPORT={site}"]
    # `-o`: the environment counts as made, because these tests may run in another one.
    make = ["make", "-o", ".venv/.ok", "site", *variables]
    done = subprocess.run(make, cwd=ROOT, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stdout + done.stderr
    pages = {path.relative_to(site).as_posix() for path in site.rglob("*.html")}
    assert {"index.html", "gallery.html", "house.html", "api/series.html"} <= pages
    assert (site / "index.html").read_text(encoding="utf-8").count("_static/cards/") == 14
    assert len(list((site / "_static" / "cards").glob("*.png"))) == 14
    assert (site / "gallery.html").stat().st_size < 3e6
    assert {f"notebooks/{path.stem}.html" for path in (ROOT / "notebooks").glob("*.ipynb")} <= pages
