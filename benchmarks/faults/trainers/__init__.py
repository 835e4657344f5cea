"""Trainers of tiny models, right ones and ones with a fault planted, for `lossary diagnose --trainer`."""
