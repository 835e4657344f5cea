"""Any model's training loop against a reference of its own: the forward pass is given, what follows is recomputed."""
