"""Charts as Vega-Lite specifications, made with Altair; and static pictures of them."""
