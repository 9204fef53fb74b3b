"""A model becomes numbers."""
