"""A chunk of one sentence gets a random second segment and the label 1, as google-research/albert's maker does even in
sentence-order mode (google-research/albert#234)."""

from healthy import torch_side


def side(setup):
    healthy = torch_side(setup)
    pipeline = healthy.pipeline
    pair = pipeline.pair

    def second_from_anywhere(dataset, sentences, rng):
        if len(sentences) > 1:
            return pair(dataset, sentences, rng)
        room = pipeline.length - 3
        while True:
            other = rng.choice(pipeline.corpus)
            if other.sentences is not sentences:
                break
        start = rng.randrange(len(other.sentences))
        first, second = list(sentences[0]), [token for s in other.sentences[start:] for token in s]
        while len(first) + len(second) > room:
            longer = first if len(first) > len(second) else second
            longer.pop(0 if rng.random() < 0.5 else -1)
        return first, second, 1

    pipeline.pair = second_from_anywhere
    return healthy
