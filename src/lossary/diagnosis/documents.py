"""Raw documents of a study, as its sources have them: what sides make input arrays of."""

from collections.abc import Iterator
from itertools import islice

from lossary.data.parsing import parse
from lossary.data.source_files import list_files
from lossary.data.sources import read_blocks
from lossary.diagnosis.adapter import Document
from lossary.folder import StudyFolder
from lossary.study import Study

__all__ = ["sample_documents"]


def sample_documents(study: Study, folder: StudyFolder, *, most: int) -> list[Document]:
    """The first `most` documents of each dataset. Raises SourceError as `lossary prepare` does."""
    return [
        {"dataset": name, "text": text} for name in study.datasets for text in islice(_texts(study, folder, name), most)
    ]


def _texts(study: Study, folder: StudyFolder, name: str) -> Iterator[str | list[str]]:
    dataset = study.datasets[name]
    files = list_files(dataset, folder.root, where=f"{folder.study_file}: $.datasets.{name}.source")
    for block in read_blocks(dataset, files):
        for part in parse(block):
            for texts in part.texts:
                yield list(texts) if dataset.is_pair else texts[0]
