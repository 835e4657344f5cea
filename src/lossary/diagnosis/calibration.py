"""Every number by which a diagnosis judges: what is equal, what is healthy, from how many on something is said.

    from lossary.diagnosis.calibration import ALARM_LEVEL

What is equal is measured wherever it can be: rounding, noise of a rerun, rates of healthy makers of examples. These are
the numbers that remain: multiples of what was measured, levels, least counts, shares. Each says how it was found; a
convention is a choice that the benchmark of faults and its healthy trainers bear out, and nothing more. Numbers that a
search spends (widths, starting points, steps) judge nothing and stand where they are used.

`docs/reference/calibration.md` is made of this.
"""

from dataclasses import dataclass
from typing import TypeVar

Value = TypeVar("Value", int, float)


@dataclass(frozen=True, kw_only=True)
class Number:
    """One number that judges."""

    name: str
    value: float
    unit: str
    found: str  # how
    command: str  # that shows it again; empty where it follows from a definition
    group: str


NUMBERS: list[Number] = []
_GROUP = [""]


def _judges(name: str, value: Value, unit: str, found: str, command: str = "") -> Value:
    NUMBERS.append(Number(name=name, value=value, unit=unit, found=found, command=command, group=_GROUP[0]))
    return value


_GROUP[0] = "Levels: how likely a healthy side may be taken for a faulty one, and a right cause be refused"
ALARM_LEVEL = _judges(
    "ALARM_LEVEL",
    1e-4,
    "probability",
    "convention: one false alarm in ten thousand healthy feeds, all facts together",
    "python -m benchmarks.faults --only healthy",
)
REPRODUCED_LEVEL = _judges(
    "REPRODUCED_LEVEL",
    1e-3,
    "probability",
    "convention: one right cause in a thousand is refused",
    "python -m benchmarks.faults",
)
FALSE_ALARMS = _judges(
    "FALSE_ALARMS",
    0.01,
    "probability",
    "convention: of one identification of a healthy architecture",
    "python -m pytest tests/unit/diagnosis/test_architecture.py",
)
LOADING_LEVEL = _judges(
    "LOADING_LEVEL",
    1e-6,
    "probability",
    "convention: of a correlation by chance, over all tensors of a model",
    "python -m pytest tests/unit/diagnosis/test_loading.py",
)
COURSE_LEVEL = _judges(
    "COURSE_LEVEL",
    1e-4,
    "probability",
    "convention: of a course that rises by chance",
    "python -m pytest tests/unit/diagnosis/test_course.py",
)
POLARITY_LEVEL = _judges(
    "POLARITY_LEVEL",
    0.05,
    "probability",
    "convention, after Holm: order answered the wrong way round",
    "python -m pytest tests/unit/diagnosis/test_counterfactual.py",
)
LUCK_LEVEL = _judges(
    "LUCK_LEVEL",
    0.05,
    "probability",
    "convention: that another way of scoring gives a page's digits by chance",
    "python -m pytest tests/unit/diagnosis/test_counterfactual.py",
)

_GROUP[0] = "Floors: what is counted though it was never seen"
FLOOR_HARD = _judges(
    "FLOOR_HARD",
    1e-9,
    "rate",
    "convention: what construction forbids; one such example is a deviation",
    "python -m pytest tests/unit/diagnosis/feeds/test_counts.py",
)
FLOOR_INVARIANT = _judges(
    "FLOOR_INVARIANT",
    1e-6,
    "rate",
    "convention: what only a wrong alignment shows; two examples are a deviation",
    "python -m pytest tests/unit/diagnosis/feeds/test_counts.py",
)
FLOOR_SAME_ORDER = _judges(
    "FLOOR_SAME_ORDER",
    0.1,
    "share of repeats",
    "a shuffled epoch has hardly two repeats at one distance; a tenth is far beyond",
    "python -m pytest tests/unit/diagnosis/feeds/test_streams.py",
)
FLOOR_SAME_MASKS = _judges(
    "FLOOR_SAME_MASKS",
    1e-4,
    "share of repeats",
    "convention: above what the reference itself has",
    "python -m pytest tests/unit/diagnosis/feeds/test_streams.py",
)
LOOKED_UP_WRONGLY = _judges(
    "LOOKED_UP_WRONGLY",
    1e-3,
    "share of examples",
    "convention: stretches that an alignment takes for another one",
    "python -m pytest tests/unit/diagnosis/feeds/test_streams.py",
)
REDRAWN_WRONGLY = _judges(
    "REDRAWN_WRONGLY",
    1e-2,
    "share of examples",
    "convention: the same of examples that are cut, swapped and masked anew after a resume",
    "python -m benchmarks.faults --only T20",
)
NONE_OF = _judges("NONE_OF", 3.0, "of n", "rule of three: none of n leaves rates of up to 3/n open, at 95 %", "")
UNMOVED = _judges(
    "UNMOVED",
    0.2,
    "share of a rate",
    "convention: what alignment alone changes of a rate that is a choice",
    "python -m benchmarks.faults --only healthy",
)

NEAR_ODDS = _judges(
    "NEAR_ODDS",
    1.8,
    "times the odds",
    "measured: an independent maker of masks and pairs reached 1.15, pairs behind a first sentence 8; runs at 1.5 pass",
    "python -m benchmarks.faults.unseen DEMO --only healthy,first-sentence-alone,long-runs",
)
CHANCE_ODDS = _judges(
    "CHANCE_ODDS",
    1.1,
    "times the odds",
    "convention: draws over the whole vocabulary may leave out some pieces, or hold some special ones",
    "python -m benchmarks.faults.unseen DEMO --only healthy",
)
CHANCE_MOVED = _judges(
    "CHANCE_MOVED",
    4.0,
    "standard deviations",
    "convention: so far apart are draws of another law, and not the same ones made anew",
    "python -m pytest tests/unit/diagnosis/feeds/test_examples.py",
)
LEAST_RATE_CHANGES = _judges(
    "LEAST_RATE_CHANGES",
    4,
    "changes",
    "convention: of a learning rate, from which on it is said how many steps they are apart",
    "python -m pytest tests/unit/diagnosis/test_schedules.py",
)
LEAST_SERIAL = _judges(
    "LEAST_SERIAL",
    50,
    "pairs",
    "convention: neighbours of which a correlation is said to be none of chance; its normal bound holds there",
    "python -m pytest tests/unit/diagnosis/feeds/test_streams.py",
)
SERIAL_ALIKE = _judges(
    "SERIAL_ALIKE",
    0.15,
    "of a correlation",
    "convention: beyond noise, so near is the reference in the nearest arrangement that is tried (powers of two)",
    "python -m benchmarks.faults.unseen DEMO --only small-buffer",
)

_GROUP[0] = "Tolerances of numbers: multiples of what rounding was measured to do"
ARITHMETIC_SAFETY = _judges(
    "ARITHMETIC_SAFETY",
    2.0,
    "times",
    "convention: rounding is measured on a few ways of computing; another program's may be that much worse",
    "python -m pytest tests/unit/diagnosis/test_losses.py",
)
BLOCKS_SAFETY = _judges(
    "BLOCKS_SAFETY",
    8.0,
    "times",
    "measured: over 75 steps torch, TensorFlow and a third order reached 3.0 times; the least named fault is at 10,000",
    "python -m pytest tests/unit/diagnosis/test_gradients.py",
)
BLOCKS_LEAST_NOISE = _judges(
    "BLOCKS_LEAST_NOISE",
    2.0**-24,
    "relative",
    "half a unit in the last place of float32, where nothing was measured",
    "",
)
UPDATE_LEAST_ROUNDINGS = _judges(
    "UPDATE_LEAST_ROUNDINGS",
    4.0,
    "half ulps",
    "counted: correction, quotient, decay, rate",
    "python -m pytest tests/unit/diagnosis/test_updates.py",
)
UPDATE_SAFETY = _judges(
    "UPDATE_SAFETY",
    2.0,
    "times",
    "convention: another order of operations rounds otherwise than the one measured",
    "python -m pytest tests/unit/diagnosis/test_updates.py",
)
UPDATE_MOST_FREEDOM = _judges(
    "UPDATE_MOST_FREEDOM",
    1e-3,
    "of a step",
    "convention: what the same law may be otherwise, at most",
    "python -m pytest tests/unit/diagnosis/test_updates.py",
)
UPDATE_MOST_ALLOWED = _judges(
    "UPDATE_MOST_ALLOWED",
    1e-2,
    "of the largest step",
    "convention: huge terms that cancel do not make a law free",
    "python -m pytest tests/unit/diagnosis/test_updates.py",
)
UPDATE_OF_A_RERUN = _judges(
    "UPDATE_OF_A_RERUN",
    2.0,
    "times",
    "two runs, each with noise before and after a step",
    "python -m pytest tests/unit/diagnosis/test_updates.py",
)
CLIP_SLACK = _judges("CLIP_SLACK", 1e-6, "of the norm", "PyTorch divides by the norm + 1e-6", "")
UPDATE_CLEARLY = _judges(
    "UPDATE_CLEARLY",
    0.05,
    "of the loss of a fit",
    "convention: by so much one choice for a parameter has to be better",
    "python -m pytest tests/unit/diagnosis/test_updates.py",
)
UPDATE_SHOWS = _judges(
    "UPDATE_SHOWS",
    20.0,
    "ulps",
    "convention: steps from which on a factor of the rate is read off",
    "python -m pytest tests/unit/diagnosis/test_updates.py",
)
REPLAY_OF_ONE_ULP = _judges(
    "REPLAY_OF_ONE_ULP",
    4.0,
    "times",
    "convention: a computation in float32 rounds more often than its inputs",
    "python -m pytest tests/unit/diagnosis/test_replay.py",
)
REPLAY_OF_ROUGH = _judges(
    "REPLAY_OF_ROUGH",
    3.0,
    "times",
    "convention: of what the declared low precision does to a gradient",
    "python -m pytest tests/unit/diagnosis/test_replay.py",
)
REPLAY_VISIBLE = _judges(
    "REPLAY_VISIBLE",
    0.1,
    "of a step",
    "convention: an element shows if its tolerance is below a tenth of the step",
    "python -m pytest tests/unit/diagnosis/test_replay.py",
)
REPLAY_ENOUGH = _judges(
    "REPLAY_ENOUGH",
    0.1,
    "of the elements",
    "convention: a step is compared if a tenth of its elements show",
    "python -m pytest tests/unit/diagnosis/test_replay.py",
)
SCHEDULE_ROUNDINGS = _judges(
    "SCHEDULE_ROUNDINGS",
    4,
    "ulps at the peak",
    "counted: a division, two products, a difference",
    "python -m pytest tests/unit/diagnosis/test_schedules.py",
)
BF16_COPY = _judges(
    "BF16_COPY",
    2.0**-8,
    "relative",
    "half a unit in the last place of bfloat16: weights returned by a side that declares it",
    "",
)
FORMAT_IS_FAR = _judges(
    "FORMAT_IS_FAR",
    1.8,
    "natural logarithm",
    "convention: a format whose first run is off by more is not looked at",
    "python -m pytest tests/unit/diagnosis/test_architecture.py",
)
LARGEST_DROPOUT = _judges(
    "LARGEST_DROPOUT",
    0.6,
    "rate",
    "convention: more drops than anyone trains with",
    "python -m pytest tests/unit/diagnosis/test_dropout.py",
)
AS_GOOD = _judges(
    "AS_GOOD",
    1.05,
    "times",
    "convention: a rounded value of a setting may fit so much worse",
    "python -m pytest tests/unit/diagnosis/test_architecture.py",
)
ALL_ROUNDING = _judges(
    "ALL_ROUNDING",
    0.5,
    "relative",
    "convention: a gradient of which half is rounding says nothing of the usual rounding",
    "python -m pytest tests/unit/diagnosis/test_gradients.py",
)
ONE_FACTOR = _judges(
    "ONE_FACTOR",
    1e-4,
    "relative",
    "convention: factors of tensors that are one",
    "python -m pytest tests/unit/diagnosis/test_gradients.py",
)
CLIPPED_BY = _judges(
    "CLIPPED_BY",
    1e-5,
    "relative",
    "convention: gradients smaller by less are not clipped",
    "python -m pytest tests/unit/diagnosis/test_gradients.py",
)

_GROUP[0] = "Least counts: below them nothing is said"
LEAST_DRAWN = _judges(
    "LEAST_DRAWN",
    16,
    "values",
    "convention: fewer do not tell from which law weights were drawn",
    "python -m pytest tests/unit/diagnosis/test_initial.py",
)
LEAST_MEASURED = _judges(
    "LEAST_MEASURED",
    3,
    "observations",
    "convention: fewer numbers do not tell laws of a loss apart",
    "python -m pytest tests/unit/diagnosis/test_losses.py",
)
LEAST_FOR_RANKS = _judges(
    "LEAST_FOR_RANKS",
    12,
    "examples",
    "convention: below, ranks say nothing",
    "python -m pytest tests/unit/diagnosis/test_covariates.py",
)
LEAST_REPEATS = _judges(
    "LEAST_REPEATS",
    12,
    "repeats",
    "convention: repeats an epoch apart that say something about its order",
    "python -m pytest tests/unit/diagnosis/feeds/test_streams.py",
)
LEAST_SCORED = _judges(
    "LEAST_SCORED",
    3,
    "scored places",
    "convention: from then on two masks are not the same by chance",
    "python -m pytest tests/unit/diagnosis/feeds/test_streams.py",
)
LEAST_PIECES = _judges(
    "LEAST_PIECES",
    8,
    "pieces",
    "convention: shorter texts stand in many documents",
    "python -m pytest tests/unit/diagnosis/feeds/test_validation.py",
)
LEAST_EPOCHS = _judges(
    "LEAST_EPOCHS",
    3,
    "epochs",
    "convention: a stream needs them to tell how evenly examples come",
    "python -m pytest tests/unit/diagnosis/feeds/test_streams.py",
)
UNMASKED_FROM = _judges(
    "UNMASKED_FROM",
    6,
    "scored places",
    "each is kept in one of ten by chance: six are in one of a million",
    "python -m pytest tests/unit/diagnosis/feeds/test_validation.py",
)
COURSE_FEWEST = _judges(
    "COURSE_FEWEST",
    64,
    "steps",
    "convention: a shorter course says nothing about a rise",
    "python -m pytest tests/unit/diagnosis/test_dynamics.py",
)
COURSE_MOST = _judges(
    "COURSE_MOST",
    160,
    "steps",
    "convention: what a diagnosis may cost",
    "python -m pytest tests/unit/diagnosis/test_dynamics.py",
)
LEAST_LOSSES = _judges(
    "LEAST_LOSSES",
    8,
    "losses",
    "convention: fewer do not show where a course rose",
    "python -m pytest tests/unit/diagnosis/test_experiments.py",
)
HALF_AN_EXAMPLE = _judges("HALF_AN_EXAMPLE", 0.5, "examples", "expected counts below it are none", "")
LEAST_OF_DOCUMENT = _judges(
    "LEAST_OF_DOCUMENT",
    4,
    "pieces",
    "convention: shorter first segments do not say which document they are of",
    "python -m pytest tests/unit/diagnosis/feeds/test_examples.py",
)
LEAST_OF_SEGMENT = _judges(
    "LEAST_OF_SEGMENT",
    3,
    "pieces",
    "convention: shorter segments stand in many documents",
    "python -m pytest tests/unit/diagnosis/feeds/test_examples.py",
)
LEAST_CORRELATED = _judges("LEAST_CORRELATED", 3, "elements", "fewer have no correlation", "")
MOST_PARTS = _judges(
    "MOST_PARTS",
    4,
    "causes",
    "convention: more at once are no explanation of gradients",
    "python -m pytest tests/unit/diagnosis/test_gradients.py",
)

_GROUP[0] = "Shares: from which on something is no accident, or is the cause"
MOST_HELD_OUT = _judges(
    "MOST_HELD_OUT",
    0.6,
    "of the documents",
    "convention: more are not kept for validation",
    "python -m benchmarks.faults --only healthy",
)
FOREIGN_SHARE = _judges(
    "FOREIGN_SHARE",
    0.02,
    "of the examples",
    "convention: with something other than [CLS] in front",
    "python -m pytest tests/unit/diagnosis/feeds/test_examples.py",
)
RETOKENISED_SHARE = _judges(
    "RETOKENISED_SHARE",
    0.1,
    "of a dataset's examples",
    "convention: fewer altered ones are not the tokenizer's doing",
    "python -m pytest tests/unit/diagnosis/feeds/test_tokens.py",
)
RETOKENISED_LEFT = _judges(
    "RETOKENISED_LEFT",
    0.03,
    "of the altered ones",
    "convention: may stay altered where a tokenizer explains them",
    "python -m pytest tests/unit/diagnosis/feeds/test_tokens.py",
)
UNKNOWN_SHARE = _judges(
    "UNKNOWN_SHARE",
    0.02,
    "of the pieces",
    "convention: more <unk> is too much",
    "python -m pytest tests/unit/diagnosis/feeds/test_tokens.py",
)
MOST_CUT = _judges(
    "MOST_CUT",
    3.0,
    "times",
    "convention: lone sentences that another way of cutting documents leaves",
    "python -m pytest tests/unit/diagnosis/feeds/test_examples.py",
)
SHARED_STRETCH = _judges(
    "SHARED_STRETCH",
    0.7,
    "of the longer stretch",
    "between what two consecutive pairs share and what is left of one that was cut",
    "python -m pytest tests/unit/diagnosis/feeds/test_streams.py",
)
ALL_SHARED = _judges(
    "ALL_SHARED",
    0.9,
    "of a stretch",
    "two consecutive pairs of sentences share less, but for one in some hundred",
    "python -m pytest tests/unit/diagnosis/feeds/test_examples.py",
)
SHARED_BY_CHANCE = _judges(
    "SHARED_BY_CHANCE",
    5e-3,
    "of the pairs",
    "the one in some hundred of ALL_SHARED, halved",
    "python -m pytest tests/unit/diagnosis/feeds/test_examples.py",
)
SOON = _judges(
    "SOON",
    0.25,
    "of an epoch",
    "convention: an example that is back before a quarter of all is back soon",
    "python -m pytest tests/unit/diagnosis/feeds/test_streams.py",
)
ALL_DOSE = _judges(
    "ALL_DOSE", 0.985, "dose", "convention: from then on all are said to be struck", "python -m benchmarks.faults"
)
SUSPECT_RISE = _judges(
    "SUSPECT_RISE",
    0.25,
    "of what is noise",
    "convention: a rise from which on a second course is worth its cost",
    "python -m pytest tests/unit/diagnosis/test_dynamics.py",
)
GAP_LEAST = _judges(
    "GAP_LEAST",
    0.05,
    "of the gap",
    "convention: less is not what carries it, however sure it is",
    "python -m pytest tests/unit/diagnosis/test_swap.py",
)
GAP_REMAINS = _judges(
    "GAP_REMAINS",
    0.25,
    "of a difference",
    "convention: may remain where a covariate explains it",
    "python -m pytest tests/unit/diagnosis/test_covariates.py",
)
GAP_OVERLAP = _judges(
    "GAP_OVERLAP",
    0.5,
    "of the examples",
    "convention: need like ones in another dataset",
    "python -m pytest tests/unit/diagnosis/test_covariates.py",
)
FEED_LEAST_GAIN = _judges(
    "FEED_LEAST_GAIN", 3.0, "nats", "convention: what a dose must be worth", "python -m benchmarks.faults"
)
FEED_LEAST_GAIN_ELSEWHERE = _judges(
    "FEED_LEAST_GAIN_ELSEWHERE",
    8.0,
    "nats",
    "convention: the same where nothing deviates by itself",
    "python -m benchmarks.faults",
)
FEED_PRICE = _judges(
    "FEED_PRICE",
    4.0,
    "nats",
    "convention: what a free dose costs when faults are ranked",
    "python -m benchmarks.faults",
)
FEED_PRICE_FITTED = _judges(
    "FEED_PRICE_FITTED",
    5.0,
    "nats",
    "convention: what a fault costs whose rates are read from the side",
    "python -m benchmarks.faults",
)
SETTING_LEAST_GAIN = _judges(
    "SETTING_LEAST_GAIN",
    0.02,
    "of the score",
    "convention: less, and a fault of the architecture explains nothing",
    "python -m pytest tests/unit/diagnosis/test_architecture.py",
)
WHOLE_SHARE = _judges(
    "WHOLE_SHARE",
    0.8,
    "of the examples",
    "convention: where fewer first segments stand in documents, alignment is lost",
    "python -m pytest tests/unit/diagnosis/feeds/test_examples.py",
)
RETOKENISED_IN_PART = _judges(
    "RETOKENISED_IN_PART",
    0.9,
    "of the altered ones",
    "convention: a change of the text that leaves more is no part of two",
    "python -m pytest tests/unit/diagnosis/feeds/test_tokens.py",
)
SINGLE_EXPLAINS = _judges(
    "SINGLE_EXPLAINS",
    0.8,
    "of the distance",
    "convention: single faults that leave more call for one beside them",
    "python -m benchmarks.faults",
)
MOST_STRUCK = _judges("MOST_STRUCK", 0.5, "dose", "convention: above it all are tried", "python -m benchmarks.faults")
AVERAGE_LEAST = _judges(
    "AVERAGE_LEAST",
    0.01,
    "decay",
    "convention: below it no moving average of weights is looked for",
    "python -m pytest tests/unit/diagnosis/test_replay.py",
)
AVERAGE_MOST = _judges(
    "AVERAGE_MOST",
    0.99999,
    "decay",
    "convention: above it four steps do not show one",
    "python -m pytest tests/unit/diagnosis/test_replay.py",
)
WHOLE_EXAMPLES = _judges(
    "WHOLE_EXAMPLES",
    0.5,
    "of the positions missed",
    "convention: more in whole examples, and the feed of examples is suspected",
    "python -m pytest tests/unit/diagnosis/test_experiments.py",
)

_GROUP[0] = "Loops of any model"
LOOP_LOSS_FP32 = _judges(
    "LOOP_LOSS_FP32",
    2e-5,
    "relative",
    "measured: right Trainers of the benchmark reached 1.4e-7; the least named fault is at 4e-2",
    "python -m benchmarks.faults.trainers",
)
LOOP_LOSS_LOW = _judges(
    "LOOP_LOSS_LOW",
    4e-3,
    "relative",
    "half a unit in the last place of bfloat16: losses that are computed or returned in it",
    "python -m benchmarks.faults.trainers",
)
LOOP_GRADIENT_FP32 = _judges(
    "LOOP_GRADIENT_FP32",
    1e-3,
    "relative",
    "measured: right Trainers of the benchmark reached 3.9e-7; the least named fault is at 4e-2",
    "python -m benchmarks.faults.trainers",
)
LOOP_GRADIENT_LOW = _judges(
    "LOOP_GRADIENT_LOW",
    3e-2,
    "relative",
    "convention: eight half units in the last place of bfloat16; Trainers of the benchmark reached 1.0e-2",
    "python -m benchmarks.faults.trainers",
)
LOOP_UNEXPLAINED = _judges(
    "LOOP_UNEXPLAINED",
    10.0,
    "times",
    "convention: of the tolerance of a factor; what of a gradient is no combination of its micro batches' own",
    "python -m benchmarks.faults.trainers",
)
LOOP_COUNT_IS_WHOLE = _judges(
    "LOOP_COUNT_IS_WHOLE",
    1e-3,
    "relative",
    "convention: so near to one over the micro batches of a step, a schedule is told to count these",
    "python -m benchmarks.faults.trainers",
)
LOOP_RATE_IS_ZERO = _judges(
    "LOOP_RATE_IS_ZERO",
    1e-9,
    "of the peak",
    "convention: rounding of a schedule in double precision at the step where it ends",
    "python -m benchmarks.faults.trainers",
)
LOOP_MOST_DIGITS = _judges(
    "LOOP_MOST_DIGITS",
    6,
    "decimals",
    "convention: a logged number of more is taken for one in full, and not for a rounded one",
    "python -m benchmarks.faults.trainers",
)
LOOP_LOGGED = _judges(
    "LOOP_LOGGED",
    2e-5,
    "relative",
    "convention: sums of a few losses in float32, as a Trainer adds them up for its log",
    "python -m benchmarks.faults.trainers",
)
