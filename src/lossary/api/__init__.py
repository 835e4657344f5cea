"""What the package offers to Python code; `lossary` names all of it."""
