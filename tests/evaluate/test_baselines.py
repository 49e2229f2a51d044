from stratos.evaluate.baselines import chance
from stratos.tasks.base import Item


class Guessable:
    """A task that knows how often a guess is right."""

    @staticmethod
    def chance(item: Item) -> float:
        return 1 / len(item.question)


def test_a_task_may_say_how_often_a_guess_is_right():
    items = [
        Item("1", "short", "ab", "a", choices=("a", "b")),
        Item("2", "long", "abcd", "a"),
    ]
    score = chance(Guessable(), items)
    assert {row.slice: row.exact.mean for row in score.slices} == {
        "short": 0.5,
        "long": 0.25,
        "all": 0.375,
    }
    assert all(row.exact.low == row.exact.mean == row.exact.high for row in score.slices)
    assert {row.slice: row.choice for row in score.slices} == {
        "short": 0.5,
        "long": None,
        "all": 0.5,
    }
