"""What a search tries first: the named patterns of its space, and the fronts of other studies, on its own model.

Knows: whose turn it is, and how a pattern of one model reads on another. Does not know: asking, telling, who searches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from layersearch.counts import count
from layersearch.pattern import Block, Halves, Pattern
from layersearch.search.record import read_study
from layersearch.search.storage import Say
from layersearch.search.trials import Row
from layersearch.search_space import SearchSpace

NAMED_FIRST = 8  # the unchanged model and seven named patterns come before the sampler chooses,
NAMED_EVERY = 3  # and every third trial is a named one as long as there are any (results/search-cost)


def next_start(rows: Sequence[Row], first: Sequence[Pattern], named: Sequence[Pattern]) -> Pattern | None:
    """The pattern that comes next whatever the sampler thinks: one of `first`, or of `named` if it is their turn.

    `rows` are the trials so far; what one of them has is left out. None where the sampler is to choose.
    """
    tried = sum(row.state != "PRUNED" or row.stopped for row in rows)
    its_turn = tried < NAMED_FIRST or (tried - NAMED_FIRST) % NAMED_EVERY == NAMED_EVERY - 1
    candidates = [*first, *named] if its_turn else first
    seen = {row.pattern for row in rows} if candidates else set()
    return next((pattern for pattern in candidates if str(pattern) not in seen), None)


def scaled(pattern: Pattern, num_layers: int, wanted: int) -> Pattern:
    """`pattern` of a model with `num_layers` layers, read for one of `wanted` layers by relative depth.

    Layer i of the deeper model belongs to layer round((i + 0.5) * m / n - 0.5) of the other, n and m being their
    layers. A deeper model repeats for each layer what the pattern says of the one it belongs to, and so keeps the same
    share; on a shallower one what falls on the same layer is merged, with every half that any of it has.
    """
    if wanted == num_layers:
        return pattern
    if wanted > num_layers:
        belongs = {layer: _at(layer, wanted, num_layers) for layer in range(wanted)}
        places = ((layer, b) for layer in range(wanted) for b in pattern.blocks if b.layer == belongs[layer])
        return Pattern(tuple(replace(block, layer=layer) for layer, block in places), pattern.readout)
    merged: dict[int, set[Halves]] = {}
    for block in pattern.blocks:
        merged.setdefault(_at(block.layer, num_layers, wanted), set()).add(block.halves)
    blocks = (Block(at, found.pop() if len(found) == 1 else "both") for at, found in sorted(merged.items()))
    return Pattern(tuple(blocks), pattern.readout)


def _at(layer: int, deeper: int, shallower: int) -> int:
    return round((layer + 0.5) * shallower / deeper - 0.5)


def front_of_another(source: str, storage: str, space: SearchSpace, num_layers: int, say: Say) -> list[Pattern]:
    """The front of the study `source` (STUDY in `storage`, or STUDY@STORAGE) as patterns of `space`, largest first.

    They are scaled to `num_layers` layers. `say` is told how many there are, and how many the space does not have.
    Raises WordsError for a study that is not there.
    """
    name, _, place = source.partition("@")
    record = read_study(place or storage, name, say)
    layers = int(record.facts["num_layers"])
    fitted = dict.fromkeys(scaled(Pattern.parse(row.pattern), layers, num_layers) for row in record.front)
    found = [pattern for pattern in fitted if pattern != Pattern.full(num_layers)]
    inside = [pattern for pattern in found if space.params_of(pattern, num_layers) is not None]
    depth = "" if layers == num_layers else f", scaled from {count(layers, 'layer')} to {num_layers}"
    left_out = f"; the space does not have {len(found) - len(inside)} more" if len(found) > len(inside) else ""
    say(f"starting from the front of {name}: {count(len(inside), 'pattern')}{depth}{left_out}")
    return inside
