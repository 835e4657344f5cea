"""Tools for those who work on lossary; not part of the package."""
