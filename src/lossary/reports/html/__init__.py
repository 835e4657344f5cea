"""The page that people look at: view models, charts and templates of the one-file report and of the dashboard."""
