"""The first line of every document is taken for its title, as transformers' `LineByLineWithSOPTextDataset` does.

It was written for articles of Wikipedia; any other document loses its first line.
"""

from healthy import torch_side


def side(setup):
    healthy = torch_side(setup)
    read = healthy.pipeline.read

    def without_titles(documents):
        for dataset, fields in read(documents):
            if len(fields) == 1:
                fields = ["\n".join(fields[0].splitlines()[1:])]
            yield dataset, fields

    healthy.pipeline.read = without_titles
    return healthy
