"""Charts: well-formed whatever the numbers are."""

from __future__ import annotations

import math
from xml.etree import ElementTree as Xml

import pytest

from nsps_simulator.reporting.plots import HEIGHT, WIDTH, Band, Line, chart, short


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize(
    "values",
    [[], [0.0], [math.nan] * 3, [1.0, math.nan, 3.0], [0.0, 0.0], [1e-6, 1e9], [5.0] * 400, [math.nan, 2.0, math.nan]],
)
def test_a_chart_is_well_formed_and_holds_no_missing_numbers(values: list[float], log: bool) -> None:
    times = [number + 0.5 for number in range(len(values))]
    drawing = chart(times, [Line("a & <b>", "c1", values, filled=True)], [Band(1, 2, "c5")], "ms", log=log)
    Xml.fromstring(drawing)
    assert "nan" not in drawing
    assert "inf" not in drawing


def test_curves_stay_inside_the_chart() -> None:
    drawing = chart([0.5, 1.5, 2.5], [Line("a", "c1", [0.0, 7.3, 3.0])], [Band(2, 99, "c0")], "x")
    root = Xml.fromstring(drawing)
    path = next(one for one in root.iter() if one.get("class") == "line c1").get("d", "")
    points = [tuple(map(float, point.split(","))) for point in path[1:].split("L")]
    assert all(0 <= across <= WIDTH and 0 <= up <= HEIGHT for across, up in points)
    band = next(one for one in root.iter() if one.get("class") == "band c0")
    assert float(band.get("x", "0")) + float(band.get("width", "0")) <= WIDTH


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.05, "0.05"), (999, "999"), (1200, "1.2k"), (15_000, "15k"), (3e6, "3M")]
)
def test_numbers_are_written_short(value: float, text: str) -> None:
    assert short(value) == text
