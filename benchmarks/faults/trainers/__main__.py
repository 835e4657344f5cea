"""Which Trainers raise an alarm, and which is the one that should: `python -m benchmarks.faults.trainers [--quick]`."""

import argparse

import transformers

from benchmarks.faults.trainers.families import FAMILIES, make_trainer
from lossary.backends.torch.loop import record_loop
from lossary.diagnosis.loop.diagnose import judge
from lossary.diagnosis.loop.record import Record

_VARIANTS = ({}, {"k": 4}, {"k": 4, "bf16": True})


def main() -> None:
    """Prints a line for each family and variant."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="two steps, without bf16")
    quick = parser.parse_args().quick
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    for family in FAMILIES:
        for variant in _VARIANTS[:2] if quick else _VARIANTS:
            trainer = make_trainer(family, **variant)
            trainer.remove_callback(transformers.PrinterCallback)
            found = judge(Record.of(record_loop(trainer, steps=2 if quick else 4)))
            told = ", ".join(f"{o.check}: {o.causes[0].name if o.causes else o.verdict}" for o in found.outcomes)
            print(f"{family:<11} {variant!s:<28} {told}")


if __name__ == "__main__":
    main()
