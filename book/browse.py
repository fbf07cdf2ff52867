"""Opens every page of the built book in a browser, with the network off, and reports what is wrong
with it.

`make browse` runs it on build/report; by hand: `python book/browse.py FOLDER [--pictures FOLDER]`.
It needs the package playwright (`pip install -e ".[browser]"`) and a Chromium: Debian's, Google
Chrome, or the one that `playwright install chromium` fetches. Pages are opened as files, as a
reader without a server opens them.
"""

import argparse
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

NARROW, WIDE = {"width": 400, "height": 900}, {"width": 1280, "height": 900}
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
SHOWN = (
    "index.html",
    "gallery.html",
    "notebooks/05_flops.html",
    "api/series.html",
)  # for --pictures
# What the network cannot be asked for need not be tried.
FLAGS = (
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
)

# Seen by the page itself, once it is loaded and its formulas are set.
LOOK = r"""async () => {
  if (window.MathJax) await MathJax.startup.promise;
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const raw = [];
  while (texts.nextNode()) {
    const {data, parentElement} = texts.currentNode;
    const literal = parentElement.closest("pre, code, script, style, noscript, template, mjx-container");
    if (!literal && /\$\$|\$[^$\s][^$]*\$|\\[a-zA-Z()[\]]/.test(data)) raw.push(data.trim());
  }
  document.querySelectorAll("[data-mjx-error], .math:not(:has(mjx-container))").forEach(it => raw.push(it.textContent));
  const images = [...document.images];
  await Promise.allSettled(images.map(it => { it.loading = "eager"; return it.decode(); }));
  return {
    raw,
    formulas: document.querySelectorAll("mjx-container").length,
    images: images.length,
    broken: images.filter(it => !it.naturalWidth).map(it => it.src),
    // Sphinx puts the file's name where a picture has no text.
    silent: images.filter(it => !it.alt || /\.(png|svg|jpe?g)$/.test(it.alt)).map(it => it.src),
    still: [...document.querySelectorAll("input[type=range]")].filter(it => {
      const first = it.nextElementSibling.src;
      it.value = it.max;
      it.dispatchEvent(new Event("input"));
      return it.nextElementSibling.src === first;
    }).map(it => it.parentElement.textContent),
    links: [...document.links].map(it => it.href),
    anchors: [...document.querySelectorAll("[id]")].map(it => it.id),
  };
}"""
WIDTH = "() => Math.max(document.documentElement.scrollWidth, document.body.scrollWidth)"
FAULTS = {
    "left": "requests that left the machine",
    "console": "errors on the console",
    "raw": "formulas left as TeX",
    "links": "broken links",
    "images": "broken images and files",
    "silent": "images without alternative text",
    "still": "sliders that show no other picture",
    "wide": f"pages wider than a window of {NARROW['width']} pixels",
    "search": "words that the search does not find",
    "gallery": "series of the gallery that cannot be chosen",
}


@dataclass
class Report:
    """What was found."""

    pages: int = 0
    formulas: int = 0
    images: int = 0
    links: int = 0
    faults: dict[str, list[str]] = field(default_factory=lambda: {kind: [] for kind in FAULTS})
    """By kind, the pages and what is wrong there."""

    def lines(self) -> Iterator[str]:
        """The report, a line for each count and each fault."""
        yield f"{self.pages} pages, {self.formulas} formulas, {self.images} images, {self.links} links inside"
        for kind, about in FAULTS.items():
            yield f"{len(self.faults[kind])} {about}"
            yield from (f"    {fault}" for fault in self.faults[kind])

    @property
    def good(self) -> bool:
        """Whether nothing is wrong, and there was something to look at."""
        return self.pages > 0 and not any(self.faults.values())


def pages_of(site: Path) -> list[Path]:
    """All pages; what lies in _static are templates of the theme's that its package leaves
    there."""
    return [
        path
        for path in sorted(site.rglob("*.html"))
        if "_static" not in path.relative_to(site).parts
    ]


def find_browser() -> str | None:
    """The path of an installed browser, or of the one that playwright has fetched; None where there
    is neither."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        own = playwright.chromium.executable_path
    return next(filter(None, map(shutil.which, (*NAMES, own))), None)


def choose(gallery) -> bool:
    """Sort a gallery's series by the last error and click the worst: whether its number and its
    curves then come."""
    head, drawn = gallery.locator(".slick-header-column").last, gallery.locator("canvas").last
    before = drawn.screenshot()
    head.click()
    head.click()  # the second time the largest comes first
    number = gallery.locator(".slick-row[style*='top:0px'] .slick-cell").first
    number.click()
    said = gallery.locator("b").first.inner_text()
    return said.startswith(f"series {number.inner_text()},") and drawn.screenshot() != before


def browse(site: Path, browser: str, pictures: Path | None = None) -> Report:
    """Open every page of a site and look at it; take pictures of some where a folder is given for
    them."""
    from playwright.sync_api import Error, sync_playwright

    site, report = site.resolve(), Report()
    flags = (
        [*FLAGS, "--no-sandbox"] if getattr(os, "geteuid", lambda: 1)() == 0 else FLAGS
    )  # root has no sandbox
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=list(flags))
        page = chromium.new_context(offline=True).new_page()
        where = ""

        def note(kind: str, what: str) -> None:
            report.faults[kind].append(f"{where}: {' '.join(what.split())[:200]}")

        def asked(request) -> None:
            if urlsplit(request.url).scheme not in ("file", "data", "blob"):
                note("left", request.url)

        page.on("request", asked)
        page.on("requestfailed", lambda request: note("images", request.url))
        page.on(
            "console", lambda message: message.type == "error" and note("console", message.text)
        )
        page.on("pageerror", lambda error: note("console", str(error)))

        anchors, links = {}, []
        for path in pages_of(site):
            where = path.relative_to(site).as_posix()
            page.set_viewport_size(WIDE)
            page.goto(path.as_uri())
            seen = page.evaluate(LOOK)
            page.set_viewport_size(NARROW)
            if (width := page.evaluate(WIDTH)) > NARROW["width"]:
                note("wide", f"{width} pixels")
            for kind, key in (
                ("raw", "raw"),
                ("images", "broken"),
                ("silent", "silent"),
                ("still", "still"),
            ):
                for what in seen[key]:
                    note(kind, what)
            report.pages += 1
            report.formulas += seen["formulas"]
            report.images += seen["images"]
            anchors[path] = set(seen["anchors"])
            links += [(where, link) for link in seen["links"]]

        for where, link in links:  # noqa: B007 (`note` reads it)
            address, fragment = urldefrag(link)
            if urlsplit(link).scheme != "file":  # to another site
                continue
            report.links += 1
            target = Path(unquote(urlsplit(address).path))
            there = target.is_file() and target.is_relative_to(site)
            if not there or (
                fragment and target in anchors and unquote(fragment) not in anchors[target]
            ):
                note("links", link)

        where = "search.html"
        for word in ("repair", "forecast_flops"):
            try:
                page.goto((site / "search.html").as_uri() + f"?q={word}")
                page.wait_for_selector("#search-results li a", timeout=10_000)
            except Error:
                note("search", word)
        where = "gallery.html"
        try:
            page.goto((site / where).as_uri())
            if [choose(gallery) for gallery in page.locator(".gallery").all()] != [True, True]:
                note("gallery", "a click that changes nothing")
        except Error as error:
            note("gallery", str(error))
        for name, theme, size in product(
            SHOWN if pictures else (), ("light", "dark"), (WIDE, NARROW)
        ):
            page.emulate_media(color_scheme=theme)
            page.set_viewport_size(size)
            page.goto((site / name).as_uri())
            page.evaluate(LOOK)
            path = pictures / f"{Path(name).stem}-{theme}-{size['width']}.png"
            page.screenshot(path=path, animations="disabled")
        chromium.close()
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("site", type=Path, help="the folder of the built book")
    parser.add_argument("--pictures", type=Path, help="a folder for pictures of some pages")
    arguments = parser.parse_args()
    if not (browser := find_browser()):
        sys.exit(
            f"no browser found: install one of {', '.join(NAMES)}, or run `playwright install chromium`"
        )
    report = browse(arguments.site, browser, arguments.pictures)
    print(*report.lines(), sep="\n")
    sys.exit(not report.good)


if __name__ == "__main__":
    main()
