"""Which sources of real series judge, and which are for choosing."""

from benchmarks.sources import LOT_OF, TEXTBOOK, drawn_halves


def test_each_source_of_the_textbook_is_in_the_half_that_the_lot_gave_it():
    halves = drawn_halves()
    for source in TEXTBOOK:
        assert source.half == halves[LOT_OF.get(source.name, source.name)], source.name
