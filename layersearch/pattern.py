"""The pattern: which source layers a candidate has, in which order, which halves of each, and what its head reads.

Knows: the canonical text form (`0-3 4a 5-11`), order, comparison, counting and drawing. Does not know: models, tensors,
strategies or the search; nothing here imports more than the standard library.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from layersearch.errors import PatternError
from layersearch.names import unknown

Halves = Literal["both", "attention", "ffn"]
Readout = Literal["last", "mix"]
"""What the head of a candidate reads: its last layer, or a learned mix of all its layers."""

LEGEND = "█ kept  ▀ attention half only  ▄ FFN half only  2 times repeated  · dropped"
LEGEND_OF_MIX = "Σ the head reads a mix of the layers"
GRAMMAR = (
    "write source layers like `0-4 7-11`, `4a` (attention half only), `4f` (FFN half only) or `4 4t` (a tied copy), "
    "and `mix` behind them where the head reads a mix of all layers"
)

_LAST_LAYER = 9999
_TOKEN = re.compile(r"(?P<first>\d{1,9})(?:-(?P<last>\d{1,9})|(?P<letter>[aft]))?", re.ASCII)
_HALF_OF_LETTER: dict[str, Halves] = {"a": "attention", "f": "ffn"}
_LETTER_OF_HALF: dict[Halves, str] = {"both": "", "attention": "a", "ffn": "f"}
_GLYPH: dict[Halves, str] = {"both": "█", "attention": "▀", "ffn": "▄"}
_THIRDS: dict[Halves, int] = {"both": 3, "attention": 1, "ffn": 2}
_MIX, _MIX_GLYPH = "mix", "Σ"


@dataclass(frozen=True, order=True)
class Block:
    """One entry of a pattern: a source layer (0-based) and which of its halves are kept. Raises PatternError.

    A `tied` one shares the weights of the nearest block below it that has weights of its own and the same whole layer.
    """

    layer: int
    halves: Halves = "both"
    tied: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.layer <= _LAST_LAYER:
            raise PatternError(f"layer {self.layer} is out of reach: a pattern names layers 0-{_LAST_LAYER}")
        if self.halves not in get_args(Halves):
            raise PatternError(unknown("halves", self.halves, get_args(Halves)))
        if self.tied and self.halves != "both":
            raise PatternError(f"layer {self.layer} is to be tied and halved: only a whole layer has tied copies")

    def __str__(self) -> str:
        return f"{self.layer}{'t' if self.tied else _LETTER_OF_HALF[self.halves]}"


@dataclass(frozen=True)
class PartCounts:
    """Parameters of a model by part: outside the layer stack, and of each source layer's halves.

    `attention` and `ffn` hold one count a source layer, in order; a half's own LayerNorm belongs to the half. `depths`
    are the layers of an encoder and a decoder, none for a model with one stack. `mixed` is what a mix of the layers
    takes: for each block of the last stack, and once.
    """

    fixed: int
    attention: tuple[int, ...]
    ffn: tuple[int, ...]
    depths: tuple[int, ...] = ()
    mixed: tuple[int, int] = (0, 0)

    @property
    def num_layers(self) -> int:
        """Source layers."""
        return len(self.attention)

    @property
    def total(self) -> int:
        """Parameters of the unchanged model."""
        return self.fixed + sum(self.attention) + sum(self.ffn)

    def of(self, block: Block) -> int:
        """Parameters of one block; a tied one has none of its own."""
        if block.tied:
            return 0
        attention = self.attention[block.layer] if block.halves != "ffn" else 0
        ffn = self.ffn[block.layer] if block.halves != "attention" else 0
        return attention + ffn

    def of_readout(self, pattern: Pattern) -> int:
        """Parameters of what the head of a pattern reads: none for the last layer."""
        if pattern.readout == "last":
            return 0
        first = sum(self.depths[:-1])
        return self.mixed[0] * sum(block.layer >= first for block in pattern.blocks) + self.mixed[1]


@dataclass(frozen=True, order=True)
class Pattern:
    """The blocks of a candidate from bottom to top, and its read-out. Patterns are equal exactly if their texts are.

    An attention half directly followed by the FFN half of the same layer is that layer, and is stored as such, so
    `4a 4f` and `4` are one pattern (`4f 4a` is another one: its FFN comes first). Patterns sort by their blocks,
    lowest layer first. Raises PatternError for no blocks at all, and for a tied copy of nothing.
    """

    blocks: tuple[Block, ...]
    readout: Readout = "last"

    def __post_init__(self) -> None:
        if not self.blocks:
            raise PatternError(f"a pattern keeps at least one layer, this one drops everything; {GRAMMAR}")
        if self.readout not in get_args(Readout):
            raise PatternError(unknown("readout", self.readout, get_args(Readout)))
        object.__setattr__(self, "blocks", _join_halves(self.blocks))
        self.owners()

    @classmethod
    def parse(cls, text: str) -> Pattern:
        """Read any spelling of a pattern: extra spaces, `0-5 5-11` for `0-5 5 6-11`. Raises PatternError."""
        tokens = re.sub(r"\s*-\s*", "-", text).split()
        mixes = tokens[-1:] == [_MIX]
        blocks = tuple(block for token in (tokens[:-1] if mixes else tokens) for block in _read(token, text))
        return cls(blocks, "mix" if mixes else "last")

    @classmethod
    def full(cls, num_layers: int) -> Pattern:
        """The unchanged model of `num_layers` layers."""
        return cls(tuple(Block(layer) for layer in range(num_layers)))

    @classmethod
    def of_layers(cls, layers: Iterable[int]) -> Pattern:
        """Whole layers in the given order."""
        return cls(tuple(Block(layer) for layer in layers))

    def __str__(self) -> str:
        return " ".join([*map(_write, _runs(self.blocks)), *([_MIX] if self.mixes else [])])

    @property
    def mixes(self) -> bool:
        """Whether the head reads a mix of all layers."""
        return self.readout == "mix"

    @property
    def depth(self) -> int:
        """Number of blocks; a half counts as one block, because it takes one place in the candidate's stack."""
        return len(self.blocks)

    @property
    def owned(self) -> tuple[Block, ...]:
        """The blocks that have weights of their own."""
        return tuple(block for block in self.blocks if not block.tied)

    def owners(self) -> dict[int, int]:
        """For the place of each tied block, the place of the block whose weights it shares. Raises PatternError."""
        own: dict[int, int] = {}
        found: dict[int, int] = {}
        for place, block in enumerate(self.blocks):
            if not block.tied:
                own[block.layer] = place
            elif block.layer not in own or self.blocks[own[block.layer]].halves != "both":
                raise PatternError(
                    f"`{block}` is a tied copy and needs a whole layer {block.layer} before it; {GRAMMAR}"
                )
            else:
                found[place] = own[block.layer]
        return found

    @property
    def is_whole(self) -> bool:
        """Whether every block is a whole layer; `models/families.py` (`form_of`) says what plain code can open."""
        return all(block.halves == "both" for block in self.blocks)

    def check(self, num_layers: int) -> None:
        """Raise PatternError if a block names a layer that a model of `num_layers` layers does not have."""
        highest = max(block.layer for block in self.blocks)
        if highest >= num_layers:
            raise PatternError(
                f"pattern `{self}` names layer {highest}, but the model has layers 0-{num_layers - 1} (counted from 0)"
            )

    def fits(self, depths: Sequence[int]) -> bool:
        """Whether every stack of a model keeps a layer, and each block is in its own stack's turn; see `split`."""
        stacks = _stacks_of(self.blocks, depths)
        return stacks == sorted(stacks) and set(stacks) == set(range(len(depths)))

    def split(self, depths: Sequence[int]) -> tuple[tuple[Block, ...], ...]:
        """The blocks of each stack of a model whose stacks have `depths` layers, numbered on from stack to stack.

        Raises PatternError for a layer that the model does not have, and for a pattern that does not fit.
        """
        self.check(sum(depths))
        if not self.fits(depths):
            encoder = depths[0]
            raise PatternError(
                f"pattern `{self}` does not fit a model with an encoder (layers 0-{encoder - 1}) and a decoder (layers "
                f"{encoder}-{sum(depths) - 1}): keep at least one layer of each, all of the encoder's before the "
                "decoder's"
            )
        stacks = _stacks_of(self.blocks, depths)
        return tuple(
            tuple(block for block, own in zip(self.blocks, stacks, strict=True) if own == number)
            for number in range(len(depths))
        )

    def dropped(self, num_layers: int) -> tuple[int, ...]:
        """Source layers of which nothing is left, ascending."""
        self.check(num_layers)
        kept = {block.layer for block in self.blocks}
        return tuple(layer for layer in range(num_layers) if layer not in kept)

    def dropped_in_words(self, num_layers: int) -> str:
        """What of the source layers is left out, such as `5, 6 and the FFN half of 4`; empty where nothing is."""
        layers = {block.layer for block in self.blocks}
        kept = {layer: {block.halves for block in self.blocks if block.layer == layer} for layer in layers}
        parts = [", ".join(map(str, self.dropped(num_layers)))]
        for halves, left in (("FFN", "attention"), ("attention", "ffn")):
            lost = [str(layer) for layer in sorted(kept) if kept[layer] == {left}]
            parts.append(f"the {halves} half of {', '.join(lost)}" if lost else "")
        return " and ".join(part for part in parts if part)

    def parameters(self, counts: PartCounts) -> int:
        """Parameters of the candidate, counted and not built. Raises PatternError like `check`."""
        self.check(counts.num_layers)
        return counts.fixed + sum(counts.of(block) for block in self.blocks) + counts.of_readout(self)

    def diagram(self, num_layers: int) -> str:
        """One character a source layer, lowest left, as `LEGEND` explains them; only the text tells the order.

        One more behind them says that the layers are mixed (`LEGEND_OF_MIX`).
        """
        self.check(num_layers)
        times = Counter(block.layer for block in self.blocks)
        glyphs = {block.layer: _GLYPH[block.halves] for block in self.blocks}
        glyphs |= {layer: str(n) if n < 10 else "+" for layer, n in times.items() if n > 1}
        return "".join(glyphs.get(layer, "·") for layer in range(num_layers)) + _MIX_GLYPH * self.mixes


def legend_for(patterns: Iterable[Pattern]) -> str:
    """What the characters of the diagrams of `patterns` mean."""
    return f"{LEGEND}  {LEGEND_OF_MIX}" if any(pattern.mixes for pattern in patterns) else LEGEND


def _stacks_of(blocks: tuple[Block, ...], depths: Sequence[int]) -> list[int]:
    """The stack of each block."""
    starts = [sum(depths[:number]) for number in range(len(depths))]
    return [bisect_right(starts, block.layer) - 1 for block in blocks]


def _join_halves(blocks: tuple[Block, ...]) -> tuple[Block, ...]:
    joined: list[Block] = []
    for block in blocks:
        if joined and block.halves == "ffn" and joined[-1] == Block(block.layer, "attention"):
            joined[-1] = Block(block.layer)
        else:
            joined.append(block)
    return tuple(joined)


def _read(token: str, text: str) -> Iterator[Block]:
    match = _TOKEN.fullmatch(token)
    if token == _MIX:
        raise PatternError(f"`{_MIX}` does not stand at the end of the pattern {text!r}; {GRAMMAR}")
    if match is None:
        raise PatternError(f"cannot read {token!r} in the pattern {text!r}; {GRAMMAR}")
    first, last = int(match["first"]), int(match["last"] or match["first"])
    if last < first:
        raise PatternError(f"the range {token} in the pattern {text!r} runs backwards; write {last}-{first}")
    Block(last)  # refuses a layer out of reach before a long range is spelled out
    halves = _HALF_OF_LETTER.get(match["letter"] or "", "both")
    return (Block(layer, halves, tied=match["letter"] == "t") for layer in range(first, last + 1))


def _runs(blocks: tuple[Block, ...]) -> Iterator[list[Block]]:
    """Split into runs of whole ascending neighbours; an immediate repeat of a layer stands alone."""
    run: list[Block] = []
    repeated = False
    for block in blocks:
        before = run[-1] if run else None
        if before and not repeated and _plain(before, block) and block.layer == before.layer + 1:
            run.append(block)
            continue
        if before:
            yield run
        run, repeated = [block], before == block
    yield run


def _plain(*blocks: Block) -> bool:
    return all(block.halves == "both" and not block.tied for block in blocks)


def _write(run: list[Block]) -> str:
    return str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}"


def thirds(blocks: Iterable[Block]) -> int:
    """Layer parameters in thirds of a layer: one for an attention half, two for an FFN half.

    So it is wherever the FFN is four times as wide as the model (4 h² weights against 8 h²): in every BERT, RoBERTa,
    DistilBERT and ELECTRA of the usual make, biases and norms apart. For whole layers it is exact.
    """
    return sum(_THIRDS[block.halves] for block in blocks)
