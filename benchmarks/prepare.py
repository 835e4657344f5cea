"""MB/s of text to tokenised shards, against `datasets.map` with a fast tokenizer and bare SentencePiece.

Same text, same vocabulary size, two processes or threads each; tokenizers are trained beforehand. Peak memory is the
sum of unique memory of all processes of the preparation, in a round of its own. The last line is the ratio to
`datasets.map`; targets: 5, and 60 % of bare SentencePiece, under 1 GB at any size.

    python -m benchmarks.prepare [--megabytes 50] [--quick]
"""

import json
import shutil
import sys
from contextlib import nullcontext
from pathlib import Path

from benchmarks.common import PeakMemory, alternate, arguments, clock, in_process, lines_of_text, temporary_folder
from lossary.data.prepare import prepare_datasets
from lossary.data.tokenizer import open_tokenizer
from lossary.folder import StudyFolder
from lossary.study_file import parse_study

VOCABULARY = 8000
# datasets.map is slow and its speed does not depend on the size: it is measured on so much at most.
PEER_MEGABYTES = 20.0
STUDY = f"""
name = "prepare"
[tokenizer]
vocabulary_size = {VOCABULARY}
sample_bytes = 4000000
[datasets.text]
source = "text.jsonl"
[runs.r]
backend = "torch"
size = "base"
"""


def main() -> None:
    """Measures and prints."""
    if "--job" in sys.argv:
        job = json.loads(sys.argv[sys.argv.index("--job") + 1])
        print(json.dumps(lossary_side(Path(job["root"]), watch=job["watch"])))
        return
    options = arguments(__doc__, ("--megabytes", 50.0))
    megabytes = 4.0 if options.quick else options.megabytes
    with temporary_folder() as name:
        root = Path(name)
        size = write_text(root / "text.jsonl", megabytes)
        (root / "study.toml").write_text(STUDY)
        folder = StudyFolder(root)
        prepare_datasets(parse_study(STUDY), folder)

        def ours(*, watch: bool = False) -> dict[str, float]:
            shutil.rmtree(root / "prepared", ignore_errors=True)
            result: dict[str, float] = in_process("benchmarks.prepare", {"root": str(root), "watch": watch})
            return result

        sample = root / "sample.jsonl"
        sample_size = write_text(sample, min(PEER_MEGABYTES, megabytes))
        lossary, bare, peer = alternate(
            1 if options.quick else 3,
            lambda: size / 1e6 / ours()["seconds"],
            lambda: bare_sentencepiece(folder, sample, sample_size),
            lambda: datasets_map(root, sample, sample_size),
        )
        peak = ours(watch=True)["peak"]
    print(f"text            {size / 1e6:8.1f} MB, vocabulary {VOCABULARY}, 2 processes")
    print(f"lossary prepare {lossary:8.2f} MB/s, peak memory {peak / 1e6:.0f} MB")
    print(f"SentencePiece   {bare:8.2f} MB/s bare, 2 threads: {lossary / bare:.0%} reached")
    print(f"datasets.map    {peer:8.2f} MB/s, 2 processes")
    print(f"ratio={lossary / peer:.2f}")


def write_text(path: Path, megabytes: float) -> int:
    """Writes JSONL; returns the bytes of text in it."""
    size = 0
    with path.open("w", encoding="utf-8") as file:
        for text in lines_of_text(megabytes):
            size += len(text.encode())
            file.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
    return size


def lossary_side(root: Path, *, watch: bool) -> dict[str, float]:
    """Shards of the text; the tokenizer is there. Watching memory takes time, so that a round does one or the other."""
    start = clock()
    with PeakMemory() if watch else nullcontext() as memory:
        prepare_datasets(parse_study(STUDY), StudyFolder(root), workers=2)
    return {"seconds": clock() - start, "peak": memory.peak if memory else 0.0}


def bare_sentencepiece(folder: StudyFolder, sample: Path, size: int) -> float:
    """Encoding alone, of texts in memory."""
    texts = [json.loads(line)["text"] for line in sample.open(encoding="utf-8")]
    processor = open_tokenizer(folder).processor
    start = clock()
    for first in range(0, len(texts), 2000):
        processor.encode(texts[first : first + 2000], out_type=int, num_threads=2)
    return size / 1e6 / (clock() - start)


def datasets_map(root: Path, sample: Path, size: int) -> float:
    """A fast WordPiece tokenizer of the same vocabulary size under `datasets.map`."""
    import datasets
    from tokenizers import BertWordPieceTokenizer
    from transformers import PreTrainedTokenizerFast

    datasets.disable_progress_bars()
    model = root / "wordpiece.json"
    if not model.is_file():
        tokenizer = BertWordPieceTokenizer()
        lines = (json.loads(line)["text"] for _, line in zip(range(8000), sample.open(encoding="utf-8"), strict=False))
        tokenizer.train_from_iterator(lines, vocab_size=VOCABULARY, show_progress=False)
        tokenizer.save(str(model))
    fast = PreTrainedTokenizerFast(tokenizer_file=str(model))
    data = datasets.load_dataset("json", data_files=str(sample), split="train", cache_dir=str(root / "cache"))
    start = clock()
    data.map(
        lambda batch: fast(batch["text"]), batched=True, num_proc=2, remove_columns=["text"], load_from_cache_file=False
    )
    return size / 1e6 / (clock() - start)


if __name__ == "__main__":
    main()
