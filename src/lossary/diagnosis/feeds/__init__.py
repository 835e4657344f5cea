"""What a side feeds its model: examples aligned with documents, facts about them, named faults that reproduce them."""
