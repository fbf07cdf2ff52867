"""`python book/cards.py FOLDER` writes the lectures' cards for the first page into FOLDER.

A card has a picture, a title, a question and the minutes. All but the picture stand in the map of
`before.md`, and the picture is a figure of the lecture itself, with its alternative text.
"""

import base64
import json
import re
import sys
from dataclasses import dataclass
from html import escape
from pathlib import Path

# By lecture, the cell whose figure is on the card.
PICTURES = {
    "01_task_and_data": "c01-04",
    "02_model_and_vocabulary": "c02-04",
    "03_preprocessing": "cell-05",
    "04_baseline": "cell-35",
    "05_flops": "cell-21",
    "06_lora_default": "8060307d",
    "07_hyperparameter_search": "cell-10",
    "08_context_length": "cell-21",
    "09_final_model": "c09-43",
    "10_flop_review": "c10-17",
    "11_yardsticks": "c11-40",
    "12_more_per_flop": "c12-43",
    "13_uncertainty": "c13-45",
    "14_your_own_series": "c14-11",
}

CARD = """<li>
<img src="_static/cards/{name}.png" alt="{alt}">
<p class="title"><a href="notebooks/{name}.html">{title}</a></p>
<p>{question}</p>
<p class="minutes">{minutes} minutes{path}</p>
</li>"""


@dataclass(frozen=True)
class Lecture:
    """A row of the map."""

    name: str
    """The notebook's file name, without its suffix."""
    title: str
    question: str
    minutes: int
    """Reading time, without the exercises."""
    short: bool
    """Whether the lecture is on the short path, which the map shows in bold."""


def lectures_of(page: str) -> list[Lecture]:
    """Return the lectures in the map.

    A row is `| [**1 · Title**](notebooks/01_name.ipynb) | Question? | 45 | builds on |`.
    """
    lectures = []
    for line in page.splitlines():
        row = re.match(r"\| \[(.+)\]\(notebooks/(.+)\.ipynb\) \| (.+?) \| (\d+) \|", line)
        if row:
            title, name, question, minutes = row.groups()
            short = title.startswith("**")
            lectures.append(Lecture(name, title.strip("*"), question, int(minutes), short))
    return lectures


def picture(notebook: dict, cell: str) -> tuple[bytes, str]:
    """Return the figure below a cell of an executed notebook, as a PNG, and its text."""
    figures = {}
    for each in notebook["cells"]:
        for output in each.get("outputs", []):
            if "image/png" in output.get("data", {}):
                alt = each["metadata"]["mystnb"]["image"]["alt"]
                figures[each["id"]] = (output["data"]["image/png"], alt)
    if cell not in figures:
        sys.exit(f"PICTURES in book/cards.py: {cell} shows no figure, but {', '.join(figures)} do")
    png, alt = figures[cell]
    return base64.b64decode("".join(png)), alt


def card(lecture: Lecture, alt: str) -> str:
    """Return a lecture's card as an item of a list."""
    return CARD.format(
        name=lecture.name,
        alt=escape(alt),
        title=escape(lecture.title),
        question=escape(lecture.question),
        minutes=lecture.minutes,
        path=" · short path" if lecture.short else "",
    )


def write_cards(folder: Path) -> None:
    """Write `cards.html` and its pictures, from the map and the notebooks in the same folder."""
    pictures = folder / "_static" / "cards"
    pictures.mkdir()
    cards = []
    for lecture in lectures_of((folder / "before.md").read_text(encoding="utf-8")):
        text = (folder / "notebooks" / f"{lecture.name}.ipynb").read_text(encoding="utf-8")
        png, alt = picture(json.loads(text), PICTURES[lecture.name])
        (pictures / f"{lecture.name}.png").write_bytes(png)
        cards.append(card(lecture, alt))
    page = "\n".join(['<ol class="cards">', *cards, "</ol>"])
    (folder / "cards.html").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    write_cards(Path(sys.argv[1]))
