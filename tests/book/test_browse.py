"""`make browse` sees each kind of fault that a page of the book may have."""

import pytest


@pytest.fixture(scope="module")
def browser():
    """Return the path of a browser; without one, or without playwright, nothing is looked at."""
    pytest.importorskip("playwright", reason="`make browse` installs it")
    from book.browse import find_browser

    return find_browser() or pytest.skip("no Chromium is installed")


# A request that leaves the machine and an error on the console; a formula left as TeX, and one that
# is meant to be read so; a picture that is missing, and one without a text; two broken links; a
# block that is too wide for a telephone; code that is cut off once it is unfolded, and a line that
# fits; and a slider that shows no other picture.
BAD_PAGE = """<!DOCTYPE html><html><body style="margin: 0">
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
SQUARE = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'


@pytest.fixture(scope="module")
def report(browser, tmp_path_factory):
    """Return what is found on a site of one bad page."""
    from book.browse import browse

    site = tmp_path_factory.mktemp("site")
    (site / "index.html").write_text(BAD_PAGE, encoding="utf-8")
    (site / "_images").mkdir()
    (site / "_images" / "seen.svg").write_text(SQUARE, encoding="utf-8")
    return browse(site, browser)


def test_the_browser_sees_each_kind_of_fault(report):
    from book.browse import FAULTS

    assert not report.good
    assert report.faults.keys() == FAULTS.keys()
    assert all(report.faults.values())


def test_faults_are_counted(report):
    counts = {"left": 1, "raw": 1, "links": 2, "silent": 1, "wide": 1}
    assert {kind: len(report.faults[kind]) for kind in counts} == counts
    assert "1 formulas left as TeX" in "\n".join(report.lines())


def test_pages_images_and_links_inside_are_counted(report):
    assert report.pages == 1
    assert report.images == 3
    assert report.links == 3  # the fourth leads to another site


def test_code_that_is_cut_off_is_shown_by_its_longest_line_even_if_folded(report):
    (clipped,) = report.faults["clipped"]
    assert clipped.startswith("index.html: 77 columns: a_line_of_more_than")
