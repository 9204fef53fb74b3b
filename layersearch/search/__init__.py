"""Many candidates become a front."""
