"""The stages of a study, each of which keeps what is done: prepare, train, evaluate."""
