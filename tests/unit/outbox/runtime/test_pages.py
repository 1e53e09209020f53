"""Pages: every item comes once, in order, so many at a time."""

from outbox.runtime.pages import paginate


def test_pages_hold_so_many_and_the_last_the_rest() -> None:
    assert list(paginate(range(5), 2)) == [[0, 1], [2, 3], [4]]
    assert list(paginate([], 2)) == []
