"""`python -m layersearch` is the command `layersearch`."""

from layersearch.entry import main

main()
