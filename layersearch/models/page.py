"""The modeling file of an exported folder: a model that plain transformers has not, as one readable page of code.

Knows: how the page is put together from `parts.py`, for a mix of layers `mix.py`, each with the imports of its own, and
a row of the families table, and how to have the same classes here without it. Does not know: weights, what else lies in
the folder, the proof.
"""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig, PreTrainedModel

from layersearch.models import mix, parts
from layersearch.models.families import FAMILIES, Stack
from layersearch.models.mix import ScalarMix, mix_layers
from layersearch.models.parts import as_family, take_apart
from layersearch.models.surgery import as_stack, family_in, rows_in
from layersearch.pattern import Pattern

PAGE = "modeling_layersearch.py"

Rows = Sequence[Stack]

_HEADER = '''"""{base} with {what}.

Written by layersearch, on which it does not depend. config.json says what is kept: `layer_parts` has `both`,
`attention` or `ffn` for each layer, `layer_sources` its number in the model that it comes from. {mixed}\
Weights have the names
of transformers' own class. Open the folder with
`{auto}.from_pretrained(FOLDER, trust_remote_code=True)`.
"""'''

_CLASSES = '''

STACKS = {stacks}


class {config}({base_config}):
    """The configuration, under a model type of its own: without this page nothing opens it as something else."""

    model_type = "{model_type}"


class {model}({base}):
    """The model: that of transformers, of which each layer keeps the part that the configuration says."""

    config_class = {config}

    def __init__(self, config, *args, **kwargs):
        with as_family(config, {base_config}):
            super().__init__(config, *args, **kwargs)
        take_apart(self.base_model, STACKS, config.layer_parts, config.layer_sources)
'''

_MIXING = """        mix_layers(self, STACKS[-1]["path"], ScalarMix(config.mixed_layers, config.mixed_how))
"""

_MIXED = """The head
reads a mix of the last `mixed_layers` of them; `mixed_how` names what is not usual about it.
"""


def page_of(
    model_class: type[PreTrainedModel],
    config_class: type[PreTrainedConfig],
    auto: str,
    rows: Rows,
    *,
    mixes: bool = False,
) -> str:
    """The text of the page for models of `model_class`, opened by `auto`, whose lists of layers `rows` describe.

    `mixes` says that the head reads a mix of the layers.
    """
    base, base_config = model_class.__name__, config_class.__name__
    names = {"model": _own(base), "config": _own(base_config), "base": base, "base_config": base_config, "auto": auto}
    names["model_type"] = _own_type(config_class)
    names["stacks"] = json.dumps([as_stack(row) for row in rows], indent=4)
    names["what"] = "a mix of its layers in place of the last one" if mixes else "layers that are not all whole"
    names["mixed"] = _MIXED if mixes else ""
    sources = [Path(str(part.__file__)).read_text(encoding="utf-8") for part in (parts, mix)[: 1 + mixes]]
    imports = _joined([*sources, f"from transformers import {base}, {base_config}"])
    code = "\n\n\n".join(map(_without_imports, sources))
    return f"{_HEADER.format(**names)}\n\n{imports}\n\n{code}\n{_CLASSES.format(**names)}{_MIXING * mixes}"


def _imports_in(source: str) -> list[ast.Import | ast.ImportFrom]:
    return [node for node in ast.parse(source).body if isinstance(node, ast.Import | ast.ImportFrom)]


def _without_imports(source: str) -> str:
    """What stands below the imports of a module."""
    return "\n".join(source.splitlines()[_imports_in(source)[-1].end_lineno :]).strip("\n")


def _joined(sources: Iterable[str]) -> str:
    """The imports of several modules, each name once: the future, the standard library, the rest."""
    plain, names = set[str](), dict[str, set[str]]()
    for node in (node for source in sources for node in _imports_in(source)):
        if isinstance(node, ast.Import):
            plain |= {ast.unparse(alias) for alias in node.names}
        else:
            names.setdefault(str(node.module), set()).update(ast.unparse(alias) for alias in node.names)
    groups: dict[int, list[str]] = {0: [], 1: [], 2: []}
    for module in sorted(plain):
        groups[_group(module)].append(f"import {module}")
    for module in sorted(names):
        groups[_group(module)].append(f"from {module} import {', '.join(sorted(names[module]))}")
    return "\n\n".join("\n".join(lines) for lines in groups.values() if lines)


def _group(module: str) -> int:
    return 0 if module == "__future__" else 1 if module.split(".")[0] in sys.stdlib_module_names else 2


def rows_for(model: PreTrainedModel, model_type: str) -> Rows:
    """The rows that describe the lists of layers of `model`, which is one of the family `model_type` underneath."""
    family = FAMILIES.get(model_type) or family_in(model)
    return rows_in(model, family)


def write_page(folder: Path, model: PreTrainedModel, pattern: Pattern, auto: str) -> None:
    """Write the page to `folder`, in which `model` was saved, and let config.json name it for the class `auto`."""
    rows = rows_for(model, model.config.model_type)
    page = page_of(type(model), type(model.config), auto, rows, mixes=pattern.mixes)
    (folder / PAGE).write_text(page, encoding="utf-8")
    file, stem = folder / "config.json", Path(PAGE).stem
    own, own_config = _own(type(model).__name__), _own(type(model.config).__name__)
    blocks = pattern.blocks if rows[0].shared is None else pattern.blocks[:1]
    values = json.loads(file.read_text(encoding="utf-8")) | {
        "model_type": _own_type(type(model.config)),
        "architectures": [own],
        "auto_map": {"AutoConfig": f"{stem}.{own_config}", auto: f"{stem}.{own}"},
        "layer_parts": [block.halves for block in blocks],
        "layer_sources": [block.layer for block in blocks],
    }
    file.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def class_without_code(model_class: type[PreTrainedModel], config_class: type[PreTrainedConfig], auto: str) -> Any:
    """The model class of the page, made here, without code from a folder. What it saves has the page again."""
    own: dict[str, Any] = {"model_type": _own_type(config_class), "__module__": __name__}
    model_type = config_class.model_type
    own_config: Any = type(_own(config_class.__name__), (config_class,), own)

    def init(self: Any, config: Any, *args: Any, **kwargs: Any) -> None:
        with as_family(config, config_class):
            super(made, self).__init__(config, *args, **kwargs)
        stacks = [as_stack(row) for row in rows_for(self, model_type)]
        take_apart(self.base_model, stacks, config.layer_parts, config.layer_sources)
        if hasattr(config, "mixed_layers"):
            mix_layers(self, stacks[-1]["path"], ScalarMix(config.mixed_layers, config.mixed_how))

    def save(self: Any, save_directory: str | Path, *args: Any, **kwargs: Any) -> None:
        super(made, self).save_pretrained(save_directory, *args, **kwargs)
        mixes, rows = hasattr(self.config, "mixed_layers"), rows_for(self, model_type)
        page = page_of(model_class, config_class, auto, rows, mixes=mixes)
        Path(save_directory, PAGE).write_text(page, encoding="utf-8")

    own = {"config_class": own_config, "__init__": init, "save_pretrained": save, "__module__": __name__}
    made: Any = type(_own(model_class.__name__), (model_class,), own)
    return made


def _own(name: str) -> str:
    return f"Layersearch{name}"


def _own_type(config_class: type[PreTrainedConfig]) -> str:
    return f"layersearch_{config_class.model_type}"
