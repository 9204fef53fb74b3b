"""The shared options: each default stands once, a command gets what it asks for, wrong words are one line.

Knows: signatures, the values they make, and what is said about a word. Does not know: what the commands do.
"""

from __future__ import annotations

from dataclasses import fields
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

import pytest

from layersearch import cli
from layersearch.errors import LayersearchError
from layersearch.options import Asked, asked, placed
from layersearch.recipe_options import Seed, recipe_of
from layersearch.search.question import How, Lookup, What
from layersearch.spelled import OF_A_TABLE, OF_TRAINING, spelled_out
from layersearch.tasks import TASKS
from layersearch.training.recipe import PRESETS, Recipe, preset
from tests.conftest import Said, call


def test_without_options_the_answers_are_those_of_the_values_themselves() -> None:
    what = asked("m", "sst2")
    assert what == What("m", "sst2")
    assert placed(what) == How("m-sst2-layers")
    assert placed(what, study="mine") == How("mine")


def test_each_option_arrives_in_its_own_field() -> None:
    recipe = Recipe(0.5, 3, 2.0, 0.25, 0.125, Recipe.max_grad_norm, 9, 7, "bf16")
    expected = What("m", "t", Path("d"), "s", recipe, "R", 0.5, "v")
    assert recipe_of("default", 0.5, 3, 2.0, 0.25, 0.125, 9, "bf16", 7) == recipe
    assert asked("m", "t", Path("d"), "s", recipe, 7, "R", 0.5, "v") == expected
    place = ("n", "db", Path("f"), 2, "cpu", "ray", 5)
    how = How(*place, 5400, until_plateau=True, start_from=("a", "b@c"), keep="all", disk=2_500_000_000)
    assert placed(expected, *place, "1h30m", True, ["a", "b@c"], "all", "2.5gb") == how
    looked_up = Lookup(Path("t.csv"), "acc", (("task", "rte"), ("k", "a=b")), "minimize", "s", "R", 3)
    where = ["task=rte", "k=a=b"]
    given = asked(space="s", sampler="R", seed=3, replay=Path("t.csv"), score="acc", where=where, minimize=True)
    assert given == looked_up
    assert placed(looked_up).name == "t-s"


def test_every_field_of_how_has_an_option() -> None:
    assert len(signature(placed).parameters) - 1 == len(fields(How))


def test_a_recipe_is_taken_by_name_and_changed_by_what_is_given() -> None:
    assert recipe_of("demo", epochs=7.0) == preset("demo").with_(epochs=7.0)
    assert asked("m", "t", recipe=recipe_of("demo")) == What("m", "t", recipe=preset("demo"))
    with pytest.raises(LayersearchError, match="unknown recipe 'dmo'"):
        recipe_of("dmo")


def test_every_field_of_a_recipe_has_an_option_but_the_norm_that_clips() -> None:
    names = {"lr" if f.name == "learning_rate" else f.name for f in fields(Recipe)}
    assert names - set(signature(recipe_of).parameters) == {"max_grad_norm"}


def test_each_option_of_a_recipe_arrives_in_its_field() -> None:
    zeros: dict[str, Any] = {
        "sparsity": 0.5,
        "sparsity_method": "soft-movement",
        "sparsity_scope": "local",
        "sparsity_lr": 0.25,
    }
    zeros |= {"sparsity_steps": "0.1-0.6", "sparsity_penalty": 2.0}
    given: dict[str, Any] = {
        "batch_size": 3,
        "epochs": 2.0,
        "warmup": 0.25,
        "weight_decay": 0.125,
        "max_length": 9,
        "seed": 7,
    }
    given |= {"precision": "bf16", "freeze": "embeddings", "drop_every": 0.5, "mix": "norm", "mix_lr": 0.5}
    given |= {"teach": "hidden", "start_weights": "pre-trained", **zeros}
    assert {"recipe", "lr", *given} == set(signature(recipe_of).parameters)
    made = recipe_of("default", lr=0.75, **given)
    assert vars(made) == vars(preset("default")) | {"learning_rate": 0.75, **given}


def test_a_command_gets_the_values_it_asks_for_in_place_of_their_options() -> None:
    got: list[tuple[Asked, How, int]] = []

    @spelled_out
    def command(*, what: Asked, extra: Seed = 5, how: How) -> None:
        """Says something."""
        got.append((what, how, extra))

    options = signature(command).parameters
    own = list(signature(asked).parameters)
    place = own.index("recipe")
    own = list(dict.fromkeys([*own[:place], *signature(recipe_of).parameters, *own[place:]]))
    assert list(options) == [*own, "extra", *[name for name in signature(placed).parameters if name != "what"]]
    assert [name for name, option in options.items() if option.default is Parameter.empty] == []
    assert command.__doc__ == "Says something."
    given = {name: option.default for name, option in options.items()} | {"model": "m", "task": "t", "workers": 2}
    command(**given)
    assert got == [(What("m", "t"), How("m-t-layers", workers=2), 5)]


def test_the_help_names_every_task_and_recipe() -> None:
    text = call("run", "--help").out
    for name in (*TASKS, *PRESETS):
        assert name in text.split("--sampler")[0], name


def test_plan_takes_every_word_of_run() -> None:
    run, plan = (set(signature(command).parameters) for command in (cli.run, cli.plan))
    assert plan - run == {"limit", "as_json", "as_csv"}
    assert run < plan


def test_words_beside_a_table_are_options_of_run() -> None:
    assert set(signature(cli.run).parameters) >= OF_TRAINING | OF_A_TABLE


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1800), ("2h", 7200), ("1h30m", 5400), ("1H5S", 3605)]
)
def test_a_time_is_hours_minutes_and_seconds(text: str, seconds: float) -> None:
    assert placed(What("m", "t"), time=text).seconds == seconds


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("run", "name --model and --task, or a table of known scores with --replay FILE"),
        ("plan --model m", "name --model and --task, or a table of known scores with --replay FILE"),
        ("run --replay t.csv --task rte", "--replay takes scores from a table and trains nothing; leave out --task"),
        (
            "plan --replay t.csv --confirm 3 --lr 1e-3 --workers 2 --method distill --data d",
            "--replay takes scores from a table and trains nothing; "
            "leave out --data, --lr, --method, --confirm and --workers",
        ),
        ("run --model m --task t --score f1", "--score needs a table of known scores; name it with --replay FILE"),
        (
            "run --model m --task t --minimize --where a=b",
            "--where and --minimize need a table of known scores; name it with --replay FILE",
        ),
        ("run --replay t.csv --where rte", "--where rte is not possible; allowed: COLUMN=VALUE, such as task=rte"),
        (
            "run --replay t.csv --where task=a --where task=b",
            "--where names the column task twice; a row has one value in it: choose one",
        ),
        (
            "run --model m --task t --method one-short",
            "unknown --method 'one-short' (did you mean 'one-shot'?); "
            "allowed: one-shot, distill, tune-drop-tune, fine-tune, halving",
        ),
        ("run --replay t.csv --where =rte", "--where =rte is not possible; allowed: COLUMN=VALUE, such as task=rte"),
        *(
            (
                f"run --model m --task t --time {text}",
                f"--time {text} is not possible; allowed: a time such as 90s, 30m, 2h or 1h30m",
            )
            for text in ("30", "0m", "m", "-5m", "1.5h", "30m1h", "soon")
        ),
        ("front --json --csv", "--json and --csv are two forms of one output; give one of them"),
        ("plan --replay t.csv --json --csv", "--json and --csv are two forms of one output; give one of them"),
        ("frnt", "no such command 'frnt'. Did you mean 'front'? See `layersearch --help`"),
        ("fly", "no such command 'fly'. See `layersearch --help`"),
        ("--frob", "unknown option '--frob'. See `layersearch --help`"),
        ("run --trails 3", "unknown option '--trails' (did you mean '--trials'?). See `layersearch run --help`"),
        ("front --frob", "unknown option '--frob'. See `layersearch front --help`"),
        ("front a b", "got unexpected extra argument(s) (b). See `layersearch front --help`"),
        ("run --model", "option '--model' requires an argument"),
        ("run --model m --task t --trials 0", "--trials 0 is not possible; allowed: greater than or equal to 1"),
        ("plan --model m --task t --trials many", "--trials many is not possible; allowed: a valid integer"),
        ("run --model m --task t --lr fast", "--lr fast is not possible; allowed: a valid number"),
        ("run --model m --task t --workers -1", "--workers -1 is not possible; allowed: greater than or equal to 0"),
        (
            "export --trial 1 --to x --form onx",
            "unknown --form 'onx' (did you mean 'onnx'?); allowed: native, code, onnx",
        ),
        (
            "run --model m --task own --text a",
            "--text and --label name the two columns of a table of your own: add --label COLUMN",
        ),
        (
            "run --model m --task own --metric f1",
            "--metric is about a table of your own: name its columns too, with --text COLUMN and --label COLUMN",
        ),
        ("dashboard --port 70000", "--port 70000 is not possible; allowed: less than or equal to 65535"),
    ],
)
def test_words_that_a_command_does_not_take_are_one_line_and_exit_2(words: str, line: str) -> None:
    assert call(*words.split()) == Said(2, "", f"error: {line}\n")
