"""tools.packages: the picture of the packages is that of the code."""

import pytest

from tools.packages import BEGIN, END, PAGE, PICTURE, direct, imports, levels, picture, with_block

# b and c import a, and d imports all of them.
FOUND = {
    "x/a": frozenset[str](),
    "x/b": frozenset({"x/a"}),
    "x/c": frozenset({"x/a"}),
    "x/d": frozenset({"x/a", "x/b", "x/c"}),
}


def test_page_and_picture_are_those_of_the_code() -> None:
    """Run make docs where they differ."""
    found = imports()
    assert PAGE.read_text() == with_block(PAGE.read_text(), found)
    assert PICTURE.read_text() == picture(found)


def test_each_box_is_above_those_that_it_imports() -> None:
    """So that all lines of the picture lead down."""
    assert levels(FOUND) == [["x/a"], ["x/b", "x/c"], ["x/d"]]


def test_an_import_that_follows_from_others_is_not_drawn() -> None:
    """The picture stays readable; the table has them all."""
    assert direct(FOUND)["x/d"] == {"x/b", "x/c"}
    assert picture(FOUND).count("<path") == 4


def test_the_service_and_training_are_both_there() -> None:
    """Modules outside of a package stand for themselves."""
    found = imports()
    assert "service/artifact" in found["training/bake.py"]
    assert not any(name.startswith("training") for others in found.values() for name in others if "service" in name)


def test_a_page_without_a_place_is_refused() -> None:
    """Rather than written at its end."""
    with pytest.raises(ValueError, match="has no lines"):
        with_block("# Architecture", FOUND)
    assert with_block(f"a\n{BEGIN}old\n{END}b", FOUND).startswith(f"a\n{BEGIN}![")
