"""lossary: what each dataset costs a masked language model, in each framework and size, and why.

Importing this package loads no framework and touches no environment variable.
"""

from importlib.metadata import version

__all__ = ["__version__"]

__version__ = version("lossary")
