"""Which Trainers raise an alarm, and which is the one that should: `python -m benchmarks.faults.trainers [--quick]`.

First the families of models, then Trainers with a fault planted and healthy ones (`planted.py`): what
was to be found, and what was.
"""

import argparse
from typing import Any

import transformers

from benchmarks.faults.trainers.families import FAMILIES, make_trainer
from benchmarks.faults.trainers.planted import HEALTHY, PLANTED
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
    for name, make in [*((name, one.make) for name, one in PLANTED.items()), *HEALTHY.items()]:
        planted = PLANTED.get(name)
        meant = f"{planted.stage} {planted.name}".strip() if planted else "nothing"
        print(f"{name:<28} {meant:<22} {_alarms(make()) or 'nothing'}", flush=True)


def _alarms(trainer: Any) -> str:
    """What a diagnosis of eight steps finds."""
    trainer.remove_callback(transformers.PrinterCallback)
    found = judge(Record.of(record_loop(trainer, steps=8)))
    alarms = [outcome for outcome in found.outcomes if outcome.verdict in ("confirmed", "stage only")]
    return ", ".join(f"{o.check}: {' + '.join(cause.name for cause in o.causes) or o.verdict}" for o in alarms)


if __name__ == "__main__":
    main()
