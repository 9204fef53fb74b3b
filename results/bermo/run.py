"""Does a mix of all layers help? After Kodge and Roy, BERMo (arXiv 2110.15802).

    python -m results.bermo.run GLUE-FOLDER [WORK-FOLDER] [--scale full --model bert-base-uncased]

A head that reads the last layer beside one that reads a learned mix of all: as probes of a frozen model, by how fast
they learn, and under sparsity. The same call goes on; several processes share the work with --process 0, 1, ... --do
train, then --do report. Writes runs.csv, figures and the README's part below its mark.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path
from statistics import median
from typing import Any

from layersearch.analysis.analyze import drawn
from layersearch.analysis.sentences import GENERATORS, generate
from layersearch.strategies import spell
from layersearch.tasks.task import Examples
from results.asked import Asked, Setting, Way, setting_of, words
from results.bermo.figures import draw_curves, draw_probes
from results.known import EQUAL, found
from results.learnt import Learnt
from results.machine import environment
from results.papers import train
from results.passes import Room
from results.sheet import Lines, refreshed, shown, write_readme
from results.trained import counted
from results.verdicts import FAILS, HOLDS, OPEN, by_seed, cell, difference, verdict

HERE = Path(__file__).parent
SENTENCES = 2500  # of a probing task to train on
EIGHTHS = tuple(n / 8 for n in range(1, 8))
CURVE, DROPPED = Way("curve", rungs=EIGHTHS), Way("curve-dropped", rungs=EIGHTHS)
CURVES = {CURVE.name: "unchanged", DROPPED.name: "top third dropped"}
SPARSE = (("magnitude", 0.5), ("soft-movement", 0.5), ("magnitude", 0.8), ("soft-movement", 0.8))
NEAR = 0.95  # of the final score of the model without a mix, where "as good" begins
READ = (("last layer", False), ("mix", True))
FROZEN, FASTER, MIX_LR = "frozen", "frozen-faster-mix", 0.05
PROBED = {"last layer": (FROZEN, False), "mix": (FROZEN, True), "faster mix": (FASTER, True)}  # ways, with a mix or not
SMALL = "mrpc"  # the small set of the paper is SST-2; here it is the smallest that is learnt


def sparse(method: str, share: float) -> Way:
    """The way of a share of zeros."""
    return Way(f"{method}-{share:g}", recipe=(("sparsity", share), ("sparsity_method", method)))


def frozen(layers: int) -> Way:
    """The way of a probe: only the head, its pooler and the mix are trained."""
    recipe = (("freeze", f"embeddings 0-{layers - 1}"), ("learning_rate", 1e-3), ("warmup", 0.0))
    return Way(FROZEN, epochs=3.0, recipe=recipe)


def faster(layers: int) -> Way:
    """The same with scalars that learn faster than the head: at its rate they hardly leave the even mix."""
    plain = frozen(layers)
    return replace(plain, name=FASTER, recipe=(*plain.recipe, ("mix_lr", MIX_LR)))


def with_probes(setting: Setting, room: Room) -> Setting:
    """The setting with the probing tasks as tables, written once to the work folder."""
    tables = {}
    for name in GENERATORS:
        files = tuple(setting.work / "probes" / f"{name}-{part}.csv" for part in ("train", "score"))
        if not files[1].exists():
            texts = drawn(room.prepared.splits.train, 10 * SENTENCES, 0)
            made = generate(name, [*texts.text, *(texts.pair or ())], SENTENCES, 0)
            _write(files[0], made.task.labels, made.fit, made.dev)
            _write(files[1], made.task.labels, made.test)
        tables[f"probe {name}"] = (files[0], files[1])
    return replace(setting, tables=tables)


def _write(file: Path, labels: Sequence[str], *parts: Examples) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    with part.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("text", "label"))
        for one in parts:
            writer.writerows((text, labels[label]) for text, label in zip(one.text, one.labels, strict=True))
    part.replace(file)


PARTS = ("curves", "dropped", "probes", "sparsity", "others")


def everything(
    setting: Setting, room: Room, seeds: Sequence[int], most: int | None, parts: Sequence[str] = PARTS
) -> list[Asked]:
    """What is asked, in its order: curves of the first task, those without a third of the layers, the other parts."""
    layers = room.prepared.num_layers
    first, *others = setting.scale.tasks
    small = SMALL if SMALL in setting.scale.tasks else first

    def both(task: str, way: Way) -> Iterator[Asked]:
        pattern = str(spell("top", layers, layers // 3)) if way == DROPPED else room.unchanged
        patterns = [f"{pattern} mix"] if way.name == FASTER else [pattern, f"{pattern} mix"]
        return (Asked(task, each, seed, way) for seed in seeds for each in patterns)

    found_ = {
        "curves": [(first, CURVE)],
        "dropped": [(first, DROPPED)],
        "probes": list(product(list(setting.tables)[:most], (frozen(layers), faster(layers)))),
        "sparsity": [(small, sparse(*one)) for one in SPARSE[:most]],
        "others": [(task, CURVE) for task in others[:most]],
    }
    return [one for part in PARTS if part in parts for task, way in found_[part] for one in both(task, way)]


def reached(line: Mapping[str, Any], level: float) -> float | None:
    """The share of its steps after which a training first has a score of `level`, between rungs by a straight line.

    One that has it at the first rung had it there or before: nothing is known of what lies before it.
    """
    parts = (part.partition(":") for part in line["on the way"].split())
    points = [*((float(share), float(score)) for share, _, score in parts), (1.0, float(line["score"]))]
    if points[0][1] >= level:
        return points[0][0]
    for (share, score), (then, later) in pairwise(points):
        if later >= level:
            return share + (then - share) * (level - score) / (later - score)
    return None


def convergence(runs: Lines, task: str, way: str) -> tuple[dict[int, float], dict[int, float]]:
    """Shares of the steps by seed until NEAR of the last-layer model's final score: without the mix, and with it.

    One who never comes there counts as 1, and one who is there at the first rung as the share of that.
    """
    plain, mixed = ({int(row["seed"]): row for row in _of(runs, task, way, mix)} for mix in (False, True))
    both = [seed for seed in plain if seed in mixed]
    levels = {seed: NEAR * float(plain[seed]["score"]) for seed in both}
    return tuple({seed: reached(rows[seed], levels[seed]) or 1.0 for seed in both} for rows in (plain, mixed))  # type: ignore[return-value]


def _of(runs: Lines, task: str, way: str, mix: bool) -> Lines:
    mine = (row for row in runs if (row["task"], row["way"]) == (task, way) and row["score"])
    return [row for row in mine if row["pattern"].endswith(" mix") is mix]


def scores_of(runs: Lines, task: str, way: str, mix: bool) -> dict[int, float]:
    """Scores by seed."""
    return by_seed([row for row in runs if row["pattern"].endswith(" mix") is mix], task=task, way=way)


def diverged(runs: Lines, task: str, way: str, mix: bool, constant: float) -> tuple[int, int]:
    """How many trainings failed, or score no better than a constant answer, and of how many."""
    rows = [row for row in runs if (row["task"], row["way"]) == (task, way) and row["pattern"].endswith(" mix") is mix]
    return sum(not row["score"] or float(row["score"]) <= constant + EQUAL for row in rows), len(rows)


def claims(runs: Lines, setting: Setting, constants: Mapping[str, float]) -> Lines:
    """A line a claim and task."""
    lines: Lines = []

    def told(claim: str, task: str, apart: Any, said: str, what: str = "") -> None:
        lines.append({"claim": claim, "task": task, "in points": what or str(apart), "verdict": said})

    for task in (task for task in setting.tables if any(row["task"] == task for row in runs)):
        for name, (way, mix) in PROBED.items():
            if mix and (apart := difference(scores_of(runs, task, way, mix), scores_of(runs, task, FROZEN, False))):
                told(f"a probe reads more off the {name} than off the last layer", task, apart, verdict(apart))
    for task, (way, model) in product(setting.scale.tasks, CURVES.items()):
        plain, mixed = convergence(runs, task, way)
        if plain:
            sooner = difference(plain, mixed)
            times = median(plain[seed] / mixed[seed] for seed in plain)
            what = f"{times:.2f} times; share of steps saved {sooner}"
            told(f"{model}: the mix is sooner at {NEAR:.0%} of the final score", task, sooner, verdict(sooner), what)
            apart = difference(*(scores_of(runs, task, way, mix) for mix in (True, False)))
            told(f"{model}: the mix ends better", task, apart, verdict(apart))
    for task, constant in constants.items():
        for way in (sparse(*one).name for one in SPARSE):
            pair = [scores_of(runs, task, way, mix) for mix in (True, False)]
            if any(pair):
                apart = difference(*pair)
                told(f"{way}: better with the mix", task, apart, verdict(apart), "" if apart else "not run")
                broken = [diverged(runs, task, way, mix, constant) for mix in (True, False)]
                what = "{} of {} against {} of {}".format(*broken[0], *broken[1])
                told(f"{way}: fewer diverge with the mix", task, None, fewer(*broken), what)
    return lines


def fewer(ours: tuple[int, int], theirs: tuple[int, int]) -> str:
    """Whether a rate of (so many, of so many) is below another, by Fisher's exact test at 5 % on either side."""
    from scipy.stats import fisher_exact

    table = [[broken, of - broken] for broken, of in (ours, theirs)]
    for side, said in (("less", HOLDS), ("greater", FAILS)):
        if fisher_exact(table, alternative=side).pvalue < 0.025:
            return said
    return OPEN


def sparse_table(runs: Lines, constants: Mapping[str, float]) -> Lines:
    """A line a task and way of sparsity: scores and how many diverged, without the mix and with it."""
    lines: Lines = []
    for task, constant in constants.items():
        for way in (sparse(*one).name for one in SPARSE):
            line: dict[str, Any] = {"task": task, "sparsity": way}
            for name, mix in READ:
                line[name] = cell(scores_of(runs, task, way, mix))
                line[f"{name}: diverged"] = "{} of {}".format(*diverged(runs, task, way, mix, constant))
            if line["last layer"] or line["mix"]:
                lines.append({**line, "constant answer": f"{100 * constant:.1f}"})
    return lines


def probe_table(runs: Lines, tasks: Collection[str]) -> Lines:
    """A line a probing task: scores by what is read."""
    table = [{name: cell(scores_of(runs, task, *read)) for name, read in PROBED.items()} for task in tasks]
    return [{"task": task, **line} for task, line in zip(tasks, table, strict=True) if any(line.values())]


def pair_table(runs: Lines, of: Iterable[tuple[str, str]]) -> Lines:
    """A line a task and way of a curve: scores of the last layer and of the mix."""
    lines = []
    for task, way in of:
        line = {"task": task, "model": CURVES[way]}
        line |= {name: cell(scores_of(runs, task, way, mix)) for name, mix in READ}
        if line["last layer"] or line["mix"]:
            lines.append(line)
    return lines


def report(setting: Setting, given: argparse.Namespace, asked: Sequence[Asked], learnt: Learnt) -> None:
    """Tables, figures and the README, out of what the work folder or the CSV here knows."""
    to: Path = given.to
    asked = list(filter(learnt, asked))
    runs = refreshed(to / "runs.csv", found(setting, asked))
    sparse_ways = {sparse(*one).name for one in SPARSE}
    thinned = dict.fromkeys(row["task"] for row in runs if row["way"] in sparse_ways)
    constants = {task: learnt.constant(task) for task in thinned}
    probed = probe_table(runs, setting.tables)
    pairs = pair_table(runs, product(setting.scale.tasks, CURVES))
    thin = sparse_table(runs, constants)
    parts = ["## Verdicts", shown(claims(runs, setting, constants)), "## Here", counted(runs, asked)]
    parts += learnt.told()
    if probed:
        draw_probes(runs, list(setting.tables), PROBED, to / "probes.png")
        parts += ["Probes of the frozen model, accuracy in points (seeds):", shown(probed), "![probes](probes.png)"]
    if pairs:
        drawn_ = [(line["task"], way) for line in pairs for way, model in CURVES.items() if model == line["model"]]
        draw_curves(runs, drawn_, CURVES, to / "curves.png")
        parts += ["Fine-tuned, at the end:", shown(pairs), "![scores on the way](curves.png)"]
    parts += ["With zeros in the matrices:", shown(thin)] if thin else []
    write_readme(to, [*parts, environment("torch", "transformers")])
    print("\n\n".join(parts))


def main() -> None:
    """Train, then tell."""
    options = words(__doc__, HERE)
    options.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="of the experiment")
    given = options.parse_args()
    setting = setting_of(given)
    given.to.mkdir(parents=True, exist_ok=True)
    setting.work.mkdir(parents=True, exist_ok=True)
    room = Room(setting, setting.scale.tasks[0])
    setting = with_probes(setting, room) if "probes" in given.parts else setting
    learnt = Learnt(setting, given.seeds)
    asked = learnt.in_order(everything(setting, room, given.seeds, given.patterns, given.parts))
    if given.do != "report":
        train(setting, asked, learnt)
    if given.do != "train":
        report(setting, given, asked, learnt)


if __name__ == "__main__":
    main()
