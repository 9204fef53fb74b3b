"""What a person sees. The package is a call too: `layersearch.report(...)` is `layersearch.api.report`."""

import sys

from layersearch import CalledPackage

sys.modules[__name__].__class__ = CalledPackage
