"""Are FFN halves needed? After Sridhar and Sarah, Undivided Attention (arXiv 2012.11881).

    python -m results.undivided.run GLUE-FOLDER [WORK-FOLDER] [--scale full --model bert-base-uncased]

FFN halves are dropped from the pre-trained model by number and place, and whole layers of as many parameters; then all
are fine-tuned. The same call goes on; several processes share the work with --process 0, 1, ... --do train, then --do
report. Writes runs.csv, further tables, figures and the README's part below its mark.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from layersearch.strategies import possible, spell
from results.asked import Asked, Setting, setting_of, words
from results.known import found
from results.learnt import Learnt
from results.machine import environment
from results.papers import train
from results.passes import Room, attention_cka, probes, times
from results.sheet import Lines, kept, kept_by_seed, lacks, refreshed, shown, write_readme
from results.trained import Named, claim_lines, counted, strategy_table, tasks_in
from results.undivided.figures import draw_cka, draw_equal
from results.verdicts import by_seed, difference, not_above, verdict

HERE = Path(__file__).parent
FFN = ("ffn-only", "ffn-only-bottom", "ffn-only-alternate")
WHOLE = ("top", "bottom", "alternate-even", "alternate-odd", "symmetric")


def named_patterns(room: Room) -> Named:
    """FFN halves of one, half and all of the layers, and whole layers with as many parameters as the last two have.

    An FFN half has twice the parameters of an attention half, so three of them weigh as much as two layers.
    """
    layers = room.prepared.num_layers
    spelled = {("unchanged", 0): room.unchanged}
    wanted = [(name, k) for k in (layers // 2, layers, 1) for name in FFN]
    wanted += [(name, 2 * k // 3) for k in (layers // 2, layers) for name in WHOLE]
    return spelled | {(name, k): str(spell(name, layers, k)) for name, k in wanted if k in possible(name, layers)}


def everything(
    setting: Setting, named: Named, seeds: Sequence[int], most: int | None, *, looked_at: bool = True
) -> list[Asked]:
    """What is asked, in its order: task by task, seed by seed, FFN halves first.

    Their weights stay on the first task, where they will be `looked_at`.
    """
    patterns = list(dict.fromkeys(named.values()))[:most]
    halves = {p for (name, _), p in named.items() if looked_at and name not in WHOLE}
    tasks = setting.scale.tasks
    return [
        Asked(task, p, seed, keep=p in halves and task == tasks[0])
        for task in tasks for seed in seeds for p in patterns
    ]  # fmt: skip


def claims(runs: Lines, named: Named, tasks: Sequence[str], layers: int) -> Lines:
    """A line a claim and task that was run."""
    return claim_lines(tasks, lambda task: _of_task(runs, named, task, layers))


def _of_task(runs: Lines, named: Named, task: str, layers: int) -> Iterator[tuple[str, Any, str]]:
    whole = by_seed(runs, task=task, pattern=named["unchanged", 0])
    done = {row["pattern"] for row in runs if row["task"] == task}
    for (name, k), pattern in named.items():
        if name in FFN and pattern in done:
            lost = difference(whole, by_seed(runs, task=task, pattern=pattern))
            yield f"{k} FFN halves, {name}, cost at most 1 point", lost, not_above(lost, 0.01)
    for k in (layers // 2, layers):
        ffn, whole_layers = (
            {n: by_seed(runs, task=task, pattern=p) for (n, its), p in named.items() if n in names and its == number}
            for names, number in ((FFN, k), (WHOLE, 2 * k // 3))
        )
        if any(ffn.values()) and any(whole_layers.values()):
            ours, theirs = _best(ffn), _best(whole_layers)
            apart = difference(ffn[ours], whole_layers[theirs])
            claim = f"at equal parameters {k} FFN halves ({ours}) beat {2 * k // 3} whole layers ({theirs})"
            yield claim, apart, verdict(apart)


def _best(scores: Mapping[str, Mapping[int, float]]) -> str:
    return max(scores, key=lambda name: fmean(scores[name].values()) if scores[name] else -1.0)


def cka_of(room: Room, named: Named, seeds: Sequence[int], seed: int) -> Lines:
    """CKA of attention outputs, a line a pair and layer of a seed.

    Fine-tuned with against fine-tuned without FFN halves; the unchanged model against that of the next seed; and, once,
    the pre-trained model against its untrained edits.
    """
    lines: Lines = []
    one = room.tuned(room.unchanged, seed)
    pairs = {f"{name} {k}": (one, room.tuned(p, seed)) for (name, k), p in named.items() if name in FFN}
    following = seeds[(list(seeds).index(seed) + 1) % len(seeds)]
    if following != seed:
        pairs["another seed"] = (one, room.tuned(room.unchanged, following))
    for pair, (first, second) in pairs.items():
        if first is not None and second is not None:
            found_ = attention_cka(room, first, second)
            lines += [{"seed": seed, "pair": pair, "layer": n, "score": f"{v:.4f}"} for n, v in found_.items()]
    return lines


def looked_claims(task: str, likeness: Lines, probed: Lines, took: Lines, named: Named, layers: int) -> Lines:
    """What CKA, probes and times say."""
    lines: Lines = []

    def mean_of(pair: str) -> dict[int, float]:
        mine = [line for line in likeness if line["pair"] == pair]
        seeds = {int(line["seed"]) for line in mine}
        return {s: fmean(float(one["score"]) for one in mine if int(one["seed"]) == s) for s in seeds}

    for k in (1, layers // 2, layers):
        apart = difference(mean_of("another seed"), mean_of(f"ffn-only {k}"))
        if apart is None:
            continue
        claim = (
            f"without {k} FFN halves (from the top) attention outputs stay within 0.05 CKA (5 points) of another seed's"
        )
        lines.append({"claim": claim, "task": task, "in points": str(apart), "verdict": not_above(apart, 0.05)})
    names = dict.fromkeys(line["model"] for line in probed)
    for name in (name for name in names if name != "unchanged"):
        ends = [by_seed(_last_place(probed, one), model=one) for one in ("unchanged", name)]
        apart = difference(*ends)
        if apart is None:
            continue
        claim = f"a probe of the last layer reads at most 1 point less off {name}"
        lines.append({"claim": claim, "task": task, "in points": str(apart), "verdict": not_above(apart, 0.01)})
    shares = {line["pattern"]: float(line["step"]) for line in took}
    if (share := shares.get(named["ffn-only", layers // 2])) is not None:
        said = "holds here" if share < 0.95 else "does not hold here"
        claim = f"without {layers // 2} FFN halves a training step takes less time"
        lines.append({"claim": claim, "task": task, "in points": f"{share:.2f} of it", "verdict": said})
    return lines


def _last_place(probed: Lines, model: str) -> Lines:
    """The probes of the last layer alone."""
    mine = [line for line in probed if line["model"] == model]
    last = max((int(line["depth"]) for line in mine), default=0)
    return [line for line in mine if int(line["depth"]) == last]


def probes_of(room: Room, named: Named, seed: int) -> Lines:
    """Probes of the unchanged model and of those without FFN halves from the top, of one seed."""
    wanted = {"unchanged": room.unchanged}
    wanted |= {f"ffn-only {k}": p for (name, k), p in named.items() if name == "ffn-only"}
    subjects = {name: room.tuned(pattern, seed) for name, pattern in wanted.items()}
    return list(probes(room, {name: one for name, one in subjects.items() if one is not None}, seed))


def report(
    setting: Setting, given: argparse.Namespace, room: Room, named: Named, asked: Sequence[Asked], learnt: Learnt
) -> None:
    """Tables, figures and the README, out of what the work folder or the CSVs here know."""
    to: Path = given.to
    asked = list(filter(learnt, asked))
    runs = refreshed(to / "runs.csv", found(setting, asked))
    tasks = tasks_in(runs, setting.scale.tasks)
    layers = room.prepared.num_layers
    made_for, seeds = room.made_for, given.seeds
    likeness = kept_by_seed(to / "cka.csv", made_for, seeds, lambda seed: cka_of(room, named, seeds, seed))
    probed = kept_by_seed(to / "probes.csv", made_for, seeds, lambda seed: probes_of(room, named, seed))
    timed = [p for (name, k), p in named.items() if name in ("ffn-only", "top") and k > 1]
    took = kept(to / "times.csv", made_for, lambda: times(room, timed))
    draw_equal(runs, named, tasks, to / "equal.png")
    judged = claims(runs, named, tasks, layers) + looked_claims(
        setting.scale.tasks[0], likeness, probed, took, named, layers
    )
    parts = [
        "## Verdicts", shown(judged), "## Here", counted(runs, asked), *learnt.told(),
        "Scores in points on the official validation set: mean ± standard deviation (seeds).",
        shown(strategy_table(runs, named, tasks)), "![score by parameters](equal.png)",
    ]  # fmt: skip
    if likeness:
        draw_cka(likeness, to / "cka.png")
        parts += ["![CKA of attention outputs](cka.png)"]
    if probed:
        parts += ["Probes of the first token, score by depth (0 is before the first layer), first seed:", _wide(probed)]
    if took:
        parts += ["Processor time of a training step and of scoring a batch of 32:", shown(took)]
    write_readme(to, [*parts, environment("torch", "transformers")])
    print("\n\n".join(parts))


def _wide(probed: Lines) -> str:
    """Probes of the first seed, a line a model, a column a depth."""
    first = probed[0]["seed"]
    lines = [line for line in probed if line["seed"] == first]
    depths = sorted({int(line["depth"]) for line in lines})
    wide = []
    for model in dict.fromkeys(line["model"] for line in lines):
        scores = {int(line["depth"]): line["score"] for line in lines if line["model"] == model}
        wide.append({"model": model, **{str(depth): scores.get(depth, "") for depth in depths}})
    return shown(wide)


def main() -> None:
    """Train, then tell."""
    given = words(__doc__, HERE).parse_args()
    setting = setting_of(given)
    given.to.mkdir(parents=True, exist_ok=True)
    room = Room(setting, setting.scale.tasks[0])
    named = named_patterns(room)
    looked_at = lacks(room.made_for, given.seeds, given.to / "cka.csv", given.to / "probes.csv")
    asked = everything(setting, named, given.seeds, given.patterns, looked_at=looked_at)
    learnt = Learnt(setting, given.seeds)
    if given.do != "report":
        train(setting, learnt.in_order(asked), learnt)
    if given.do != "train":
        report(setting, given, room, named, asked, learnt)


if __name__ == "__main__":
    main()
