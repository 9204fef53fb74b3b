"""Find which layers of a pre-trained transformer a task can do without.

Knows: its version. Does not know anything else: importing it loads no heavy library; the parts are imported by name
(`from layersearch.search.run import run`).
"""

__version__ = "0.1.0"
