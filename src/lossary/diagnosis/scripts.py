"""Python files of users: loaded as modules, and where an error of theirs arose."""

import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType

from lossary.errors import UsageError

__all__ = ["load_script", "place_of"]


def load_script(path: Path) -> ModuleType:
    """The module that a file makes; what it raises is passed on. UsageError if it is no Python file."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise UsageError("no Python file", where=str(path))
    module = importlib.util.module_from_spec(spec)
    # Files beside a script can be imported by it, as when it is run as a script.
    sys.path.insert(0, str(path.parent))
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def place_of(error: BaseException) -> str:
    """File, line and function of the user's code, if the error passed through any."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "/lossary/" not in frame.filename and "site-packages" not in frame.filename]
    frame = (own or frames)[-1]
    return f"{Path(frame.filename).name}:{frame.lineno} in {frame.name}"
