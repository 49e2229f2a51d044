"""McNemar's test and intervals for two models on the same items.

Notation: of `n` items, `both` were answered right by student and teacher, `only_student` and
`only_teacher` by one of them, the rest by none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import ceil, comb, copysign, inf, sqrt
from statistics import NormalDist


def mean(values: Sequence[float]) -> float:
    """Return the mean, 0 for no values."""
    return sum(values) / len(values) if values else 0.0


def percentile(values: Iterable[float], share: float) -> float:
    """Return the smallest value that at least a `share` of all do not exceed (nearest rank).

    Raises:
        ValueError: there are no values, or `share` is not above 0 and at most 1.
    """
    ordered = sorted(values)
    if not ordered or not 0 < share <= 1:
        raise ValueError(f"No percentile {share} of {len(ordered)} values.")
    # A share such as 0.07 of 100 lies a rounding error above 7, and is meant to be 7.
    return ordered[ceil(share * len(ordered) - 1e-9) - 1]


def mcnemar_exact(only_student: int, only_teacher: int) -> float:
    """Return the two-sided p-value of McNemar's exact test.

    If neither model is better, an item that just one of them gets right is as likely to be the
    one's as the other's: twice the smaller tail of a binomial with share 1/2, at most 1.
    """
    n = only_student + only_teacher
    tail = sum(comb(n, k) for k in range(min(only_student, only_teacher) + 1))
    # Whole numbers until the division: 2 to the n overflows a float from 1,024 items on.
    return min(1.0, 2 * tail / 2**n)


def difference_interval(
    only_first: int, only_second: int, n: int, confidence: float = 0.95
) -> tuple[float, float]:
    """Return the score interval of one share right minus another, for matched pairs.

    The differences that a score test would not reject (Tango 1998). It has a width also where no
    item tells the two apart.

    Raises:
        ValueError: the counts are negative or more than `n`.
    """
    if min(only_first, only_second) < 0 or only_first + only_second > n or n < 1:
        raise ValueError(f"Counts {only_first} and {only_second} do not fit into {n} items.")
    z = NormalDist().inv_cdf((1 + confidence) / 2)

    def score(difference: float) -> float:
        # Maximum-likelihood share of "only the second" where the difference is given.
        linear = (2 * n - only_first + only_second) * difference - only_first - only_second
        constant = -only_second * difference * (1 - difference)
        # The root of a sum of two products of which neither is negative, but for rounding.
        share = (sqrt(max(0.0, linear**2 - 8 * n * constant)) - linear) / (4 * n)
        variance = max(0.0, n * (2 * share + difference * (1 - difference)))
        distance = only_first - only_second - n * difference
        if variance > 0 or distance == 0:
            return distance / sqrt(variance or 1.0)
        return copysign(inf, distance)

    def crossing(level: float) -> float:
        low, high = -1.0, 1.0  # the score falls as the difference rises
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if score(middle) > level else (low, middle)
        return (low + high) / 2

    return crossing(z), crossing(-z)


def ratio_interval(
    both: int, only_student: int, only_teacher: int, n: int, confidence: float = 0.95
) -> tuple[float, float]:
    """Return the score interval of student's share right over teacher's, for matched pairs.

    The ratios that a score test would not reject (Tang, Tang and Chan 2003; the restricted
    estimate after Nam and Blackwelder 2002). Unlike a bootstrap or a Wald interval it stands when
    the teacher has nothing right: then its upper end is infinite and its lower end is not.

    Raises:
        ValueError: the counts are negative or more than `n`.
    """
    if min(both, only_student, only_teacher) < 0 or both + only_student + only_teacher > n:
        raise ValueError(
            f"Counts {both}, {only_student} and {only_teacher} do not fit into {n} items."
        )
    student, teacher = both + only_student, both + only_teacher
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    neither = n - both - only_student - only_teacher

    def score(ratio: float) -> float:
        return _ratio_score(both, only_student, only_teacher, neither, ratio)

    # The score falls as the ratio rises. It is above z at 0 unless the student has nothing right,
    # and below -z at infinity unless the teacher has nothing right.
    low = 0.0 if student == 0 else _crossing(score, z)
    high = inf if teacher == 0 else _crossing(score, -z)
    return low, high


def _ratio_score(
    both: int, only_student: int, only_teacher: int, neither: int, ratio: float
) -> float:
    """Return the score statistic of the hypothesis "student = ratio x teacher"."""
    n = both + only_student + only_teacher + neither
    student, teacher = both + only_student, both + only_teacher
    difference = student - ratio * teacher
    # Maximum-likelihood share of "only the teacher" and "only the student" under the hypothesis.
    linear = -student + ratio**2 * (teacher + 2 * only_student)
    root = sqrt((student - ratio**2 * teacher) ** 2 + 4 * ratio**2 * only_student * only_teacher)
    teacher_share = (linear + root) / (2 * ratio * (ratio + 1) * n)
    student_share = ratio * teacher_share - (ratio - 1) * (1 - neither / n)
    variance = n * ratio * max(0.0, student_share + teacher_share)
    if variance <= 0:
        return 0.0 if difference == 0 else inf if difference > 0 else -inf
    return difference / sqrt(variance)


def _crossing(score: Callable[[float], float], level: float) -> float:
    """Return the ratio at which a falling score passes `level`, by bisection of its logarithm."""
    low, high = 1e-9, 1e9
    for _ in range(200):
        middle = sqrt(low * high)
        if score(middle) > level:
            low = middle
        else:
            high = middle
    return sqrt(low * high)
