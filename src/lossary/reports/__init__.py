"""Views of a table: terminal, Markdown, CSV, JSON, LaTeX; and the report of a study."""
