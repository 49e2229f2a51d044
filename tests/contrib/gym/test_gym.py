"""Generators of reasoning-gym as tasks: splits, verifiers, and answers that are never executed."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from required import lacking

from stratos.contrib.gym import GymTask, source
from stratos.contrib.gym.gym_task import (
    BOARDS,
    EXPRESSIONS,
    LISTS,
    SEVERAL,
    is_harmless,
    is_really_right,
    points_of,
    says_the_same,
)
from stratos.contrib.gym.source import NEED_HASH_SEED, WITHOUT_GOLD, names, not_installed
from stratos.tasks.base import Item, Split
from stratos.tasks.dedup.copies import HeldOut
from stratos.tasks.dedup.near import NearDuplicates
from stratos.tasks.words import Leak

DOCS = Path(__file__).parents[3] / "docs" / "contrib" / "gym.md"


@pytest.fixture(autouse=True)
def _installed() -> None:
    if importlib.util.find_spec("reasoning_gym") is None:
        lacking("gym", not_installed())


def test_splits_share_no_question_and_seeds_draw_others():
    task = GymTask("chain_sum")
    splits = {name: task.items(name, 60) for name in ("train", "validation", "test")}
    questions = [{item.question for item in items} for items in splits.values()]
    assert not questions[0] & questions[1] and not questions[1] & questions[2]
    assert [item.id for item in task.items("test", 20)] == [i.id for i in splits["test"][:20]]
    other = task.items("test", 60, seed=1)
    assert other != splits["test"]
    assert not {item.id for item in other} & {item.id for item in splits["train"]}
    made = list(task.reverse(200))
    held_out = {item.id for split in ("validation", "test") for item in task.items(split, 200)}
    assert len(made) == 200 and not held_out & {item.id for item in made}
    assert all(task.verify(item) is None for item in made)


def test_a_template_that_all_questions_share_is_no_leak():
    """Programs of `ab` have four words: most share thirteen in a row with a held-out one."""
    task = GymTask("ab", level=0)
    items = [*task.items("validation", 300), *task.items("test", 300)]
    held = HeldOut(items, task.items("train", 300), task.own_words)
    near = NearDuplicates(0.8, task.items("train", 300), task.own_words)
    assert not any(held.leak(item) or near.is_near(item) for item in task.reverse(200))
    assert all(held.leak(item) is Leak.EXACT for item in items)


def test_a_generator_that_has_no_more_ends():
    task = GymTask("coin_flip", {"min_trials": 3, "max_trials": 4})
    found = task.items("train", 10_000)
    assert 1 < len(found) < 10_000
    assert len({item.id for item in found}) == len(found)


def test_the_verifier_judges_what_is_not_the_gold_answer():
    task = GymTask("simple_integration")
    item = task.items("test", 1)[0]
    assert task.score(f"Answer: {item.answer}", item).exact == 1.0
    assert task.score(f"0 + {item.answer}", item).exact == 1.0
    assert task.score(f"x + {item.answer}", item).exact == 0.0
    assert task.score("open('x')", item).exact == 0.0
    assert task.score("", item) == task.score("  \n", item)
    # An item that somebody typed has no place; then its gold answer counts alone.
    assert task.score("24", Item("", "main", "?", "24")).exact == 1.0


def test_an_entry_is_made_again_in_another_process():
    item = GymTask("maze").items("test", 3)[2]
    code = (
        "from stratos.tasks.base import Item; from stratos.contrib.gym import GymTask; import sys;"
        "print(GymTask('maze').score(sys.argv[1], Item('', '', '', 'x', origin=sys.argv[2])).exact)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, item.answer, item.origin],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert done.stdout.split()[-1] == "1.0"


def test_what_draws_from_the_randomness_of_all_is_made_again():
    found = [item.id for item in GymTask("list_functions").items("test", 5)]
    code = (
        "from stratos.contrib.gym import GymTask;"
        "print([i.id for i in GymTask('list_functions').items('test', 5)])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.splitlines()[-1] == str(found)


def test_answers_of_several_lines_and_of_one():
    queens = GymTask("n_queens")
    item = queens.items("test", 1)[0]
    assert queens.score(f"Here it is.\nAnswer:\n{item.answer}", item).exact == 1.0
    assert queens.score(f"<answer>{item.answer}</answer> done", item).exact == 1.0
    sums = GymTask("chain_sum")
    item = sums.items("test", 1)[0]
    assert sums.score(f"First 1, then 2.\n{item.answer}", item).exact == 1.0


EVIL = [
    "__import__('os').system('touch /tmp/hacked')", "open('/etc/passwd').read()", "exec(x)",
    "x.func", "(1).__class__", "().a", "9**9**9**9", "9**99999", "9**(9+0)**9", "9**(99+0)**9",
    "(9**9)**(9*9)", "9**sqrt(9**50)", "9**(x - x + 9**9)", "9" * 100, "1" * 3000, "lambda: 1",
    "[0]*10**9", "print",
    "[x for x in y]", "x;y", "x\nimport os", "2^9^9", "getattr(x,y)", "sin(x, y)", "exp(x=1)",
    "True if x else y", "'a'", "((x+1)**30)**30", "1e999", "0**-1 if 1 else 2", "+".join("x" * 400),
    "[0 for D.x in [self] for Random.zz in ['system']]", "entry['metadata']['solution']",
    "[0 for Random.randint in [max]]",
]  # fmt: skip


@pytest.mark.parametrize("text", EVIL, ids=range(len(EVIL)))
def test_what_is_more_than_a_sum_is_never_evaluated(text):
    assert not any(is_harmless(name, text) for name in EXPRESSIONS | LISTS | BOARDS)


def test_expressions_that_answers_are_made_of_may_be_judged():
    for text in ("(50 - 3)*4 + 2/3", "-34*x**8/15 - 5*x/4 + C", "-4*(-2*x - 8)**(3/2)/3 + C",
                 "exp(2*x)*sin(x) + log(Abs(x)) + pi", "-896*x**5 + 2240*x**4"):  # fmt: skip
        assert all(is_harmless(name, text) for name in EXPRESSIONS), text


def test_verifiers_that_are_too_lenient_are_not_followed():
    entry = {"metadata": {"numbers": [3, 8, 3, 8]}}
    assert is_really_right("puzzle24", "8/(3 - 8/3)", entry)
    assert not is_really_right("puzzle24", "6*4*1*1", entry)
    assert not is_really_right("puzzle24", "8*3 + 8/3 - 2", entry)
    assert not is_really_right("puzzle24", "8*3 + 3/8", entry)
    gold = {"answer": "['1.5', '2.0']"}
    assert is_really_right("number_sorting", '["1.5", "2"]', gold)
    assert not is_really_right("number_sorting", "['2.4', '2.9']", gold)


def test_another_spelling_is_for_the_verifier_to_judge():
    task = GymTask("caesar_cipher")
    item = task.items("test", 1)[0]
    assert task.score(item.answer.lower(), item).exact == 0.0
    task = GymTask("rotate_matrix")
    item = next(one for one in task.items("test", 9) if "\n" in one.answer)
    assert task.score(" ".join(item.answer.split()), item).exact == 0.0


def test_questions_that_differ_in_signs_are_different():
    task = GymTask("n_queens")
    splits: tuple[Split, ...] = ("train", "validation", "test")
    assert [len(task.items(split, 40)) for split in splits] == [40, 40, 40]


def test_right_answers_of_these_generators_are_harmless():
    slow = {"intermediate_integration", "puzzle24", "countdown"}
    for name in sorted((EXPRESSIONS | LISTS | BOARDS) - NEED_HASH_SEED - slow):
        task = GymTask(name)
        for item in task.items("train", 2):
            assert is_harmless(name, item.answer) or name in LISTS, (name, item.answer)
            assert task.score(item.answer, item).exact == 1.0


def test_every_verifier_that_evaluates_is_guarded():
    """A version of the package that evaluates answers in more places fails here."""
    import reasoning_gym

    found = set()
    root = Path(reasoning_gym.__file__).parent
    for path in root.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        judged = text.partition("def score_answer")[2]
        if "eval(" in judged or "parse_expr(" in judged or "sympify(" in judged:
            found.add(path.stem)
    found -= {"propositional_logic"}  # its parse_expr is a parser of its own
    assert found <= LISTS | BOARDS | EXPRESSIONS | {"number_sorting"}, found


@pytest.mark.parametrize(("argv", "told"), [
    ({"name": "chain_sums"}, "there is no such generator. Did you mean chain_sum"),
    ({"name": "composite"}, "there is no such generator"),
    ({"name": "knight_swap"}, "there is no such generator"),
    ({"name": "chain_sum", "parameters": {"max_term": 3}}, "Did you mean max_terms"),
    ({"name": "chain_sum", "parameters": {"seed": 3}}, "has no such setting"),
    ({"name": "chain_sum", "parameters": {"min_terms": 9, "max_terms": 2}}, "refuses them"),
    ({"name": "acre", "level": 1}, "has no levels"),
    ({"name": "ransom_note"}, "Type PYTHONHASHSEED=0 before the command"),
    ({"name": "maze", "level": -1}, "below 0"),
])  # fmt: skip
def test_what_there_is_not_is_told(argv, told, monkeypatch):
    monkeypatch.delenv("PYTHONHASHSEED", raising=False)
    with pytest.raises(ValueError, match=told):
        GymTask(**argv)  # type: ignore[arg-type]


def test_levels_are_harder_and_settings_go_before_them():
    easy, hard = (GymTask("spell_backward", level=level).items("train", 20) for level in (0, 4))
    assert max(len(item.answer) for item in easy) < max(len(item.answer) for item in hard)
    fixed = GymTask("spell_backward", {"min_word_len": 5, "max_word_len": 5}, level=0)
    assert {len(item.answer) for item in fixed.items("train", 20)} == {5}


def test_what_has_no_gold_answer_cannot_be_made_answer_first():
    task = GymTask("graph_color")
    assert not task.can_reverse and task.answer_texts("zero_shot") == []
    assert len(task.messages(task.items("test", 1)[0])) == 2


def test_the_docs_list_every_generator():
    text = DOCS.read_text(encoding="utf-8")
    assert [name for name in names() if f"`{name}`" not in text] == []
    for listed in (WITHOUT_GOLD, NEED_HASH_SEED):
        assert all(f"`{name}`" in text for name in listed)


def test_an_answer_is_announced_at_the_beginning_of_a_line_alone():
    task = GymTask("chain_sum")
    for text in ("Answer: 7", "so\n\n **Answer:** 7", "* \n_ answer: 7", "<answer>7</answer>"):
        assert task.parse(text) == "7"
    assert task.parse("no Answer: 7") == "no Answer: 7"
    start = time.process_time()
    assert task.parse("\n" * 100_000) is None
    assert time.process_time() - start < 2


# What counts as right in the generators of reasoning-gym: the answer, and nothing beside it.

SLOW = frozenset(("sokoban",))
"""Generators that make an entry in minutes."""
N_ENTRIES = 4
OPPOSITE = {"knight": "knave", "True": "False", "Yes": "No", "on": "off"} | {
    "knave": "knight", "False": "True", "No": "Yes", "off": "on"
}  # fmt: skip
FIXED = ("nan", "inf", "-inf", "0", "banana", "None", "[]", "I do not know", "x" * 300)


def entries(name: str) -> tuple[Any, list[dict[str, Any]], list[str]]:
    """Return a generator, some of its entries, and their right answers."""
    level = 0 if source.has_levels(name) else None
    stream = source.entries(name, "{}", level, 0)
    found = [next(stream)[1] for _ in range(N_ENTRIES)]
    verifier = source.generator(name, "{}", level, source.first_of(0, 0))
    golds = ["" if one["answer"] is None else str(one["answer"]).strip() for one in found]
    return verifier, found, golds


def opposite(gold: str) -> str:
    """Return an answer that says the contrary, or the same where none is known."""
    words = "|".join(OPPOSITE)
    return re.sub(rf"\b({words})\b", lambda found: OPPOSITE[found[0]], gold)


def hostile(gold: str, other: str) -> list[str]:
    """Return texts that are no right answer, though some hold it."""
    around = ["not {}", "Not: {}", "{} (not)", "{} foo bar", "{}\nfoo", "{} {}"]
    return [
        *FIXED,
        *(one.replace("{}", gold) for one in around),
        f"{gold} {other}", f"{other} {gold}", f"{gold}, or {other}", f"{gold} But no: {other}",
        f"{gold} {opposite(gold)}", f"{opposite(gold)} {gold}", opposite(gold),
    ]  # fmt: skip


def means(text: str) -> str:
    """Return an answer without what changes nothing: spaces, a number's form, its unit."""
    text = "".join(text.split()).casefold()
    text = re.sub(r"\d+\.?\d*", lambda found: f"{float(found[0]):g}", text)
    return text.removesuffix("days")


def test_of_every_generator_the_gold_is_right_and_what_is_none_is_wrong():
    taken = []
    for name in names():
        if name in SLOW or name in source.WITHOUT_GOLD:
            continue
        verifier, found, golds = entries(name)
        entry, gold = next(one for one in zip(found, golds, strict=True) if one[1])
        others = [one for one in golds if one != gold] or ["zzz"]
        assert points_of(name, gold, verifier, entry) == 1.0, (name, gold)
        texts = {*hostile(gold, others[0])} | (set() if name in SEVERAL else {*others})
        taken += [
            (name, text, gold)
            for text in texts
            if means(text) != means(gold) and points_of(name, text, verifier, entry) >= 1.0
        ]
    assert taken == []


@pytest.mark.parametrize(("name", "wrong"), [
    ("complex_arithmetic", "nan"), ("game_of_life_halting", "banana"), ("coin_flip", "0"),
    ("gsm_symbolic", "not {}"), ("quantum_lock", "not {}"), ("letter_jumble", "{} foo bar"),
    ("knights_knaves", "{} But no: {}"), ("decimal_arithmetic", "{}9"),
    ("polynomial_equations", "banana"),
])  # fmt: skip
def test_what_the_package_takes_and_is_no_answer(name, wrong):
    verifier, found, golds = entries(name)
    for entry, gold in zip(found, golds, strict=True):
        if wrong != gold and not (wrong == "0" and float(gold) == 0):
            assert points_of(name, wrong.replace("{}", gold), verifier, entry) < 1.0


@pytest.mark.parametrize(("name", "answer", "gold"), [
    ("chain_sum", "1,234.0", "1234"), ("coin_flip", "3/8", "0.375"),
    ("complex_arithmetic", "48+36i", "48.0 + 36.0i"), ("bitwise_arithmetic", "23272", "0x5ae8"),
    ("bitwise_arithmetic", "0X5AE8", "0x5ae8"), ("time_intervals", "3", "3 days"),
    ("power_function", "2.11e-6", "2.1074564964392415e-06"),
    ("number_format", "31016.956", "31016.956000000002"),
    ("fraction_simplification", "31/39", r"$\dfrac{31}{39}$"), ("figlet_font", "a near", "ANEAR"),
    ("knights_knaves", "Jo is a knave, Al is a knight", "Al is a knight, Jo is a knave."),
    ("polynomial_equations", '""', ""), ("game_of_life", "[[0, 1]]", "[[0,1]]"),
    ("number_sorting", '["1,234", "2"]', "['1234', '2.0']"),
    ("quantum_lock", "A, B -> c", "C → C → C"), ("sokoban", "ULDR", "RR"),
    ("jugs", '["fill A", "pour A->B"]', "[]"),
])  # fmt: skip
def test_the_same_in_another_form_is_left_to_the_verifier(name, answer, gold):
    assert says_the_same(name, answer, gold)


@pytest.mark.parametrize(("name", "answer"), [
    ("sokoban", "not ULDR"), ("rush_hour", "never A+1"), ("rubiks_cube", "R U or no: D"),
    ("tower_of_hanoi", "do not Move disk 1 from Peg 1 to Peg 2"), ("jugs", '["fill A or not"]'),
    ("kakurasu", "0 1\nnot 1 0"), ("quantum_lock", "A → B not"),
])  # fmt: skip
def test_of_several_right_answers_each_is_in_its_form(name, answer):
    assert not says_the_same(name, answer, "")


class TakesAll:
    """A verifier that gives every answer all points."""

    def score_answer(self, answer: str, entry: dict[str, Any]) -> float:
        return 1.0


def test_a_verifier_that_fails_gives_no_points_and_a_rule_of_ours_that_fails_is_an_error():
    entry: dict[str, Any] = {"answer": None, "metadata": {}}
    assert points_of("chain_sum", "7", None, entry) == 0.0
    with pytest.raises(KeyError, match="numbers"):
        points_of("puzzle24", "3*8", TakesAll(), entry)


@pytest.mark.parametrize("answer", ["[" * 100_000, f"[{10**400}]", "7", "[[1]]", "{}", "[1, 'a']"])
def test_a_rule_of_ours_takes_whatever_a_model_writes(answer):
    assert points_of("number_sorting", answer, TakesAll(), {"answer": "['1', '2']"}) == 0.0


def test_a_number_that_would_fill_the_memory_is_not_handed_on():
    task = GymTask("coin_flip")
    assert task.score("1e9999999999", task.items("test", 1)[0]).exact == 0.0
