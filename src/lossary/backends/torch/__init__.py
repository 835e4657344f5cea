"""The PyTorch backend; torch and transformers are imported here only."""
