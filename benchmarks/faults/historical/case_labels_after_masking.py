"""The label is read from the input when its token is masked already (lonePatient/albert_pytorch#1)."""

from healthy import torch_side

IGNORE, MASK, SPECIALS = -100, 4, 5


def side(setup):
    healthy = torch_side(setup)
    pipeline = healthy.pipeline

    def mask(dataset, ids, rng):
        del dataset
        inputs, labels = list(ids), [IGNORE] * len(ids)
        budget = min(pipeline.most, max(1, round(pipeline.mask_rate * len(ids))))
        words = pipeline.words(ids)
        rng.shuffle(words)
        for word in words:
            if len(word) > budget:
                continue
            budget -= len(word)
            for position in word:
                if rng.random() < 0.8:
                    inputs[position] = MASK
                elif rng.random() < 0.5:
                    inputs[position] = rng.randrange(SPECIALS, pipeline.vocab)
                labels[position] = inputs[position]
        return inputs, labels

    pipeline.mask = mask
    return healthy
