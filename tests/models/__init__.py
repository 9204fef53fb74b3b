"""Tests of `layersearch.models`, over every row of the families table."""
