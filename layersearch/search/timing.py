"""The front on the clock: its candidates built, run in turns with the unchanged model, and noted with the study.

Knows: which patterns of a study are to be timed, on which runtimes, and how to hold many candidates at once. Does not
know: clocks (`models/measure.py`), what is made of the figures (`search/times.py`). Weights do not matter for time, so
all candidates run on the base model's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from layersearch.counts import count
from layersearch.errors import ExportError, StudyError
from layersearch.mixing import Mixing
from layersearch.pattern import Pattern
from layersearch.search.found import create_or_load, holder_of
from layersearch.search.lease import take_lease
from layersearch.search.measured_costs import BATCHES, base_on, wanted, warn_of_others
from layersearch.search.question import How, Prepared, resolve_device
from layersearch.search.record import Record
from layersearch.search.storage import Say, open_storage, parse_url
from layersearch.search.study import Study
from layersearch.search.times import SIZES, Runtime, key_of, settings
from layersearch.training.recipe import Recipe

if TYPE_CHECKING:
    from layersearch.models.base import BaseModel

AT_ONCE = 0.25  # of the memory that is free, for ONNX graphs with weights of their own

Note = Callable[[Mapping[str, Any]], None]


def time_front(prepared: Prepared, how: How, say: Say, study: Study, patterns: Sequence[str]) -> None:
    """After a search that wants latency: time what of its front `patterns` is not timed yet, on PyTorch; note it."""
    if not any(name in BATCHES for name in wanted(prepared.what)):
        return
    if not _missing(prepared, patterns, study.facts, _here(prepared, how, ("PyTorch",)), ("PyTorch",)):
        return
    if any(row.state == "RUNNING" for row in study.rows()):
        say("the front is not timed while another driver trains; it is when the last one ends, or by the same command")
        return
    _time(prepared, how, say, patterns, study.facts, lambda facts: study.note(**facts), ("PyTorch",))


def time_study(prepared: Prepared, record: Record, how: How, say: Say) -> None:
    """Time the front of a study and the unchanged model, on PyTorch and, on a processor, ONNX Runtime; note it.

    What was timed on this machine with these versions is not timed again. `prepared` is the study's own question.
    Raises StudyError where the model is another one, the study is driven, or belongs to other hardware.
    """
    runtimes = _runtimes(how, say)
    here = _here(prepared, how, runtimes)
    _require_same_hardware(record, here)
    patterns = [row.pattern for row in record.front]
    storage = open_storage(parse_url(how.storage), say, create=False)
    with ExitStack() as closed:
        closed.callback(storage.engine.dispose)
        lease = take_lease(storage, parse_url(how.storage), record.name, holder_of(storage, record.name), alone=True)
        closed.callback(lease.release)
        study = create_or_load(storage, record.name, record.purpose)

        def note(facts: Mapping[str, Any]) -> None:
            for name, value in facts.items():
                study.set_user_attr(name, value)

        if not _missing(prepared, patterns, study.user_attrs, here, runtimes):
            say("everything is timed already, on this machine and with these versions")
            return
        _time(prepared, how, say, patterns, study.user_attrs, note, runtimes)


def _runtimes(how: How, say: Say) -> tuple[Runtime, ...]:
    from layersearch.models.onnx import INSTALL, is_installed

    if resolve_device(how.device) != "cpu":
        say("ONNX Runtime is timed on the processor only (--device cpu)")
        return ("PyTorch",)
    if not is_installed():
        say(f"ONNX Runtime is not timed: {INSTALL} brings it")
        return ("PyTorch",)
    return "PyTorch", "ONNX Runtime"


def _here(prepared: Prepared, how: How, runtimes: Sequence[Runtime]) -> dict[str, Any]:
    """What times belong to. ONNX Runtime's version counts where it is timed."""
    from layersearch.models.measure import hardware

    found = {
        "hardware": hardware(resolve_device(how.device)),
        "tokens": int(prepared.what.recipe.max_length),
        "torch": version("torch"),
        "transformers": version("transformers"),
    }
    return found | ({"onnxruntime": version("onnxruntime")} if "ONNX Runtime" in runtimes else {})


def _require_same_hardware(record: Record, here: Mapping[str, Any]) -> None:
    hardware = record.purpose.values.get("hardware", here["hardware"])
    if hardware != here["hardware"]:
        raise StudyError(
            f"the latencies of study {record.name!r} belong to {hardware}, and this is {here['hardware']}; "
            "time it there"
        )


def _missing(
    prepared: Prepared,
    patterns: Iterable[str],
    facts: Mapping[str, Any],
    here: Mapping[str, Any],
    runtimes: tuple[Runtime, ...],
) -> list[str]:
    """The patterns that are not timed yet on this machine, the unchanged model's among them."""
    found, keys = _kept(facts, here), {key_of(setting) for setting in settings(runtimes)}
    asked = dict.fromkeys([str(Pattern.full(prepared.num_layers)), *patterns])
    return [text for text in asked if not keys <= set(found.get(text, ()))]


def _kept(facts: Mapping[str, Any], here: Mapping[str, Any]) -> dict[str, Any]:
    """What a study knows by the clock, as far as it belongs to where and with what it is timed now."""
    before = facts.get("timed_on", {})
    return dict(facts.get("timed", {})) if all(before.get(name) == here[name] for name in here) else {}


def _time(
    prepared: Prepared,
    how: How,
    say: Say,
    patterns: Sequence[str],
    facts: Mapping[str, Any],
    note: Note,
    runtimes: tuple[Runtime, ...],
) -> None:
    """Time what is missing beside the unchanged model, as many as fit into the memory in turns, and note each part."""
    here = _here(prepared, how, runtimes)
    todo, found = _missing(prepared, patterns, facts, here, runtimes), _kept(facts, here)
    known_on = {**facts.get("timed_on", {}), **here} if found else here
    say(f"timing {count(len(todo), 'built candidate')}, in turns with the unchanged model")
    warn_of_others(say)
    device = resolve_device(how.device)
    base = base_on(prepared, device)
    unchanged = str(Pattern.full(prepared.num_layers))
    for party in _parties([text for text in todo if text != unchanged] or todo, base):
        together = list(dict.fromkeys([unchanged, *party]))
        for text, values in _measured(base, together, runtimes, prepared.what.recipe, device, say):
            found[text] = {**found.get(text, {}), **values}
        note({"timed": found, "timed_on": known_on})


def _parties(patterns: Sequence[str], base: BaseModel) -> list[Sequence[str]]:
    """As many at once as may each hold a graph with weights of its own."""
    import psutil

    heavy = sum(parameter.nbytes for parameter in base.model.parameters())
    size = max(1, int(AT_ONCE * psutil.virtual_memory().available / heavy) - 1)
    return [patterns[start : start + size] for start in range(0, len(patterns), size)]


def _measured(
    base: BaseModel, patterns: Sequence[str], runtimes: tuple[Runtime, ...], recipe: Recipe, device: str, say: Say
) -> list[tuple[str, dict[str, list[float]]]]:
    """By pattern what a study keeps of it; the first one is the unchanged model."""
    from layersearch.models import measure

    candidates = {text: _light(base, Pattern.parse(text), recipe.mixing) for text in patterns}
    models: dict[tuple[Runtime, str], Any] = {("PyTorch", text): model for text, model in candidates.items()}
    found: dict[str, dict[str, list[float]]] = {text: {} for text in patterns}
    with TemporaryDirectory(prefix="layersearch-") as scratch:
        if "ONNX Runtime" in runtimes:
            models |= _graphs(candidates, base, Path(scratch), say)
        for size in SIZES:
            inputs = measure.inputs_of(base.model, size, recipe.max_length)
            runs = {key: partial(model, **inputs) for key, model in models.items()}
            seconds = len(patterns) * measure.SECONDS / len(SIZES)
            say(f"batch size {size}: {count(len(runs), 'model')} in turns, about {seconds:.0f} s")
            times = measure.timed(runs, device, seconds=seconds)
            for (runtime, text), time in times.items():
                share = measure.share_of(time, times[runtime, patterns[0]]) if text != patterns[0] else ()
                found[text][key_of((runtime, size))] = [time.median, time.p95, *(round(value, 4) for value in share)]
    return list(found.items())


def _graphs(candidates: Mapping[str, Any], base: BaseModel, folder: Path, say: Say) -> dict[tuple[Runtime, str], Any]:
    """The candidates on ONNX Runtime; none where the exporter cannot do this family, which is said."""
    from layersearch.models.measure import inputs_of
    from layersearch.models.onnx import OnnxModel, write_onnx

    found: dict[tuple[Runtime, str], Any] = {}
    for number, (text, model) in enumerate(candidates.items(), 1):
        file = folder / f"{number}.onnx"
        say(f"writing ONNX graph {number} of {len(candidates)}: {text}")
        try:
            write_onnx(model, inputs_of(model, 2, 8), file, base.kind)
        except ExportError as error:
            say(f"ONNX Runtime is not timed: {error}")
            return {}
        found["ONNX Runtime", text] = OnnxModel(file, model.config)
    return found


def _light(base: BaseModel, pattern: Pattern, mixing: Mixing) -> Any:
    """The candidate as it is built, with the base model's own tensors in place of copies."""
    from layersearch.models.surgery import build, layers_of

    candidate = build(base.model, pattern, mixing)
    tensors = dict(base.model.named_parameters())
    layers = layers_of(base.model)
    inside = set()
    for layer, block in zip(layers_of(candidate), pattern.blocks, strict=True):
        own = dict(layers[block.layer].named_parameters())
        for name, parameter in layer.named_parameters():
            inside.add(id(parameter))
            if name in own:
                parameter.data = own[name].data
    for name, parameter in candidate.named_parameters():
        if id(parameter) not in inside and name in tensors:
            parameter.data = tensors[name].data
    return candidate
