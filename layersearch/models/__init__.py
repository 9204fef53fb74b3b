"""A pattern becomes a model: surgery, counting, loading, checkpoints and exports.

Knows: nothing by itself; import the modules. Only `families` is light, the others load torch.
"""
