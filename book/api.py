"""The pages of the API: `python book/api.py FOLDER` writes one for each wing of m2lib, one for
m2tables, and two for the study.

A page lists what the front door of a package hands on (its __init__.py), module by module, as
directives for Sphinx's autodoc, which fills in signatures and docstrings.
"""

import ast
import importlib
import inspect
import re
import sys
from itertools import pairwise
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent
WINGS = sorted(f"m2lib.{path.parent.name}" for path in ROOT.glob("m2lib/*/__init__.py"))
PACKAGES = (*WINGS, "m2tables", "study", "study.paper")


def folder_of(package: str) -> Path:
    """Return the folder of a package, such as m2lib/series of `m2lib.series`."""
    return ROOT.joinpath(*package.split("."))


def handed_on(package: str) -> dict[str, list[str]]:
    """Return the public names of a package, by the module that they come from."""
    names: dict[str, list[str]] = {}
    # A door that is lazy has its names in __init__.pyi.
    source = max(folder_of(package).glob("__init__.py*")).read_text(encoding="utf-8")
    for node in ast.parse(source).body:
        if isinstance(node, ast.ImportFrom):
            module = node.module.rpartition(".")[2]
            names.setdefault(module, []).extend(alias.name for alias in node.names)
    return names


def remark(source: str, name: str) -> str:
    """Return what is said of a constant, in the comment behind it or in the string below it."""
    comment = re.search(rf"^(?:\w+, )*{name}\b.*?  # (.*)$", source, re.M)
    text = comment[1] if comment else ""
    for statement, below in pairwise(ast.parse(source).body):
        names = [getattr(target, "id", "") for target in targets_of(statement)]
        is_text = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
        if is_text and name in names:
            text = " ".join(str(below.value.value).split())
    return text[:1].upper() + text[1:]


def targets_of(statement: ast.stmt) -> list[ast.expr]:
    """Return what a statement assigns to; of one that assigns nothing, nothing."""
    if isinstance(statement, ast.Assign):
        return statement.targets
    return [statement.target] if isinstance(statement, ast.AnnAssign) else []


def directive(door: ModuleType, source: str, name: str) -> str:
    """Return the lines of reStructuredText that document one name."""
    value = getattr(door, name)
    if inspect.isfunction(value):
        return f".. autofunction:: {name}\n"
    if isinstance(value, type):  # an alias, such as dict[str, int], is none
        return f".. autoclass:: {name}\n   :members:\n"
    value_line = ""
    entries = ""
    if len(repr(value)) < 140 and not isinstance(value, (dict, Path)):
        value_line = f"   :value: {value!r}\n"
    elif isinstance(value, dict) and all(isinstance(it, (str, float)) for it in value.values()):
        entries = "\n   ".join(f"| {key}: {entry}" for key, entry in value.items())
    elif isinstance(value, (dict, tuple)):
        entries = f"Entries: {'; '.join(map(str, value))}."
    # The name has no module of its own, because the links to the source would otherwise take an
    # alias, dict[str, int], for one of Python's.
    head = f".. py:data:: {door.__name__}.{name}\n   :module:\n{value_line}"
    return f"{head}\n   {remark(source, name)}\n\n   {entries}\n"


def heading(text: str, line: str) -> str:
    """Return a heading: a text, underlined with a character."""
    return f"{text}\n{line * len(text)}"


def page(package: str) -> str:
    """Return the page of a package, in reStructuredText.

    In MyST each directive would be a document of its own, where numpydoc cannot number references.
    """
    door = importlib.import_module(package)
    parts = [heading(package, "="), door.__doc__ or ""]
    for module, names in handed_on(package).items():
        source = (folder_of(package) / f"{module}.py").read_text(encoding="utf-8")
        # Where a module is called like a function of its own, such as `export`, the door hands on
        # the function by that name, and the module stays out of the index.
        hidden = "   :no-index:\n" if module in names else ""
        directives = [
            f".. automodule:: {door.__name__}.{module}\n{hidden}",
            f".. currentmodule:: {door.__name__}\n",
        ]
        directives += [directive(door, source, name) for name in names]
        parts += [heading(module, "-"), "\n".join(directives)]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for package in PACKAGES:
        name = package.removeprefix("m2lib.")
        (folder / f"{name}.rst").write_text(page(package), encoding="utf-8")
