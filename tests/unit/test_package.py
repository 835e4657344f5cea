"""What holds of every module: importing does nothing, and exported names exist."""

import importlib
import pkgutil
import subprocess
import sys

import pytest

import lossary

FRAMEWORKS = ("torch", "transformers", "tensorflow", "keras", "keras_hub", "jax")
# Whose classes are subclasses of a framework's: who imports them has it.
CALLBACKS = ("transformers", "keras", "lightning")
OF_FRAMEWORKS = ("lossary.backends.torch", "lossary.backends.keras", "lossary.__main__")
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(lossary.__path__, "lossary.")
    if not module.name.startswith(OF_FRAMEWORKS)
    and module.name not in [f"lossary.integrations.{name}" for name in CALLBACKS]
)


def test_importing_everything_loads_no_framework_and_changes_no_environment_variable() -> None:
    code = f"""
import importlib, os, sys
before = dict(os.environ)
for name in {MODULES!r}:
    importlib.import_module(name)
assert dict(os.environ) == before, set(os.environ.items()) ^ set(before.items())
loaded = [name for name in {FRAMEWORKS!r} if name in sys.modules]
assert not loaded, loaded
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_help_imports_nothing_heavy() -> None:
    code = """
import sys
from lossary.cli.main import main
sys.argv = ["lossary", "--help"]
try:
    main()
except SystemExit as stop:
    assert not stop.code
heavy = [name for name in ("numpy", "pyarrow", "duckdb", "pydantic", "scipy", "torch", "keras") if name in sys.modules]
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("name", MODULES)
def test_exported_names_exist_and_are_said_once(name: str) -> None:
    module = importlib.import_module(name)
    exported = getattr(module, "__all__", [])
    assert len(set(exported)) == len(exported)
    for symbol in exported:
        assert hasattr(module, symbol), f"{name}.{symbol}"


@pytest.mark.parametrize("name", MODULES)
def test_every_module_says_what_it_is_for(name: str) -> None:
    assert (importlib.import_module(name).__doc__ or "").strip()
