"""The rows of the catalogue, by the part of the user's code that they change."""
