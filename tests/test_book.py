"""The book's pages hang together, need no network, and become a website without a warning."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import study.cli
from m2lib import settings
from m2lib.accounting import Shape
from m2lib.files import ROOT
from m2lib.model import BACKBONES, backbone_config
from m2tables import cli
from pages import rows_of, text_of
from study import PROFILES

BOOK = ROOT / "book"
PAGES = sorted(BOOK.rglob("*.md"))
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def read(name):
    return text_of(f"book/{name}")


def first_cells(page):
    return {row[0] for row in rows_of(page)}


@pytest.mark.parametrize(
    "path", [*BOOK.glob("*.py"), *BOOK.glob("_static/*")], ids=lambda path: path.name
)
def test_nothing_comes_from_another_machine(path):
    assert not re.search(r"https?:|//[\w.]+\.\w+/", path.read_text(encoding="utf-8"))


def test_no_script_for_widgets_comes_from_another_machine():
    assert "nb_ipywidgets_js = {}" in read("conf.py")


@pytest.mark.parametrize("path", [*sorted(ROOT.glob("*.md")), *PAGES], ids=lambda path: path.name)
def test_links_lead_to_files(path):
    for link in re.findall(r"\]\(([^):#]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
        assert (path.parent / link).exists(), link


def anchors_of(path):
    """Return what links call the headings of a page: `Without make` is `without-make`."""
    without_code = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.S)
    anchors = set()
    for heading in re.findall(r"^#+ (.+)$", without_code, re.M):
        without_links = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        words = re.sub(r"[^\w\- ]", "", without_links.lower())
        anchors.add(words.replace(" ", "-"))
    return anchors


@pytest.mark.parametrize("path", [*sorted(ROOT.glob("*.md")), *PAGES], ids=lambda path: path.name)
def test_links_lead_to_headings(path):
    text = path.read_text(encoding="utf-8")
    for link, anchor in re.findall(r"\]\(([^):#]*)#([^)]+)\)", text):
        page = path.parent / link if link else path
        if page.suffix == ".md":
            assert anchor in anchors_of(page), f"{link}#{anchor}"


def commands_in(path):
    """Yield the words of each `m2` and `python -m study` in a page's examples."""
    text = path.read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S)
    for line in "\n".join(blocks).replace("\\\n", " ").splitlines():
        line = line.removeprefix(".venv/bin/")
        if re.match(r"(M2_\S+ )*(m2|python -m study) ", line):
            without_redirection = re.split(r" \| | 2?>", line)[0]
            words = shlex.split(without_redirection, comments=True)
            yield [word for word in words if not word.startswith("M2_")]


@pytest.mark.parametrize(
    "name",
    [
        "README.md",
        "book/tables.md",
        "book/capstone.md",
        "book/reference.md",
    ],
)
def test_commands_are_understood(name):
    commands = list(commands_in(ROOT / name))
    assert commands
    for words in commands:
        if words[0] == "m2":
            app = cli.app
            arguments = words[1:]
        else:  # python -m study
            app = study.cli.app
            arguments = words[3:]
        app.parse_args(arguments, exit_on_error=False, print_error=False)


@pytest.fixture(scope="module")
def glossary_terms():
    """Return the terms of the glossary: the lines below which an indented text stands."""
    glossary = re.search(r"```\{glossary\}\n(.*?)```", read("glossary.md"), re.S)[1]
    return re.findall(r"^(\w.*)\n    \w", glossary, re.M)


def test_the_glossary_is_sorted(glossary_terms):
    assert len(glossary_terms) > 40
    assert glossary_terms == sorted(glossary_terms, key=str.casefold)


def test_every_term_of_the_glossary_is_used(glossary_terms):
    texts = [(ROOT / "README.md").read_text(encoding="utf-8")]
    for path in ROOT.glob("m2lib/*/*.py"):
        texts.append(path.read_text(encoding="utf-8"))
    for path in NOTEBOOKS:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        texts += ["".join(cell["source"]) for cell in cells]

    used = " ".join(" ".join(texts).split()).casefold()
    assert [term for term in glossary_terms if term.casefold() not in used] == []


@pytest.mark.parametrize("name", settings.SETTINGS | study.settings.SETTINGS)
def test_every_setting_is_described(name):
    setting = (settings.SETTINGS | study.settings.SETTINGS)[name]
    row = [f"`{name}`", setting.about, setting.may_be, setting.default]
    assert row in rows_of(read("reference.md"))


def test_every_profile_is_described():
    assert {f"`{name}`" for name in PROFILES} <= first_cells(read("reference.md"))


def test_every_model_is_described():
    assert {f"`{name}`" for name in BACKBONES} <= first_cells(read("reference.md"))


def test_the_reference_says_what_bfloat16_does_to_the_rotary_embedding():
    import torch
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    from m2lib.model import load_backbone

    tiny = load_backbone("tiny", device="cpu", dtype="bfloat16").model
    assert tiny.model.rotary_emb.inv_freq.dtype == torch.bfloat16

    speeds = LlamaRotaryEmbedding(backbone_config("smollm2-135m")).inv_freq  # radians a token
    off = (speeds.bfloat16().float() - speeds).abs()
    page = " ".join(read("reference.md").split())
    assert f"the speeds change by up to {(off / speeds).max():.2%}" in page
    assert "between two tokens that are 600 positions apart" in page
    assert f"an angle may be wrong by up to {600 * off.max():.1f} radians" in page


def test_symbols_stand_for_what_the_library_has():
    source = "".join(path.read_text(encoding="utf-8") for path in ROOT.glob("m2lib/*/*.py"))
    for _, _, in_the_library, *_ in rows_of(read("symbols.md")):
        for name in re.findall(r"`([\w.]+)`", in_the_library):
            last_part = name.split(".")[-1]  # of Shape.width, for example
            assert re.search(rf"\b{last_part}\b *[:=(]", source), name


def test_symbols_have_the_sizes_of_the_two_models():
    small = Shape.of(backbone_config("smollm2-135m"))
    qwen = Shape.of(backbone_config("qwen2.5-0.5b"))
    compared = []
    for _, _, in_the_library, *sizes in rows_of(read("symbols.md")):
        attribute = re.search(r"`Shape\.(\w+)`", in_the_library)
        if attribute and sizes:  # a table without the two models has no cells for their sizes
            expected = [str(getattr(shape, attribute[1])) for shape in (small, qwen)]
            assert sizes == expected
            compared.append(attribute[1])
    assert len(compared) > 5


def test_the_readmes_table_has_a_row_for_each_lecture():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    lectures = re.findall(r"^\| \[[^\]]+\]\(notebooks/(\w+)\.ipynb\)", readme, re.M)
    assert lectures == [path.stem for path in NOTEBOOKS]


def test_the_front_pages_say_how_many_lectures_there_are():
    number = {14: "fourteen", 15: "fifteen", 16: "sixteen"}[len(NOTEBOOKS)]
    assert f"a course of {number} lectures" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"## {number.capitalize()} lectures\n" in read("index.md")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Return the folder of the website, which is yet to be made."""
    return tmp_path_factory.mktemp("website") / "report"


@pytest.fixture(scope="module")
def making(site):
    """Make the website, and return the process that has done it."""
    if os.name == "nt" or not shutil.which("make"):
        pytest.skip("make and a Unix shell are not installed")
    # The path is relative, because that of the checkout may hold spaces.
    bin = os.path.relpath(Path(sys.executable).parent, ROOT)
    variables = [f"BIN={bin}", f"PAGES={site.parent / 'pages'}", f"REPORT={site}"]
    # `-o`: the environment counts as made, because these tests may run in another one.
    command = ["make", "-o", ".venv/.ok", "site", *variables]
    return subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8")


def test_the_website_is_made_without_a_warning(making):
    assert making.returncode == 0, making.stdout + making.stderr


@pytest.mark.usefixtures("making")
def test_the_website_has_all_pages(site):
    pages = {path.relative_to(site).as_posix() for path in site.rglob("*.html")}
    assert {"index.html", "gallery.html", "house.html", "api/series.html"} <= pages
    assert {f"notebooks/{path.stem}.html" for path in NOTEBOOKS} <= pages


@pytest.mark.usefixtures("making")
def test_the_first_page_of_the_website_has_a_card_for_each_lecture(site):
    first_page = (site / "index.html").read_text(encoding="utf-8")
    pictures = list((site / "_static" / "cards").glob("*.png"))
    assert first_page.count("_static/cards/") == len(NOTEBOOKS)
    assert len(pictures) == len(NOTEBOOKS)


@pytest.mark.usefixtures("making")
def test_the_gallery_of_the_website_is_no_larger_than_three_megabytes(site):
    assert (site / "gallery.html").stat().st_size < 3e6
