"""How Sphinx makes the book. `make site` puts these pages beside the executed notebooks and the
PDF, in build/book/."""

import importlib.util
from pathlib import Path

HERE = Path(__file__).parent
# MathJax from a package of PyPI, so that formulas need no network. This one file draws with SVG and
# needs no fonts, which some browsers refuse to load where a page is opened from a folder.
MATHJAX = (
    Path(importlib.util.find_spec("sphinx-mathjax-offline").origin).parent
    / "static"
    / "mathjax"
    / "tex-svg.js"
)

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
nb_ipywidgets_js = {}  # these scripts would come from the network; what has a slider has a picture beside it
nb_merge_streams = True
nb_code_prompt_show, nb_code_prompt_hide = "Show the code", "Hide the code"
myst_enable_extensions = ["dollarmath", "amsmath", "substitution"]
myst_heading_anchors = 3
PAPER = HERE / "pdf" / "main.pdf"  # is not made at the profile `report`
myst_substitutions = {
    "paper": "[as a PDF](pdf/main.pdf)"
    if PAPER.is_file()
    else "(its PDF is made by `make figures`)",
}

# The API: numpydoc reads the docstrings, which name the types. `api.py` writes a page for each
# wing.
autodoc_typehints = "none"
autodoc_member_order = "bysource"
toc_object_entries_show_parents = "hide"
default_role = "py:obj"  # what stands in single backticks is a name, and a link where there is something to link to
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
    """A lecture links to a page of the book as it lies in the repository; on the site there is no
    folder book/."""
    if docname.startswith("notebooks/"):
        source[0] = source[0].replace("](../book/", "](../")


def name_solutions(app, doctree):
    """A cell that is folded as a whole is the solution of an exercise: say so where it is
    opened."""
    for cell in doctree.findall(
        lambda node: getattr(node, "attributes", {}).get("hide_mode") == "all"
    ):
        cell["prompt_show"], cell["prompt_hide"] = "Show the solution", "Hide the solution"
