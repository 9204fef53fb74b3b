"""`python -m layersearch` is the command `layersearch`."""

from layersearch.cli import main

main()
