"""The pages of the API: `python book/api.py FOLDER` writes one for each wing of m2lib.

A page lists what the wing's front door hands on (m2lib/WING/__init__.py), module by module, as
directives for Sphinx's autodoc, which fills in signatures and docstrings.
"""

import ast
import importlib
import inspect
import re
import sys
from pathlib import Path
from types import ModuleType

PACKAGE = Path(__file__).resolve().parent.parent / "m2lib"
WINGS = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))


def handed_on(wing: str) -> dict[str, list[str]]:
    """Return the public names of a wing, by the module that they come from."""
    names: dict[str, list[str]] = {}
    source = (PACKAGE / wing / "__init__.py").read_text(encoding="utf-8")
    for node in ast.parse(source).body:
        if isinstance(node, ast.ImportFrom):
            module = node.module.rpartition(".")[2]
            names.setdefault(module, []).extend(alias.name for alias in node.names)
    return names


def remark(source: str, name: str) -> str:
    """Return what is said of a constant, in the comment behind it or in the string below it."""
    match = re.search(rf'^(?:\w+, )*{name}\b.*?(?:  # (.*)|\n"""(.*?)""")$', source, re.M)
    if not match:
        return ""
    comment, docstring = match.groups()
    text = comment or docstring or ""
    return text[:1].upper() + text[1:]


def directive(door: ModuleType, source: str, name: str) -> str:
    """Return the lines of reStructuredText that document one name."""
    value = getattr(door, name)
    if inspect.isfunction(value):
        return f".. autofunction:: {name}\n"
    if isinstance(value, type):  # an alias, such as dict[str, int], is none
        return f".. autoclass:: {name}\n   :members:\n"
    shown = ""
    entries = ""
    if len(repr(value)) < 140 and not isinstance(value, (dict, Path)):
        shown = f"   :value: {value!r}\n"
    elif isinstance(value, (dict, tuple)):
        entries = f"Entries: {'; '.join(map(str, value))}."
    # The name has no module of its own, because the links to the source would otherwise take an
    # alias, dict[str, int], for one of Python's.
    head = f".. py:data:: {door.__name__}.{name}\n   :module:\n{shown}"
    return f"{head}\n   {remark(source, name)}\n\n   {entries}\n"


def page(wing: str) -> str:
    """Return the page of a wing, in MyST."""
    door = importlib.import_module(f"m2lib.{wing}")
    parts = [f"# m2lib.{wing}", door.__doc__ or ""]
    for module, names in handed_on(wing).items():
        source = (PACKAGE / wing / f"{module}.py").read_text(encoding="utf-8")
        # Where a module is called like a function of its own, such as `export`, the door hands on
        # the function by that name, and the module stays out of the index.
        hidden = "   :no-index:\n" if module in names else ""
        directives = [
            f".. automodule:: {door.__name__}.{module}\n{hidden}",
            f".. currentmodule:: {door.__name__}\n",
        ]
        directives += [directive(door, source, name) for name in names]
        parts += [f"## {module}", "\n".join(["```{eval-rst}", *directives, "```"])]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for wing in WINGS:
        (folder / f"{wing}.md").write_text(page(wing), encoding="utf-8")
