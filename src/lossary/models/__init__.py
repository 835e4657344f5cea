"""ALBERT without a framework: sizes, canonical parameters, initial weights, update laws, learning rates."""
