"""What a lesser processor changes in a lecture is found where the text depends on it."""

from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from book.processors import CHECKED, VARIANTS, differences


def notebook(printed, tags=()):
    cell = new_code_cell("show()", execution_count=1, metadata={"tags": list(tags)})
    cell.outputs = [new_output("stream", text=printed)]
    return new_notebook(cells=[cell, new_markdown_cell("The error fell from 580 to 147.")])


def test_a_quoted_number_that_is_lost_is_found():
    assert differences(notebook("580\n147\n"), notebook("580\n175\n")) == {1: ["147"]}


def test_a_number_that_no_text_quotes_may_change():
    assert differences(notebook("after 12.5 s\n"), notebook("after 3.1 s\n")) == {}


def test_where_nbval_compares_the_output_any_line_counts():
    checked = [CHECKED]
    found = differences(notebook("a 1\nb 2\n", checked), notebook("a 1\nb 3\n", checked))
    assert found == {1: ["b 2"]}


def test_each_switch_is_tried_with_each_of_its_values():
    assert {variant.aten for variant in VARIANTS} == {"", "default", "avx2", "avx512"}
    isas = {"", "AVX2", "AVX512_CORE", "AVX512_CORE_VNNI", "AVX512_CORE_BF16"}
    assert {variant.onednn for variant in VARIANTS} == isas
    assert {variant.dtype for variant in VARIANTS} == {"float32", "bfloat16"}
    assert {variant.threads for variant in VARIANTS} == {1, 2}
    assert len({variant.name for variant in VARIANTS}) == len(VARIANTS)
