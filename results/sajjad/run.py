"""Which layers may go before fine-tuning? The experiment of Sajjad et al. (arXiv 2004.03844) again.

    python -m results.sajjad.run GLUE-FOLDER [WORK-FOLDER] [--scale full --model xlnet-base-cased]

Six strategies by the number of dropped layers, dropping after fine-tuning, times, probes. The same call goes on;
several processes share the work with --process 0, 1, ... --do train, then --do report. Writes runs.csv, further
tables, figures and the README's part below its mark.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from layersearch.measured import contribution
from layersearch.search.spelling import measure
from layersearch.strategies import possible, spell
from results.asked import AFTER, Asked, Setting, setting_of, words
from results.known import found
from results.learnt import Learnt
from results.machine import environment
from results.papers import train
from results.passes import Room, likeness, probes, times
from results.sajjad.figures import draw_depths, draw_strategies
from results.sheet import Lines, kept, kept_by_seed, lacks, read_csv, refreshed, shown, write_readme
from results.trained import Named, claim_lines, counted, strategy_table, tasks_in
from results.verdicts import FAILS, HOLDS, by_seed, cell, difference, not_above, verdict

HERE = Path(__file__).parent
STRATEGIES = ("top", "bottom", "alternate-even", "alternate-odd", "symmetric", "contribution")


def named_patterns(setting: Setting) -> Named:
    """What the strategies spell for the setting's model: top for every k, the others up to half of the layers."""
    room = Room(setting, setting.scale.tasks[0])
    layers = room.prepared.num_layers
    ks = range(1, layers // 2 + 1) if layers <= 6 else range(2, layers // 2 + 1, 2)
    spelled = {("unchanged", 0): room.unchanged}
    spelled |= {("top", k): str(spell("top", layers, k)) for k in range(1, layers)}
    plain = [(name, k) for name in STRATEGIES[1:-1] for k in ks if k in possible(name, layers)]
    spelled |= {(name, k): str(spell(name, layers, k)) for name, k in plain}
    file = setting.work / f"contribution-{setting.scale.model.replace('/', '_')}.csv"
    with setting.lock("contribution"):  # of several processes the first one measures
        known = kept(file, room.made_for, lambda: _by_contribution(setting, room, ks))
    return spelled | {("contribution", int(line["k"])): line["pattern"] for line in known}


def _by_contribution(setting: Setting, room: Room, ks: Sequence[int]) -> Lines:
    measured = measure(room.prepared, setting.device)
    return [{"k": k, "pattern": str(contribution(measured, k))} for k in ks]


def halves(named: Named) -> list[int]:
    """The ks that every strategy is asked for."""
    return sorted({k for name, k in named if name == "bottom"})


def everything(
    setting: Setting, named: Named, seeds: Sequence[int], most: int | None, *, looked_at: bool = True
) -> list[Asked]:
    """What is asked, in its order: task by task, seed by seed; dropping after fine-tuning with the first task.

    The weights of its unchanged model stay where they will be `looked_at`.
    """
    patterns = list(dict.fromkeys(named.values()))[:most]
    first, asked = setting.scale.tasks[0], []
    for task in setting.scale.tasks:
        keep = named["unchanged", 0] if looked_at and task == first else None
        asked += [Asked(task, p, seed, keep=p == keep) for seed in seeds for p in patterns]
        if task == first:
            later = [named["top", k] for k in halves(named)][:most]
            asked += [Asked(task, p, seed, AFTER) for seed in seeds for p in later]
    return asked


def scores_of(runs: Lines, task: str, pattern: str, way: str = "plain") -> dict[int, float]:
    """Scores by seed."""
    return by_seed(runs, task=task, pattern=pattern, way=way)


def droppable(runs: Lines, named: Named, tasks: Sequence[str]) -> Lines:
    """How many top layers may go until the mean loss is first above 1, 2, 3 points; and how many surely may."""
    lines: Lines = []
    tops = [(k, pattern) for (name, k), pattern in sorted(named.items(), key=lambda item: item[0][1]) if name == "top"]
    for task in tasks:
        first = scores_of(runs, task, named["unchanged", 0])
        losses = [(k, difference(first, scores_of(runs, task, pattern))) for k, pattern in tops]
        if not any(loss for _, loss in losses):
            continue
        line: dict[str, Any] = {"task": task}
        for points in (1, 2, 3):
            line[f"{points} points"] = _until([(k, loss and loss.mean <= points / 100) for k, loss in losses])
            line[f"surely {points}"] = _until([(k, loss and loss.high <= points / 100) for k, loss in losses])
        lines.append(line)
    return lines


def _until(fits: Sequence[tuple[int, Any]]) -> int:
    most = 0
    for k, fit in fits:
        if not fit:
            break
        most = k
    return most


def claims(runs: Lines, named: Named, tasks: Sequence[str]) -> Lines:
    """A line a claim and task that was run."""
    return claim_lines(tasks, partial(_of_task, runs, named))


def _of_task(runs: Lines, named: Named, task: str) -> Iterator[tuple[str, Any, str]]:
    ks, whole = halves(named), scores_of(runs, task, named["unchanged", 0])

    def of(name: str, k: int) -> dict[int, float]:
        return scores_of(runs, task, named[name, k])

    for k in ks[1:]:
        others = [name for name in _others(named, "top", k) if of(name, k)]
        best = max(others, key=lambda name: _mean(of(name, k)), default="top")
        apart = difference(of("top", k), of(best, k))
        yield f"top is the best strategy at k = {k} (next: {best})", apart, verdict(apart)
    apart = difference(of("alternate-odd", ks[0]), of("top", ks[0]))
    yield f"alternate-odd (the last layer stays) is better than top at k = {ks[0]}", apart, verdict(apart)
    for k in ks:
        others = [name for name in _others(named, "bottom", k) if of(name, k)]
        worst = min(others, key=lambda name: _mean(of(name, k)), default="bottom")
        apart = difference(of(worst, k), of("bottom", k))
        yield f"bottom is the worst strategy at k = {k} (next: {worst})", apart, verdict(apart)
    lost = difference(whole, of("top", ks[-1]))
    yield f"half of the layers, from the top, cost at most 3 points (k = {ks[-1]})", lost, not_above(lost, 0.03)
    third = ks[len(ks) // 2]
    lost = difference(whole, of("top", third))
    yield f"a third of the layers, from the top, cost at most 2 points (k = {third})", lost, not_above(lost, 0.02)
    for k in ks:
        later = scores_of(runs, task, named["top", k], "after")
        if later:
            gain = difference(later, of("top", k))
            yield f"fine-tune, drop, fine-tune again gains nothing (k = {k})", gain, not_above(gain)


def _others(named: Named, than: str, k: int) -> list[str]:
    """The strategies that spell another pattern at k."""
    return [name for name, other in named if other == k and name != than and named[name, k] != named[than, k]]


def _mean(scores: Mapping[int, float]) -> float:
    return sum(scores.values()) / len(scores)


def probe_claims(probed: Lines, alike: Lines) -> Lines:
    """What probes and likeness say of the paper's two claims about layers."""
    lines: Lines = []
    for task in dict.fromkeys(line["task"] for line in probed):
        top = max(int(line["depth"]) for line in probed)
        of = [by_seed(probed, task=task, depth=depth) for depth in range(top + 1)]
        gain = difference(of[top], of[top // 2])
        claim = "a probe of the last layer reads off more than one of the middle"
        lines.append({"claim": claim, "task": task, "in points": str(gain), "verdict": verdict(gain)})
        cosines = [{**line, "score": line["cosine"]} for line in alike]
        ends = [by_seed(cosines, task=task, depth=depth) for depth in (1, top)]
        fall = difference(*ends)
        claim = "fine-tuning moves the last layer further than the first (cosine to the pre-trained, times 100)"
        lines.append({"claim": claim, "task": task, "in points": str(fall), "verdict": verdict(fall)})
    return lines


def time_claims(took: Lines, half: str) -> Lines:
    """What times say of the paper's: 1.94 times as fast to fine-tune and half of the inference time without half."""
    lines: Lines = []
    for line in (line for line in took if line["pattern"] == half):
        for what, share in (("fine-tuned", float(line["step"])), ("scored", float(line["infer"]))):
            said = HOLDS if share <= 0.55 else FAILS
            told = f"{1 / share:.2f} times as fast"
            lines.append({"claim": f"without half of the layers {what} 1.8 times as fast or more", "task": "any"})
            lines[-1] |= {"in points": told, "verdict": said}
    return lines


def probed_of(room: Room, seed: int) -> Lines:
    """What probes read off the fine-tuned unchanged model of a seed, if its weights are there."""
    tuned = room.tuned(room.unchanged, seed)
    return [] if tuned is None else list(probes(room, {"fine-tuned": tuned}, seed))


def alike_of(room: Room, seed: int) -> Lines:
    """How like the pre-trained model it still is."""
    tuned = room.tuned(room.unchanged, seed)
    return [] if tuned is None else list(likeness(room, room.pretrained(), tuned, seed))


def report(setting: Setting, given: argparse.Namespace, named: Named, asked: Sequence[Asked], learnt: Learnt) -> None:
    """Tables, figures and the README, out of what the work folder or the CSVs here know."""
    to: Path = given.to
    asked = list(filter(learnt, asked))
    runs = refreshed(to / "runs.csv", found(setting, asked))
    tasks = tasks_in(runs, setting.scale.tasks)
    room = Room(setting, setting.scale.tasks[0])
    probed = kept_by_seed(to / "probes.csv", room.made_for, given.seeds, lambda seed: probed_of(room, seed))
    alike = kept_by_seed(to / "likeness.csv", room.made_for, given.seeds, lambda seed: alike_of(room, seed))
    tops = [pattern for (name, _), pattern in named.items() if name == "top"][: len(halves(named)) * 2]
    took = kept(to / "times.csv", room.made_for, lambda: times(room, tops))
    table = strategy_table(runs, named, tasks)
    judged = claims(runs, named, tasks) + probe_claims(probed, alike)
    judged += time_claims(took, named["top", halves(named)[-1]])
    published = read_csv(HERE / "published.csv")
    draw_strategies(runs, named, tasks, published, to / "strategies.png")
    parts = [
        "## Verdicts", shown(judged), "## Here", counted(runs, asked), *learnt.told(),
        *_ours(runs, table, droppable(runs, named, tasks), took),
    ]  # fmt: skip
    if probed:
        draw_depths(probed, alike, to / "depths.png")
        parts += ["![probes and likeness by depth](depths.png)"]
    parts += ["## As published", _published(published), environment("torch", "transformers")]
    write_readme(to, parts)
    print("\n\n".join(parts))


def _ours(runs: Lines, table: Lines, most: Lines, took: Lines) -> list[str]:
    later = [row for row in runs if row["way"] == "after"]
    after = [
        {"pattern": pattern, "task": task, "before": cell(scores_of(runs, task, pattern)),
         "after": cell(scores_of(runs, task, pattern, "after"))}
        for task, pattern in dict.fromkeys((row["task"], row["pattern"]) for row in later)
    ]  # fmt: skip
    parts = [
        "Scores in points on the official validation set: mean ± standard deviation (seeds).",
        shown(table), "![strategies by number of dropped layers](strategies.png)",
    ]  # fmt: skip
    tables = {
        "Top layers that may go one after another while the mean loss (`surely`: the upper end of its 95 % interval) "
        "is at most so many points:": most,
        "Dropped before fine-tuning, and after it with another fine-tuning:": after,
        "Processor time of a training step and of scoring a batch of 32, and as shares of the unchanged model's:": took,
    }
    return [*parts, *(text for head, lines in tables.items() if lines for text in (head, shown(lines)))]


def _published(published: Lines) -> str:
    """The paper's averages as a table, a line a model and strategy."""
    lines = []
    for model, name in dict.fromkeys((line["model"], line["strategy"]) for line in published):
        mine = [line for line in published if (line["model"], line["strategy"]) == (model, name)]
        averages = " / ".join(line["average"] for line in mine)
        dropped = " / ".join(line["k"] for line in mine)
        lines.append({"model": model, "strategy": name, "k": dropped, "average over 7 tasks": averages})
    return shown(lines)


def main() -> None:
    """Train, then tell."""
    given = words(__doc__, HERE).parse_args()
    setting = setting_of(given)
    given.to.mkdir(parents=True, exist_ok=True)
    named = named_patterns(setting)
    made_for = Room(setting, setting.scale.tasks[0]).made_for
    looked_at = lacks(made_for, given.seeds, given.to / "probes.csv", given.to / "likeness.csv")
    asked = everything(setting, named, given.seeds, given.patterns, looked_at=looked_at)
    learnt = Learnt(setting, given.seeds)
    if given.do != "report":
        train(setting, learnt.in_order(asked), learnt)
    if given.do != "train":
        report(setting, given, named, asked, learnt)


if __name__ == "__main__":
    main()
