from __future__ import annotations

import doctest
import itertools

from hypothesis import given
from hypothesis import strategies as st

from llm_release.core import spans
from llm_release.core.spans import Spans

_PAIRS = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=30)


@given(_PAIRS, st.integers(0, 70))
def test_spans_are_the_set_of_the_bytes_that_were_added(pairs: list[tuple[int, int]], size: int) -> None:
    found = Spans(pairs)
    wanted = {byte for a, b in pairs for byte in range(a, b)}
    assert {byte for a, b in found for byte in range(a, b)} == wanted
    assert found.total == len(wanted)
    assert {byte for a, b in found.gaps(size) for byte in range(a, b)} == set(range(size)) - wanted
    assert found.prefix == next(n for n in range(100) if n not in wanted)


@given(_PAIRS)
def test_spans_are_sorted_and_neighbours_are_merged(pairs: list[tuple[int, int]]) -> None:
    edges = [edge for span in Spans(pairs) for edge in span]
    assert all(a < b for a, b in itertools.pairwise(edges))


def test_the_example_of_the_documentation_holds() -> None:
    assert doctest.testmod(spans).failed == 0
