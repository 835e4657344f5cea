"""From documents to batches: sources, tokenizer, shards, spans, examples, mixture, validation set."""
