"""Do duplicated layers help? After Kao et al. (arXiv 2001.09309).

    python -m results.kao.run GLUE-FOLDER [WORK-FOLDER] [--scale full --model bert-base-uncased]

What removing or duplicating each layer does to the answers, and deepened models fine-tuned against the unchanged one
and two controls. The same call goes on; several processes share the work with --process 0, 1, ... --do train, then
--do report. Writes runs.csv, further tables, figures and the README's part below its mark.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from layersearch.pattern import Block, Pattern
from results.asked import PLAIN, Asked, Setting, Way, setting_of, words
from results.kao.figures import draw_agreement, draw_deepened
from results.known import found
from results.learnt import Learnt
from results.machine import environment
from results.papers import train
from results.passes import Room, answers, last_states
from results.sheet import Lines, kept, kept_by_seed, lacks, refreshed, shown, write_readme
from results.trained import claim_lines, counted, tasks_in
from results.verdicts import by_seed, cell, difference, interval_of, verdict

HERE = Path(__file__).parent
ALIKE = 0.9  # from here on answers hardly change


@dataclass(frozen=True)
class Deepened:
    """A model with `copies` more layers behind `layer`, or (None) with none, and what kind of layers they are."""

    kind: str
    layer: int | None
    copies: int
    pattern: str
    way: Way = PLAIN


def repeated(layers: int, layer: int, copies: int, *, tied: bool = False) -> str:
    """The unchanged model with copies of a layer behind it."""
    blocks = [Block(n) for n in range(layers)]
    blocks[layer + 1 : layer + 1] = [Block(layer, tied=tied)] * copies
    return str(Pattern(tuple(blocks)))


def with_fresh(layers: int, layer: int) -> str:
    """The same with a layer that was never trained, which is the last one of the base model of `fresh_base`."""
    blocks = [Block(n) for n in range(layers)]
    blocks.insert(layer + 1, Block(layers))
    return str(Pattern(tuple(blocks)))


def rounds(layers: int, fresh: Path) -> list[list[Deepened]]:
    """What is trained: own copies and both controls first, then tied ones and two copies."""
    places = (0, layers // 2 - 1, layers - 1)
    whole = str(Pattern.full(layers))

    def copied(kind: str, copies: int) -> list[Deepened]:
        tied = kind == "tied"
        return [Deepened(kind, at, copies, repeated(layers, at, copies, tied=tied)) for at in places]

    def longer(copies: int) -> Deepened:
        return Deepened(
            "trained longer", None, copies, whole, Way(f"longer-{copies}", epochs=(layers + copies) / layers)
        )

    anew = Way("fresh", model=str(fresh))
    controls = [Deepened("fresh", at, 1, with_fresh(layers, at), anew) for at in places]
    first = [Deepened("unchanged", None, 0, whole), *copied("own", 1), *controls, longer(1)]
    return [first, [*copied("tied", 1), *copied("own", 2), longer(2)], copied("tied", 2)]


def fresh_base(room: Room, folder: Path) -> Path:
    """A base model with one more layer, on top, that was never trained: made once, with seed 0."""
    import torch

    from layersearch.models.base import quiet
    from layersearch.models.checkpoint import new_folder
    from layersearch.models.surgery import build, layers_of

    if not folder.exists():
        layers = room.prepared.num_layers
        model = build(room.base.model, Pattern.parse(repeated(layers, layers - 1, 1)))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            for module in layers_of(model)[-1].modules():
                module._is_hf_initialized = False  # type: ignore[assignment]
                model._init_weights(module)
        with quiet(), new_folder(folder, needed=4 * sum(p.numel() for p in model.parameters())) as part:
            model.base_model.save_pretrained(part)  # without the head, which every training begins anew
            room.reader.save_pretrained(part)
    return folder


def everything(
    setting: Setting,
    of: Sequence[Sequence[Deepened]],
    seeds: Sequence[int],
    most: int | None,
    *,
    looked_at: bool = True,
) -> list[Asked]:
    """What is asked, in its order: task by task, round by round, seed by seed; only the first task has them all.

    The weights of its unchanged model stay where they will be `looked_at`.
    """
    first = setting.scale.tasks[0]
    return [
        Asked(task, one.pattern, seed, one.way, keep=looked_at and one.kind == "unchanged" and task == first)
        for task in setting.scale.tasks
        for these in (of if task == first else of[:1])
        for seed in seeds
        for one in these[:most]
    ]


def scores_of(runs: Lines, task: str, one: Deepened) -> dict[int, float]:
    """Scores by seed."""
    return by_seed(runs, task=task, pattern=one.pattern, way=one.way.name)


def table_of(runs: Lines, all_of: Sequence[Deepened], tasks: Sequence[str]) -> Lines:
    """A line a model: its scores, and what it is better by than the unchanged one."""
    lines: Lines = []
    for one in all_of:
        rows = [row for row in runs if (row["pattern"], row["way"]) == (one.pattern, one.way.name)]
        if not rows:
            continue
        line: dict[str, Any] = {"model": one.kind, "at layer": "" if one.layer is None else one.layer}
        line |= {"copies": one.copies, "pattern": one.pattern}
        line["parameters"] = next((row["parameters"] for row in rows if row["parameters"]), "")
        for task in tasks:
            line[task] = cell(scores_of(runs, task, one))
            apart = difference(scores_of(runs, task, one), scores_of(runs, task, all_of[0]))
            line[f"{task}: over the unchanged"] = apart or ""
        lines.append(line)
    return lines


def claims(runs: Lines, all_of: Sequence[Deepened], tasks: Sequence[str]) -> Lines:
    """A line a claim and task that was run."""
    return claim_lines(
        tasks, lambda task: ((claim, apart, verdict(apart)) for claim, apart in _of_task(runs, all_of, task))
    )


def _of_task(runs: Lines, all_of: Sequence[Deepened], task: str) -> Iterator[tuple[str, Any]]:
    known = {(one.kind, one.layer, one.copies): scores_of(runs, task, one) for one in all_of}
    for (kind, layer, copies), scores in known.items():
        if kind not in ("own", "tied"):
            continue
        what = f"{copies} {kind} {'copy' if copies == 1 else 'copies'} of layer {layer}"
        yield f"{what}: better than the unchanged model", difference(scores, known["unchanged", None, 0])
        if kind == "own":
            yield (
                f"{what}: better than a fresh layer there",
                difference(scores, known.get(("fresh", layer, copies), {})),
            )
            longer = known["trained longer", None, copies]
            yield f"{what}: better than the unchanged model trained as long", difference(scores, longer)
            tied = known["tied", layer, copies]
            yield f"{what}: better than tied", difference(scores, tied)


def edits(layers: int) -> dict[str, str]:
    """Every layer removed, and repeated once and twice: patterns by what they are called."""
    found_ = {f"removed {n}": str(Pattern.of_layers(m for m in range(layers) if m != n)) for n in range(layers)}
    for copies in (1, 2):
        found_ |= {f"repeated {copies} {n}": repeated(layers, n, copies) for n in range(layers)}
    return found_


def agreement_of(room: Room, seed: int) -> Lines:
    """How far the fine-tuned unchanged model of a seed keeps its answers under each edit."""
    tuned = room.tuned(room.unchanged, seed)
    if tuned is None:
        return []
    named = {pattern: name for name, pattern in edits(room.prepared.num_layers).items()}
    lines = answers(room, tuned, list(named))
    return [{"seed": seed, "edit": named.get(line["pattern"], "none"), **line} for line in lines]


def last_of(room: Room) -> Lines:
    """How far the pre-trained model keeps its last states under each edit."""
    named = edits(room.prepared.num_layers)
    lines = last_states(room, list(named.values()))
    return [{"edit": name, **line} for name, line in zip(named, lines, strict=True)]


def output_claims(agreed: Lines, last: Lines, layers: int) -> Lines:
    """Whether answers hardly change for most of the layers; the fine-tuned models are of the first task."""
    lines: Lines = []
    for edit in ("removed", "repeated 1", "repeated 2"):
        shares = []
        for seed in dict.fromkeys(line["seed"] for line in agreed):
            mine = [line for line in agreed if line["seed"] == seed and line["edit"].startswith(edit)]
            shares.append(sum(float(line["agreement"]) >= ALIKE for line in mine) / layers)
        apart = interval_of([share - 0.5 for share in shares])
        if shares:
            claim = f"fine-tuned, most layers {edit}: answers agree by {ALIKE} or more"
            told = ", ".join(f"{round(share * layers)} of {layers}" for share in shares)
            line = {"claim": claim, "task": last[0]["task"], "in points": f"{told} layers"}
            lines.append({**line, "verdict": verdict(apart)})
        mine = [line for line in last if line["edit"].startswith(edit)]
        number = sum(float(line["cosine"]) >= ALIKE for line in mine)
        said = "holds here" if number > layers / 2 else "does not hold here"
        claim = f"pre-trained, most layers {edit}: last states have a cosine of {ALIKE} or more"
        lines.append(
            {"claim": claim, "task": last[0]["task"], "in points": f"{number} of {layers} layers", "verdict": said}
        )
    return lines


def report(
    setting: Setting, given: argparse.Namespace, room: Room, of: Sequence[Sequence[Deepened]], learnt: Learnt
) -> None:
    """Tables, figures and the README, out of what the work folder or the CSVs here know."""
    to: Path = given.to
    asked = list(filter(learnt, everything(setting, of, given.seeds, given.patterns)))
    all_of = [one for these in of for one in these]
    runs = refreshed(to / "runs.csv", found(setting, asked))
    tasks = tasks_in(runs, setting.scale.tasks)
    agreed = kept_by_seed(to / "agreement.csv", room.made_for, given.seeds, lambda seed: agreement_of(room, seed))
    last = kept(to / "last-states.csv", room.made_for, lambda: last_of(room))
    judged = output_claims(agreed, last, room.prepared.num_layers)
    judged += claims(runs, all_of, tasks)
    if gains := table_scores(runs, all_of, tasks):
        draw_deepened(gains, to / "deepened.png")
    parts = [
        "## Verdicts", shown(judged), "## Here: deepened and fine-tuned", counted(runs, asked), *learnt.told(),
        "Scores in points on the official validation set: mean ± standard deviation (seeds).",
        shown(table_of(runs, all_of, tasks)), "![deepened models over the unchanged one](deepened.png)",
    ]  # fmt: skip
    draw_agreement(agreed, last, to / "agreement.png")
    parts += ["## Here: edited and not trained since", "![agreement by layer](agreement.png)"]
    parts += ["The fine-tuned models' answers, means over seeds:", shown(_wide(agreed))] if agreed else []
    parts += [
        "The pre-trained model's last states:",
        shown([{k: line[k] for k in ("edit", "cosine")} for line in last]),
    ]
    write_readme(to, [*parts, environment("torch", "transformers")])
    print("\n\n".join(parts))


def table_scores(runs: Lines, all_of: Sequence[Deepened], tasks: Sequence[str]) -> Lines:
    """A line a model, task and seed with what it is better by than the unchanged model, in points."""
    lines: Lines = []
    for task in tasks:
        whole = scores_of(runs, task, all_of[0])
        for one in all_of[1:]:
            name = f"{one.kind} x{one.copies}" + ("" if one.layer is None else f", layer {one.layer}")
            for seed, score in scores_of(runs, task, one).items():
                if seed in whole:
                    lines.append({"task": task, "model": name, "seed": seed, "gain": 100 * (score - whole[seed])})
    return lines


def _wide(agreed: Lines) -> Lines:
    """Agreement and score of each edit: means over seeds."""

    def mean(lines: Sequence[Mapping[str, Any]], key: str) -> str:
        return f"{sum(float(line[key]) for line in lines) / len(lines):.3f}"

    names = dict.fromkeys(line["edit"] for line in agreed)
    of = {name: [line for line in agreed if line["edit"] == name] for name in names}
    return [
        {"edit": name, "agreement": mean(mine, "agreement"), "score": mean(mine, "score")} for name, mine in of.items()
    ]


def main() -> None:
    """Train, then tell."""
    given = words(__doc__, HERE).parse_args()
    setting = setting_of(given)
    given.to.mkdir(parents=True, exist_ok=True)
    setting.work.mkdir(parents=True, exist_ok=True)
    room = Room(setting, setting.scale.tasks[0])
    fresh = fresh_base(room, setting.work / f"fresh-{Path(setting.scale.model).name}-{room.prepared.num_layers}")
    of = rounds(room.prepared.num_layers, fresh)
    learnt = Learnt(setting, given.seeds)
    if given.do != "report":
        looked_at = lacks(room.made_for, given.seeds, given.to / "agreement.csv")
        asked = everything(setting, of, given.seeds, given.patterns, looked_at=looked_at)
        train(setting, learnt.in_order(asked), learnt)
    if given.do != "train":
        report(setting, given, room, of, learnt)


if __name__ == "__main__":
    main()
