"""Many candidates become a front. The package is a call too: `layersearch.search(...)` is `layersearch.api.search`."""

import sys

from layersearch import CalledPackage

sys.modules[__name__].__class__ = CalledPackage
