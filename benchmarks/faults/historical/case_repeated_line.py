"""Pairs of a line with itself, as transformers' `LineByLineWithSOPTextDataset` makes them.

Its loop goes on where a chunk cannot be cut in two, without stepping to the next line: the same line is added once
more, and now there are two to cut between. Seen as brightmart/albert_zh#23.
"""

from healthy import torch_side


def line_chunks(lines, target):
    chunk, size, at = [], 0, 0
    while at < len(lines):
        chunk.append(lines[at])
        size += len(lines[at])
        if at == len(lines) - 1 or size >= target:
            if len(chunk) < 2:
                continue
            yield chunk
            chunk, size = [], 0
        at += 1


def side(setup):
    healthy = torch_side(setup)
    pipeline = healthy.pipeline
    room = pipeline.length - 3

    def load(documents):
        from feed import Chunk, digest

        pipeline.corpus = []
        for dataset, fields in pipeline.read(documents):
            texts = fields if len(fields) == 2 else fields[0].splitlines()
            lines = [ids for ids in pipeline.encode(texts) if ids]
            chunks = [lines] if len(fields) == 2 else line_chunks(lines, room)
            for chunk in chunks:
                if chunk:
                    pipeline.corpus.append(Chunk(dataset, len(pipeline.corpus), chunk, digest(fields)))
        return pipeline.corpus

    pipeline.load = load
    return healthy
