"""Where the golden numbers are, and the recipe that their inputs and weights are rebuilt by."""

from __future__ import annotations

import importlib.util
import os
from functools import lru_cache
from pathlib import Path
from types import ModuleType

FOLDER = Path(os.environ.get("HEADSPLAT_GOLDEN", Path(__file__).parent.parent / "golden"))


@lru_cache
def recipe() -> ModuleType:
    spec = importlib.util.spec_from_file_location("recipe", FOLDER / "recipe.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
