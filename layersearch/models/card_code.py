"""The code on a model card that opens its folder.

Knows: the classes of transformers by kind, the forms of an export. Does not know: anything else of a card.
"""

from __future__ import annotations

from layersearch.kinds import Kind
from layersearch.models.families import Form


def opening(form: Form, kind: Kind) -> str:
    """How the folder is opened, as code, by its form."""
    coded = ", trust_remote_code=True" if form == "with code" else ""
    reader = f"reader = {kind.reader}.from_pretrained(folder{coded})"
    named = 'folder = "."  # this folder, or its name on the hub'
    if form == "onnx":
        how = f"""import onnxruntime
from transformers import {kind.reader}

{named}
session = onnxruntime.InferenceSession(f"{{folder}}/model.onnx")
{reader}"""
        return f"```python\n{how}\n```\n"
    how = f"""from transformers import {kind.head}, {kind.reader}

{named}
model = {kind.head}.from_pretrained(folder{coded})
{reader}"""
    alone = "" if not coded else "\nWithout running code from the folder: `layersearch.load(folder)`.\n"
    return f"```python\n{how}\n```\n{alone}"
