"""Cells and families, against a page written by hand from the contract."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from pyserving.metric_family import MAX_CELLS, OTHER, Counter, Family, Gauge, Histogram, exponential, page

GOLDEN = Path(__file__).parent / "golden" / "metrics_forms.txt"


def test_page_has_the_text_form_of_the_contract():
    odd = Family("/test/odd.name/-x", "counter", ["1st", "a_b.c"], Counter)
    odd.labels("v", "w").increment(5)
    silent = Family("/test/silent", "histogram", [], lambda: Histogram((1.0,)))
    plain = Family("/test/counter", "counter", [], Counter)
    plain.labels().increment(3)
    labelled = Family("/test/counter_labels", "counter", ["model_name", "status"], Counter)
    labelled.labels('say "hi"', "back\\slash").increment(2)
    labelled.labels("a", "OK").increment()
    gauge = Family("/test/gauge", "gauge", [], Gauge)
    gauge.labels().set(-4)
    histogram = Family("/test/histogram", "histogram", [], lambda: Histogram((1.0, 2.0, 4.0)))
    histogram.labels().add(2)
    digit = Family("9lives", "counter", [], Counter)
    digit.labels().increment(9)

    assert page([silent, odd, digit, histogram, gauge, labelled, plain]) == GOLDEN.read_text()


@pytest.mark.proves("difference: A newline in a metric's label value")
def test_a_newline_in_a_label_value_does_not_break_its_line():
    family = Family("/f", "counter", ["label"], Counter)
    family.labels("two\nlines").increment()

    assert page([family]) == '# TYPE :f counter\n:f{label="two\\nlines"} 1\n'


def test_exponential_gives_one_limit_less_than_buckets():
    assert exponential(1, 2, 4) == (1, 2, 4, 8)


@pytest.mark.parametrize("value", [0.5, 1, 1.5, 2, 4, 5, math.inf])
def test_bucket_holds_what_is_strictly_below_its_limit(value):
    histogram = Histogram((1.0, 2.0, 4.0))
    histogram.add(value)

    below = [line.rpartition(" ")[2] for line in histogram.samples("h", "") if "_bucket" in line]
    assert below == [str(int(value < limit)) for limit in (1, 2, 4)] + ["1"]


def test_labels_give_the_same_cell_again():
    family = Family("/f", "counter", ["model_name", "status"], Counter)
    assert family.labels("m", "OK") is family.labels("m", "OK")


def test_labels_want_as_many_values_as_the_family_has_labels():
    with pytest.raises(ValueError, match="request_count has the labels"):
        Family("/request_count", "counter", ["model_name", "status"], Counter).labels("m")


def test_removed_cell_leaves_the_page():
    family = Family("/f", "gauge", ["model", "version"], Gauge)
    family.labels("m", "1").set(30)
    family.remove("m", "1")
    family.remove("m", "1")

    assert page([family]) == "# TYPE :f gauge\n"


def test_names_that_clients_make_up_end_in_one_cell():
    family = Family("/f", "counter", ["model_name", "status"], Counter)
    for i in range(MAX_CELLS + 5):
        family.labels(f"no-such-model-{i}", "NOT_FOUND").increment()

    assert family.labels(OTHER, OTHER).value == 5
    assert family.labels("no-such-model-0", "NOT_FOUND").value == 1
    assert len(page([family]).splitlines()) == MAX_CELLS + 2


def test_histograms_of_the_same_limits_merge():
    mine, theirs = Histogram((1, 2, 4)), Histogram((1, 2, 4))
    for value in (0.5, 2, 100):
        mine.add(value)
    theirs.add(3)
    mine.merge(theirs)
    assert mine.counts == [1, 0, 2, 1]
    assert mine.sum == 105.5
    with pytest.raises(ValueError, match="zip"):
        mine.merge(Histogram((1, 2)))
