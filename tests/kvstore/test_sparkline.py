"""Series drawn in text."""

from kvstore.observe.sparkline import sparkline


def test_columns_are_as_high_as_their_numbers_and_labels_stand_below() -> None:
    drawing = sparkline([10, 20, 30, 14], ["9m", "10s", "2s", "0s"], 4, 80)
    assert drawing.splitlines() == [
        "  # ",
        " _| ",
        " || ",
        "_||#",
        "    ",
        "9120",
        "m0ss",
        " s  ",
    ]


def test_equal_numbers_lie_on_the_ground() -> None:
    assert sparkline([20], ["0s"], 4, 80) == " \n \n \n_\n \n0\ns\n"


def test_a_long_series_is_drawn_in_bands() -> None:
    drawing = sparkline([1, 2, 3], ["a", "b", "c"], 1, 2)
    assert drawing == "_o\n  \nab\n\n#\n \nc\n"


def test_nothing_is_drawn_of_nothing() -> None:
    assert sparkline([], [], 4, 80) == ""
