"""Studies at a URL: immutable objects, manifests that are written last, a claim of who writes, copies to work in."""
