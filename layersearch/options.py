"""The options that commands share, each listed once: what is asked, how it is done, and what was wrong with a word.

Knows: their words, help and types; the defaults are those of What, How and Recipe. Does not know: commands, or how
anything is done.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any

import typer

from layersearch.names import nearest
from layersearch.search.question import How, Method, What
from layersearch.training.recipe import PRESETS, Recipe, preset

CONFIRM = 3

Model = Annotated[
    str, typer.Option(help="Base model: hub name, folder, or package:NAME/FOLDER inside an installed Python package.")
]
Task = Annotated[str, typer.Option(help="cola, sst2, mrpc, stsb, qqp, mnli, qnli, rte, wnli or demo.")]
Data = Annotated[
    Path | None, typer.Option(help="Folder with the task's TSV files in GLUE's layout, instead of the hub.")
]
Space = Annotated[str, typer.Option(help="Search space: a shipped name (layers, halves, ...) or a TOML file.")]
Revision = Annotated[str | None, typer.Option(help="Revision of the base model on the hub.")]
Sampler = Annotated[str, typer.Option(help="Optuna sampler by class name, such as TPESampler or RandomSampler.")]
Holdout = Annotated[float, typer.Option(help="Share of the training data that scores the search.")]
RecipeName = Annotated[str, typer.Option("--recipe", help=f"{', '.join(PRESETS)}.")]
LearningRate = Annotated[float | None, typer.Option("--lr", help="Peak learning rate, instead of the recipe's.")]
BatchSize = Annotated[int | None, typer.Option(help="Examples a step, instead of the recipe's.")]
Epochs = Annotated[float | None, typer.Option(help="Passes over the training part, instead of the recipe's.")]
Warmup = Annotated[float | None, typer.Option(help="Share of the steps in which the learning rate rises.")]
WeightDecay = Annotated[float | None, typer.Option(help="Weight decay, instead of the recipe's.")]
MaxLength = Annotated[int | None, typer.Option(help="Tokens an example, instead of the recipe's.")]
Precision = Annotated[str | None, typer.Option(help="auto (bf16 where the hardware has it), bf16 or fp32.")]
Seed = Annotated[int, typer.Option(help="Seed of the split, the sampler and the fine-tuning.")]

MethodName = Annotated[
    Method,
    typer.Option(
        help="one-shot: the best ones of a super-network; distill: each from the fine-tuned unchanged model, taught by "
        "it; fine-tune: each from the pre-trained model; halving: so too, and in steps, the best further than the rest."
    ),
]

StudyOption = Annotated[str | None, typer.Option("--study", help="Name of the study; default MODEL-TASK-SPACE.")]
Storage = Annotated[
    str, typer.Option(help="SQLite file or SQLAlchemy URL of the database.", envvar="LAYERSEARCH_STORAGE")
]
Files = Annotated[Path, typer.Option(help="Folder for checkpoints.")]
Workers = Annotated[
    int | None, typer.Option(min=0, help="Candidates at once; default one a core or GPU, 0 without Ray.")
]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
RayAddress = Annotated[str, typer.Option(help="local, or the address of a running Ray cluster.")]
StallSeconds = Annotated[float, typer.Option(min=1, help="A worker without progress for so long is ended.")]

Trials = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Finished trials that the study shall hold, those stopped by halving too; a larger number goes on. "
        "Default 40; one-shot: its front.",
    ),
]
Confirm = Annotated[int, typer.Option(min=0, help="Fresh seeds that confirm each front member; 0 leaves it out.")]
StudyName = Annotated[
    str | None, typer.Argument(metavar="[STUDY]", help="Name of the study; may be left out if alone.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
AsCsv = Annotated[bool, typer.Option("--csv", help="Print CSV.")]


def asked(
    model: Model,
    task: Task,
    data: Data = What.data,
    space: Space = What.space,
    recipe: RecipeName = "default",
    lr: LearningRate = None,
    batch_size: BatchSize = None,
    epochs: Epochs = None,
    warmup: Warmup = None,
    weight_decay: WeightDecay = None,
    max_length: MaxLength = None,
    precision: Precision = None,
    seed: Seed = Recipe.seed,
    sampler: Sampler = What.sampler,
    holdout: Holdout = What.holdout,
    revision: Revision = What.revision,
    method: MethodName = What.method,
) -> What:
    """What is asked: everything that decides a result, and is stored in the study."""
    changed = preset(recipe).with_(
        learning_rate=lr,
        batch_size=batch_size,
        epochs=epochs,
        warmup=warmup,
        weight_decay=weight_decay,
        max_length=max_length,
        precision=precision,
        seed=seed,
    )
    return What(model, task, data, space, changed, sampler, holdout, revision, method)


def placed(
    what: What,
    study: StudyOption = None,
    storage: Storage = How.storage,
    files: Files = How.files,
    workers: Workers = How.workers,
    device: Device = How.device,
    ray_address: RayAddress = How.ray_address,
    stall_seconds: StallSeconds = How.stall_seconds,
) -> How:
    """How it is done: everything that decides only speed and place."""
    return How(study or what.default_name, storage, files, workers, device, ray_address, stall_seconds)


_MAKERS: Mapping[Any, Callable[..., Any]] = {What: asked, How: placed}


def spelled_out(command: Callable[..., None]) -> Callable[..., None]:
    """The command as Typer shall see it: with the options that make a What or How in place of such a parameter."""

    @wraps(command)
    def with_options(**given: Any) -> None:
        _filled(command, given)

    options = [option.replace(kind=Parameter.KEYWORD_ONLY) for option in _options(command).values()]
    with_options.__signature__ = Signature(options)  # type: ignore[attr-defined]
    return with_options


def _options(function: Callable[..., Any]) -> dict[str, Parameter]:
    found: dict[str, Parameter] = {}
    for name, parameter in signature(function, eval_str=True).parameters.items():
        maker = _MAKERS.get(parameter.annotation)
        found |= _options(maker) if maker else {name: parameter}
    return found


def _filled(function: Callable[..., Any], given: Mapping[str, Any]) -> Any:
    """The answer of `function` to the options it takes among those given."""
    makers = {name: _MAKERS.get(p.annotation) for name, p in signature(function, eval_str=True).parameters.items()}
    return function(**{name: _filled(maker, given) if maker else given[name] for name, maker in makers.items()})


def refused(error: typer.TyperException) -> str:
    """One line about words that Typer does not take: what was given, and what is allowed or where to look for it."""
    from pydantic import ValidationError

    about, cause = vars(error), error.__cause__
    if isinstance(error, typer.BadParameter) and error.param is not None and isinstance(cause, ValidationError):
        found = cause.errors()[0]
        allowed = found["msg"].removeprefix("Input should be ").partition(", unable to")[0]
        return _one_line(f"{error.param.opts[0]} {found['input']} is not possible; allowed: {allowed}")
    text = error.format_message().rstrip(".")
    if "possibilities" in about:
        option = about["option_name"]
        text = f"unknown option {option!r}{nearest(option, about['possibilities'] or ())}"
    context = about.get("ctx")
    look = f"{'' if text.endswith('?') else '.'} See `{context.command_path} --help`" if context is not None else ""
    return _one_line(text[0].lower() + text[1:] + look)


def _one_line(text: str) -> str:
    return " ".join(text.split())
