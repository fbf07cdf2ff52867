"""Sphinx makes the book by these settings.

`make site` puts the pages beside the executed notebooks and the PDF, in build/book/.
"""

import importlib.util
from pathlib import Path

from docutils import nodes

HERE = Path(__file__).parent
# MathJax from a package of PyPI, so that formulas need no network. This one file draws with SVG and
# needs no fonts, which some browsers refuse to load where a page is opened from a folder.
PACKAGE = Path(importlib.util.find_spec("sphinx-mathjax-offline").origin).parent
MATHJAX = PACKAGE / "static" / "mathjax" / "tex-svg.js"

project = "A language model learns to forecast predator and prey"
html_title = "Predator and prey"
author = "The m2lib authors"
project_copyright = "MIT licence"
extensions = [
    "myst_nb",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
]

# Notebooks: run by the Makefile, at the active profile, and never by Sphinx.
nb_execution_mode = "off"
# The scripts of widgets would come from the network; each slider has a picture beside it instead.
nb_ipywidgets_js = {}
nb_merge_streams = True
nb_code_prompt_show = "Show the code"
nb_code_prompt_hide = "Hide the code"
myst_enable_extensions = ["dollarmath", "amsmath", "substitution"]
myst_heading_anchors = 3
suppress_warnings = ["myst.header"]  # a `#### Your turn` may stand right below a `##`
if (HERE / "pdf" / "main.pdf").is_file():
    myst_substitutions = {"paper": "[as a PDF](pdf/main.pdf)"}
else:  # at the profile `report`, which makes none
    myst_substitutions = {"paper": "(its PDF is made by `make figures`)"}

# The API: `api.py` writes a page for each wing, and numpydoc reads the docstrings, which name the
# types.
autodoc_typehints = "none"
autodoc_member_order = "bysource"
toc_object_entries_show_parents = "hide"
# What stands in single backticks is a name, and a link where there is something to link to.
default_role = "py:obj"
numpydoc_show_class_members = False  # autodoc lists them

html_theme = "sphinx_book_theme"
html_static_path = ["_static", str(MATHJAX)]
html_css_files = ["book.css"]
html_show_search_summary = False  # a page that is opened from a folder may not read the other pages
html_context = {"default_mode": "auto"}  # light or dark, as the reader's system is
mathjax_path = MATHJAX.name
html_theme_options = {
    "home_page_in_toc": True,
    "show_toc_level": 2,
    "use_fullscreen_button": False,
    "navbar_persistent": [],  # the search stands in the sidebar
}


def setup(app):
    app.connect("source-read", find_pages)
    app.connect("doctree-read", name_solutions)


def find_pages(app, docname, source):
    """Mend the links between lectures and pages of the book, because the site has no folder book/.

    In the repository a page is at book/page.md, and in the site beside the folder of lectures.
    """
    if docname.startswith("notebooks/"):
        source[0] = source[0].replace("](../book/", "](../")
    else:
        source[0] = source[0].replace("](../", "](")


def name_solutions(app, doctree):
    """Name the cells that are folded as a whole: solutions of exercises, and workings elsewhere."""

    def is_folded(node):
        return getattr(node, "attributes", {}).get("hide_mode") == "all"

    def is_solution(node):
        while node.parent:
            node = node.parent
            if isinstance(node, nodes.section) and node[0].astext().startswith("Exercises"):
                return True
        return False

    for cell in doctree.findall(is_folded):
        what = "solution" if is_solution(cell) else "working"
        cell["prompt_show"] = f"Show the {what}"
        cell["prompt_hide"] = f"Hide the {what}"
