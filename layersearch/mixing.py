"""How the layers of a candidate are mixed for its head, where they are: one answer for a whole study.

Knows: the switches and their words. Does not know: which candidates mix (`pattern.py`), tensors (`models/readout.py`).

After ELMo as AllenNLP codes it: gamma * sum_k softmax(w)_k h_k, w from 0, gamma from 1, each h_k normalised or not.
BERMo (Kodge and Roy, arXiv 2110.15802) mixes BERT's layers so, with one scalar a layer; whether it keeps softmax and
gamma, normalises, counts the embeddings in, or mixes before or after the pooler is not known to us. So each is a
switch, and the default is ELMo's mix over the layers in place of the last one, before all that follows it.
"""

from __future__ import annotations

from dataclasses import dataclass

from layersearch.errors import WordsError
from layersearch.names import unknown


@dataclass(frozen=True)
class Mixing:
    """The switches of a mix.

    `softmax` makes weights of the scalars that sum to one, `gamma` multiplies the mix by one more scalar, `norm`
    normalises each layer's states over their width first (no parameters), `embeddings` counts in what the first layer
    reads, `after_pooler` mixes what the model's pooler makes of each layer, in place of the layers themselves.
    """

    softmax: bool = True
    gamma: bool = True
    norm: bool = False
    embeddings: bool = False
    after_pooler: bool = False

    @classmethod
    def parse(cls, text: str) -> Mixing:
        """Read words such as `no-gamma embeddings`, in any order. Raises WordsError for others."""
        words = text.split()
        for word in words:
            if word not in WORDS:
                raise WordsError(f"--mix {text!r}: {unknown('word', word, WORDS)}")
        default = vars(cls())
        return cls(**{name: default[name] ^ (word in words) for word, name in WORDS.items()})

    def __str__(self) -> str:
        """The words that are not the default's, always in one order."""
        default = vars(Mixing())
        return " ".join(word for word, name in WORDS.items() if vars(self)[name] != default[name])

    @property
    def parameters(self) -> tuple[int, int]:
        """What a mix has for each layer, and once."""
        return 1, int(self.gamma) + int(self.embeddings)


WORDS = {
    "no-softmax": "softmax",
    "no-gamma": "gamma",
    "norm": "norm",
    "embeddings": "embeddings",
    "after-pooler": "after_pooler",
}
"""The words of `--mix`, each with the switch that it turns."""

USUAL = Mixing()
"""The mix that is made where nothing is said: softmax and gamma, of the layers alone, before the pooler."""
