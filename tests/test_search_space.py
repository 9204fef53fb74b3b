"""Search spaces: shipped files, both kinds, exact sizes, and one clear line for every mistake in a file."""

import itertools
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from layersearch.errors import SpaceError, WordsError
from layersearch.pattern import Pattern
from layersearch.search_space import SearchSpace
from layersearch.space_files import load, shipped

CHOICES = ("keep", "drop", "attention", "ffn", "duplicate", "duplicate-tied")


class Answers:
    """A trial that answers from a dictionary, and complains about a choice that it was not offered."""

    def __init__(self, answers: dict[str, str]) -> None:
        self.answers = answers

    def suggest_categorical(self, name: str, choices: Sequence[str]) -> str:
        assert self.answers[name] in choices
        return self.answers[name]


def free_space(others: frozenset[str], low: int, more: int | None, copies: int, readout: Sequence[str]) -> SearchSpace:
    return SearchSpace(
        choices=("keep", *others),  # type: ignore[arg-type]
        copies=copies,
        min_layers=low,
        max_layers=None if more is None else low + more,
        start=("top", "duplicate", "ffn-only"),
        readout=readout,  # type: ignore[arg-type]
    )


READOUTS = [("last",), ("last", "mix")]
free_spaces = st.builds(
    free_space,
    st.frozensets(st.sampled_from(CHOICES[1:]), min_size=1),
    st.integers(1, 6),
    st.none() | st.integers(0, 6),
    st.integers(1, 2),
    st.sampled_from(READOUTS),
)


def assignments(space: SearchSpace, num_layers: int) -> set[Pattern]:
    """Every pattern of a space of choices, by trying all assignments."""
    found = set()
    for *answers, readout in itertools.product(*[space.choices] * num_layers, space.readout):
        trial = Answers({**{f"layer_{layer}": choice for layer, choice in enumerate(answers)}, "readout": readout})
        found.add(space.suggest(trial, num_layers))
    return {pattern for pattern in found if pattern is not None}


@given(free_spaces, st.integers(1, 4))
def test_size_order_and_membership_agree_with_trying_everything(space: SearchSpace, num_layers: int) -> None:
    listed = list(space.patterns(num_layers))
    assert set(listed) == assignments(space, num_layers)
    assert len(listed) == len(set(listed)) == space.size(num_layers)
    assert Pattern.full(num_layers) in listed
    assert all(space.params_of(pattern, num_layers) is not None for pattern in listed)


@given(free_spaces, st.integers(1, 12), st.randoms(use_true_random=False))
def test_what_is_drawn_can_be_enqueued_and_comes_back(space: SearchSpace, num_layers: int, rng: random.Random) -> None:
    pattern = space.sample(num_layers, rng)
    params = space.params_of(pattern, num_layers)
    assert params is not None
    assert list(params) == [f"layer_{layer}" for layer in range(num_layers)] + ["readout"] * space.mixes
    assert space.suggest(Answers(params), num_layers) == pattern


@given(free_spaces, st.integers(1, 12))
def test_start_points_are_inside_and_begin_with_the_unchanged_model(space: SearchSpace, num_layers: int) -> None:
    starts = space.start_points(num_layers)
    assert starts[0] == Pattern.full(num_layers)
    assert len(set(starts)) == len(starts)
    assert all(space.params_of(pattern, num_layers) is not None for pattern in starts)


@pytest.mark.parametrize("name", shipped())
@pytest.mark.parametrize("num_layers", [2, 6, 12, 24])
def test_shipped_spaces_load_and_preview(name: str, num_layers: int) -> None:
    space = load(name)
    space.check(num_layers)
    assert space.about
    first = list(itertools.islice(space.patterns(num_layers), 100))
    assert first[0] == Pattern.full(num_layers)
    assert len(first) == min(100, space.size(num_layers))
    for pattern in (*first, *space.start_points(num_layers), space.sample(num_layers, random.Random(0))):
        pattern.check(num_layers)
        params = space.params_of(pattern, num_layers)
        assert params is not None
        assert space.suggest(Answers(params), num_layers) == pattern


def test_shipped_sizes() -> None:
    assert shipped() == (
        *("duplication", "duplication-tied", "dynabert", "every-strategy", "everything", "halves"),
        *("klein-half-layer", "klein-layer", "layers", "measured", "mix", "sajjad", "strategies"),
        "undivided-attention",
    )
    assert len(load("strategies").strategies) == 8  # studies over it go on only while its text is the same
    assert load("layers").size(6) == 2**6 - 1
    assert load("layers").size(24) == 2**24 - 1
    assert load("halves").size(12) == 4**12 - 1
    assert load("mix").size(12) == 2 * load("layers").size(12)
    assert load("everything").size(12) == 5**12 - 1
    # Sajjad's five for 6 layers: 5 + 5 + 3 + 3 + 2, the unchanged model, less `0-4` (top and alternate-even).
    assert load("sajjad").size(6) == 18
    assert load("undivided-attention").size(12) == load("duplication").size(12) == 2**12
    assert load("klein-half-layer").size(12) == load("halves").size(12)


def test_shipped_spaces_are_those_of_the_papers() -> None:
    assert [str(pattern) for pattern in load("dynabert").patterns(12)] == ["0-11", "0-2 4-6 8-10", "0 2 4 6 8 10"]
    assert {str(p) for p in load("undivided-attention").patterns(2)} == {"0-1", "0 1a", "0a 1", "0a 1a"}
    assert {str(p) for p in load("duplication").patterns(2)} == {"0-1", "0-1 1", "0 0 1", "0 0 1 1"}
    assert {str(p) for p in load("duplication-tied").patterns(2)} == {"0-1", "0-1 1t", "0 0t 1", "0 0t 1 1t"}
    assert load("klein-layer").start_points(12) == load("klein-half-layer").start_points(12) == (Pattern.full(12),)
    bits = load("klein-half-layer").params_of(Pattern.parse("0a 2f"), 3) or {}
    assert list(bits) == [f"layer_{layer}_{half}" for layer in range(3) for half in ("attention", "ffn")]
    assert list(bits.values()) == ["keep", "drop", "drop", "drop", "drop", "keep"]


def test_layers_are_repeated_as_often_as_the_space_says() -> None:
    named = SearchSpace(strategies=("duplicate", "duplicate-tied", "top"), max_k=1, copies=3)
    assert [str(pattern) for pattern in named.patterns(2)] == ["0-1", "0-1 1 1 1", "0-1 1t 1t 1t", "0"]
    free = SearchSpace(choices=("keep", "duplicate"), copies=2, start=("duplicate",))
    assert {str(pattern) for pattern in free.patterns(2)} == {"0-1", "0-1 1 1", "0 0 0 1", "0 0 0 1 1 1"}
    assert [str(pattern) for pattern in free.start_points(2)] == ["0-1", "0-1 1 1", "0 0 0 1 1 1"]


def test_measured_strategies_spell_what_the_space_is_told() -> None:
    told = {"contribution": [Pattern.parse("0 2-3"), Pattern.parse("0 3")], "angular": [Pattern.parse("1-3")]}
    space = SearchSpace(strategies=("contribution", "top"), max_k=2)
    assert space.unmeasured == ("contribution",)
    assert [str(pattern) for pattern in space.patterns(4)] == ["0-3", "0-2", "0-1"]
    known = space.knowing(told)
    assert known.unmeasured == ()
    assert [str(pattern) for pattern in known.patterns(4)] == ["0-3", "0 2-3", "0-2", "0 3", "0-1"]
    assert known.canonical() == space.canonical()
    free = SearchSpace(choices=("keep", "drop"), start=("angular", "ffn-only-influence"))
    assert free.idle(4) == ()
    assert [str(pattern) for pattern in free.knowing(told).start_points(4)] == ["0-3", "1-3"]
    assert free.knowing(told).idle(4) == ("ffn-only-influence",)


def test_a_space_of_measured_strategies_is_empty_only_when_they_are_known_to_be() -> None:
    space = SearchSpace(strategies=("angular",), min_k=5)
    space.check(4)
    with pytest.raises(SpaceError, match="nothing but the unchanged model of 4 layers: `min_k` is 5"):
        space.knowing({"angular": [Pattern.parse("1-3")]}).check(4)


def test_start_points_take_a_small_k_of_every_strategy_first() -> None:
    texts = [str(pattern) for pattern in load("layers").start_points(6)]
    assert texts[:8] == ["0-5", "0-4", "0-3 5", "1-5", "0-3", "0-1 3 5", "0-2 4", "0-1 4-5"]
    assert [str(p) for p in load("every-strategy").start_points(6)][:7] == [
        "0-5", "0-4", "1-5", "0-3 5", "0-2 4-5", "0-4 5a", "0a 1-5",
    ]  # fmt: skip


def test_nothing_and_too_much_lie_outside() -> None:
    space = SearchSpace(choices=("keep", "drop"), min_layers=2, max_layers=3)
    assert space.suggest(Answers({f"layer_{i}": "drop" for i in range(4)}), 4) is None
    assert space.suggest(Answers({"layer_0": "keep"} | {f"layer_{i}": "drop" for i in range(1, 4)}), 4) is None
    assert space.params_of(Pattern.parse("0"), 4) is None
    for text in ("0a 1-3", "0 0 1", "1 0", "0-2 1"):
        assert space.params_of(Pattern.parse(text), 4) is None
    assert space.suggest(Answers({f"layer_{i}": "keep" for i in range(4)}), 4) == Pattern.full(4)


def test_a_space_of_strategies_suggests_from_its_list() -> None:
    space = SearchSpace(strategies=("top", "bottom"), min_k=2, max_k=3)
    assert [str(p) for p in space.patterns(6)] == ["0-5", "0-3", "2-5", "0-2", "3-5"]
    assert space.size(6) == 5
    assert space.params_of(Pattern.parse("0-4"), 6) is None
    assert space.params_of(Pattern.parse("2-5"), 6) == {"pattern": "2-5"}


@pytest.mark.parametrize("name", shipped())
def test_optuna_asks_and_enqueues(name: str) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space, study = load(name), optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    starts = space.start_points(6)
    for pattern in starts:
        study.enqueue_trial(space.params_of(pattern, 6) or {})
    assert tuple(space.suggest(study.ask(), 6) for _ in starts) == starts
    for _ in range(20):
        pattern_or_none = space.suggest(study.ask(), 6)
        assert pattern_or_none is None or space.params_of(pattern_or_none, 6) is not None


def test_every_pattern_is_equally_likely() -> None:
    space, rng = SearchSpace(choices=("keep", "drop", "duplicate"), max_layers=2), random.Random(0)
    drawn = [space.sample(3, rng) for _ in range(200 * space.size(3))]
    counts = [drawn.count(pattern) for pattern in space.patterns(3)]
    assert sum(counts) == len(drawn)
    assert 140 < min(counts) <= max(counts) < 260


def test_the_stable_text_ignores_wording_and_order(tmp_path: Path) -> None:
    first, second = tmp_path / "a.toml", tmp_path / "b.toml"
    first.write_text('choices = ["drop", "keep"]\nmin_layers = 1\n')
    second.write_text('about = "other words"\nchoices = ["keep", "drop"]\n')
    assert load(str(first)).canonical() == load(str(second)).canonical() == '{"choices": ["keep", "drop"]}'
    second.write_text('choices = ["keep", "drop"]\nmin_layers = 2\n')
    assert load(str(first)).canonical() != load(str(second)).canonical()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("choises = ['keep']", "unknown key 'choises' (did you mean 'choices'?); allowed: about, choices, min_layers"),
        (
            "choices = ['keep', 'drp']",
            "`choices`: unknown choice 'drp' (did you mean 'drop'?); allowed: keep, drop",
        ),
        ("choices = ['keep', 3]", "`choices`: unknown choice '3'; allowed: keep, drop"),
        ("choices = ['keep']", "`choices` must hold 'keep' (the unchanged model is measured first) and at least one"),
        ("choices = ['drop', 'ffn']", "`choices` must hold 'keep'"),
        ("", "give either `choices` (what each layer may become) or `strategies`, not both and not none"),
        ("strategies = []", "give either `choices`"),
        ("strategies = ['top']\nchoices = ['keep', 'drop']", "give either `choices`"),
        ("strategies = ['topp']", "`strategies`: unknown strategy 'topp' (did you mean 'top'?); allowed: top, bottom"),
        ("strategies = 'top'", "`strategies`: should be a list, got top"),
        ("strategies = ['top']\nmin_layers = 2", "`min_layers` says nothing in a space of `strategies`; remove it"),
        ("strategies = ['top']\nmin_k = 3\nmax_k = 1", "`min_k` is 3 and `max_k` is 1: nothing fits"),
        ("choices = ['keep', 'drop']\nmax_k = 1", "`max_k` says nothing in a space of `choices`; remove it"),
        ("choices = ['keep', 'drop']\nstart = ['tp']", "`start`: unknown strategy 'tp'"),
        ("choices = ['keep', 'drop']\nmin_layers = 0", "`min_layers`: should be greater than or equal to 1, got 0"),
        ("strategies = ['contribtion']", "`strategies`: unknown strategy 'contribtion' (did you mean 'contribution'?)"),
        ("strategies = ['top']\ndepths = [0.5, 1.5]", "`depths`: 1.5 is no share of the layers to keep: above 0 and"),
        ("strategies = ['top']\ndepths = [0.5]\nmax_k = 2", "`depths` says which k there are: leave out `min_k` and"),
        ("choices = ['keep', 'drop']\ndepths = [0.5]", "`depths` says nothing in a space of `choices`; remove it"),
        ("choices = ['keep', 'drop']\ncopies = 2", "`copies` says nothing in a space that duplicates no layer; remove"),
        ("choices = ['keep', 'duplicate']\ncopies = 0", "`copies`: should be greater than or equal to 1, got 0"),
        (
            "choices = ['keep', 'ffn']\nseparate_halves = true",
            "`separate_halves` needs exactly the choices keep, drop, ",
        ),
        ("choices = ['keep', 'drop']\nreadout = ['mix']", "`readout`: it must hold 'last' (the unchanged model is mea"),
        ("choices = ['keep', 'drop']\nreadout = ['lst']", "`readout`: unknown choice 'lst' (did you mean 'last'?); al"),
        ("choices = ['keep', 'drop']\nmin_layers = 'a'", "`min_layers`: should be a valid integer, got a"),
        ("choices = ['keep', 'drop']\nmin_layers = 4\nmax_layers = 3", "`min_layers` is 4 and `max_layers` is 3: "),
    ],
)
def test_a_mistake_in_a_file_is_one_line_with_file_and_key(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(SpaceError) as caught:
        load(str(file))
    assert str(caught.value).startswith(f"search space {file}: {message}")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_toml_or_not_there(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("choices = [")
    with pytest.raises(SpaceError, match=r"mine\.toml cannot be read as TOML: "):
        load(str(file))
    with pytest.raises(SpaceError, match=r"no search space file .*other\.toml; shipped spaces: duplication, dupl"):
        load(str(tmp_path / "other.toml"))
    with pytest.raises(WordsError, match=r"unknown search space 'layrs' \(did you mean 'layers'\?\); allowed: dupl"):
        load("layrs")


def test_a_model_too_shallow_for_the_space() -> None:
    space = SearchSpace(choices=("keep", "drop"), min_layers=9)
    with pytest.raises(
        SpaceError, match=r'nothing but the unchanged model of 6 layers: `min_layers` is 9; widen .*"min_layers":9'
    ):
        space.check(6)
    space.check(12)


def test_neighbours_differ_in_one_layer_and_stay_inside() -> None:
    space = SearchSpace(choices=("keep", "drop", "attention"), min_layers=2)
    assert {str(pattern) for pattern in space.neighbours(Pattern.parse("0 2"), 3)} == {
        *("0a 2", "0 2a", "0-2", "0 1a 2"),
    }
    assert list(SearchSpace(strategies=("top",)).neighbours(Pattern.full(3), 3)) == []


def test_a_mix_stands_beside_every_pattern() -> None:
    named = SearchSpace(strategies=("top",), readout=("mix", "last"))
    assert [str(p) for p in named.patterns(3)] == ["0-2", "0-2 mix", "0-1", "0-1 mix", "0", "0 mix"]
    free = SearchSpace(choices=("keep", "drop"), readout=("last", "mix"), start=("top",), min_layers=2)
    assert [str(p) for p in free.start_points(3)] == ["0-2", "0-2 mix", "0-1", "0-1 mix"]
    assert {str(p) for p in free.neighbours(Pattern.parse("0-2 mix"), 3)} == {"0-2", "0-1 mix", "0 2 mix", "1-2 mix"}
    assert free.params_of(Pattern.parse("0 2 mix"), 3) == {**named_choices("keep", "drop", "keep"), "readout": "mix"}
    plain = SearchSpace(choices=("keep", "drop"))
    assert plain.params_of(Pattern.parse("0 2 mix"), 3) is None
    assert plain.params_of(Pattern.parse("0 2"), 3) == named_choices("keep", "drop", "keep")
    whole = SearchSpace(choices=("keep",), readout=("last", "mix"))  # BERMo's: all layers
    assert [str(p) for p in whole.patterns(3)] == ["0-2", "0-2 mix"]
    assert whole.size(3) == 2
    limited = SearchSpace(choices=("keep", "drop"), readout=("last", "mix"), max_layers=1)
    assert {str(p) for p in limited.patterns(2)} == {"0-1", "0", "0 mix", "1", "1 mix"}
    assert limited.size(2) == 5
    assert {limited.sample(2, random.Random(seed)) for seed in range(64)} == set(limited.patterns(2))
    assert '"readout": ["last", "mix"]' in free.canonical()
    assert "readout" not in plain.canonical()


def named_choices(*choices: str) -> dict[str, str]:
    return {f"layer_{layer}": choice for layer, choice in enumerate(choices)}


def test_the_light_modules_stay_light() -> None:
    heavy = "torch ray transformers optuna numpy datasets"
    names = "layersearch.search_space, layersearch.strategies, layersearch.models.families"
    code = f"import sys, {names}; print(*sorted(set('{heavy}'.split()) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "\n", "")


def test_strategies_without_a_pattern_are_idle() -> None:
    assert SearchSpace(choices=("keep", "drop"), start=("top", "symmetric")).idle(6) == ()
    assert SearchSpace(choices=("keep", "drop"), start=("top", "symmetric")).idle(2) == ("symmetric",)
    assert SearchSpace(choices=("keep", "drop"), start=("ffn-only", "top", "duplicate")).idle(6) == (
        "ffn-only",
        "duplicate",
    )
    assert SearchSpace(choices=("keep", "drop"), start=("symmetric", "top"), min_layers=5).idle(6) == ("symmetric",)
    assert SearchSpace(strategies=("top", "alternate-odd"), min_k=4).idle(6) == ("alternate-odd",)
    assert SearchSpace(choices=("keep", "drop")).idle(2) == ()
