"""Real faults put into real-looking training code, and how well `lossary diagnose` finds them."""
