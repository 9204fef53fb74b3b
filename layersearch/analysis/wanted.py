"""What can be found out about the layers of a model, in words.

Knows: the names of analyses and their settings. Does not know: how anything is computed. Loads nothing heavy.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Found = Literal["cka", "similarity", "probes", "readout"]

RowsOf = Literal["mean", "first", "every"]
"""What one row is: the mean over an example's tokens, its first token, or each token by itself.

`mean` is the default: of a pre-trained model no aim may ever have shaped the first token (RoBERTa's has none), and
before the first layer BERT's is the same in all texts, so that nothing can be said of it. `first` is what a classifier
reads.
"""

AttentionOf = Literal["whole", "change"]
"""What attention outputs are: what an attention half hands on, with its residual and norm; or that less what came in.

Which of them Sridhar and Sarah, arXiv 2012.11881, compared is not known to us. `whole` is the default, because it is
what the next half gets.
"""

OWN = "own"  # the probing task that is the task itself
EXAMPLES = 2000
BATCH = 512  # rows that CKA compares at once


@dataclass(frozen=True)
class Wanted:
    """What is to be found out, and over what.

    `examples` of `part` (of `Splits`) are looked at; for probes so many of the training part and of the part held out
    for the search each. `probes` are OWN and names of `sentences.GENERATORS`; `senteval` a folder with more.
    """

    what: tuple[Found, ...] = ("cka", "similarity", "probes")
    rows: RowsOf = "mean"
    attention: AttentionOf = "whole"
    part: str = "train"
    examples: int = EXAMPLES
    batch: int = BATCH
    probes: tuple[str, ...] = (OWN,)
    senteval: Path | None = None
    max_length: int = 128
    seed: int = 0
