"""The search for settings that reproduce a side: singles, then pairs and triples grown from the best.

    search = Search(observations, tolerances, architecture, settings)
    for trials in search.found():              # of one fault, then of two, …
        trials[0].settings, trials[0].residual

It is led by a few examples of each observation, and by the side's own results stage by stage where it shows them: a
stage run from the side's input differs only by that stage's settings. What it finds is confirmed on all examples, from
the feed to the logits.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lossary.diagnosis.calibration import AS_GOOD
from lossary.diagnosis.calibration import SETTING_LEAST_GAIN as _LEAST_GAIN
from lossary.diagnosis.laws.architecture.evidence import Observation, Tolerances, deviation, scored
from lossary.diagnosis.laws.architecture.settings import Setting
from lossary.diagnosis.laws.architecture.walk import STAGE_FIELDS, Key, Walker
from lossary.models.arbiter import Architecture, Arithmetic, Precision

__all__ = ["Search", "Side", "Trial", "few_rows", "values_of"]

_ROWS = 4
_BEAMS = (1, 4, 3)  # trials that singles, pairs and triples are grown from
_TOLD = 6  # of a size, though they are far off
_NEAR = 4.0  # a few examples further off than this do not come within the tolerance with the rest
_FIRST_EPSILONS = (1e-3, 1e-6)
_SMALLEST, _LARGEST = 1e-14, 10.0  # ε
_STEPS = 15
_NUDGE = 1e-3  # relative, for the derivative by ε
_GAIN = 0.99  # a step that lowers the differences to no less than this share is the last
_SLACK = 0.05  # by which one observation may get worse before a setting is not tried on others
_RESCUED = 30.0  # rounding of other settings is not larger by more than this, or it is no rounding


@dataclass(frozen=True, kw_only=True)
class Trial:
    """Settings put in together, and what is left."""

    settings: tuple[Setting, ...]
    residual: float  # worst over outputs and observations, in units of the tolerance
    inside: float  # the same of the stages that the side shows; 0 without any


class Side:
    """One observation beside the arbiter: deviations in units of the tolerance, for any settings."""

    def __init__(self, observation: Observation, tolerances: Tolerances) -> None:
        self.observation = observation
        self._answers = observation.answers()
        self._tolerances = tolerances
        self._walker = Walker(observation.parameters, observation.feed, observation.activations, Arithmetic())
        self._seen: dict[tuple[str, Key], float] = {}

    @property
    def shows_stages(self) -> bool:
        """Whether there is more than logits."""
        return bool(self.observation.activations)

    def outputs(self, architecture: Architecture, tolerances: Tolerances | None = None) -> dict[str, float]:
        """Of the logits, from the feed."""
        found = self._walker.outputs(architecture)
        allowed = (tolerances or self._tolerances).outputs
        return {
            name: _ratio(self._deviation(name, *found[name], self._answers[name]), allowed[name])
            for name in self._answers
        }

    def differences(self, architecture: Architecture) -> NDArray[np.float64]:
        """Arbiter less side, of everything that `stages` or else `outputs` looks at, each in units of its tolerance."""
        shown = {**self.observation.activations, **self._answers}
        whole = not self.shows_stages
        found = self._walker.outputs(architecture) if whole else self._walker.stages(architecture)
        allowed = self._tolerances.outputs if whole else self._tolerances.stages
        feed, parts = self.observation.feed, []
        for name, (_, value) in found.items():
            if name in shown and allowed.get(name, 0.0) > 0.0:
                part = scored(feed, name, value) - scored(feed, name, shown[name])
                parts.append(part.ravel() / (allowed[name] * np.sqrt(max(1, part.size))))
        return np.concatenate(parts) if parts else np.zeros(1)

    def stages(self, architecture: Architecture) -> dict[str, float]:
        """Of every stage that the side shows, logits included, from the side's own results before it."""
        shown = {**self.observation.activations, **self._answers}
        found = self._walker.stages(architecture)
        allowed = self._tolerances.stages
        return {
            name: _ratio(self._deviation(name, *result, shown[name]), allowed.get(name, 0.0))
            for name, result in found.items()
            if name in shown and name in allowed
        }

    def _deviation(self, name: str, key: Key, ours: NDArray[Any], theirs: NDArray[Any]) -> float:
        if (name, key) not in self._seen:
            feed = self.observation.feed
            self._seen[name, key] = deviation(scored(feed, name, theirs), scored(feed, name, ours))
        return self._seen[name, key]


def _ratio(difference: float, tolerance: float) -> float:
    if difference == 0.0:
        return 0.0
    return difference / tolerance if tolerance > 0.0 else np.inf


def few_rows(observation: Observation) -> Observation:
    """The examples that show most: the longest, the shortest, and some between."""
    lengths = observation.feed.attention_mask.sum(axis=1)
    order = np.argsort(lengths, kind="stable")
    chosen = np.unique(np.linspace(0, len(order) - 1, min(_ROWS, len(order))).round().astype(np.intp))
    return observation.rows(np.sort(order[chosen]))


class _Scored(NamedTuple):
    settings: tuple[Setting, ...]
    scores: tuple[float, ...]  # of each observation: the sum of the logarithms of its deviations
    worst: float  # deviation, in units of the tolerance

    @property
    def score(self) -> float:
        """What the search lowers: each fault that is put right does, whatever else is wrong."""
        return sum(self.scores)


class Search:
    """See the module."""

    def __init__(
        self,
        sides: Sequence[Side],
        tolerances: Sequence[Tolerances],
        architecture: Architecture,
        settings: Sequence[Setting],
        precision: Precision,
    ) -> None:
        self._whole = sides
        self._few = [Side(few_rows(side.observation), found) for side, found in zip(sides, tolerances, strict=True)]
        self._base = architecture
        # Those that touch the heads alone come first: what lies before is still at hand.
        self._settings = sorted(settings, key=_touches_encoder)
        self._precision = precision

    def with_settings(self, settings: Iterable[Setting]) -> Architecture:
        """The architecture with faults put in."""
        changes: dict[str, Any] = {}
        for setting in settings:
            changes |= setting.changes
        return replace(self._base, **changes)

    def found(self) -> Iterator[list[Trial]]:
        """Trials of one fault, of two, of three, each closest first, until some reproduce the side."""
        untouched = self._scored(())
        grown = [untouched] if untouched is not None else []
        for beam in _BEAMS:
            grown = self._grown(grown[:beam])
            near = [one for one in grown if one.worst <= _NEAR]
            these = [self._confirmed(one.settings) for one in near]
            far = [one for one in grown[:_TOLD] if one.worst > _NEAR]
            yield these + [Trial(settings=one.settings, residual=one.worst, inside=one.worst) for one in far]
            if not grown or any(trial.residual <= 1.0 for trial in these):
                break

    def _grown(self, parents: Sequence[_Scored]) -> list[_Scored]:
        """Each of the leading trials with one more fault that improves it, best first."""
        made: dict[Architecture, _Scored] = {}
        for parent in parents:
            taken = {field for setting in parent.settings for field in setting.changes}
            for setting in self._settings:
                if not taken.isdisjoint(setting.changes):
                    continue
                settings = (*parent.settings, setting)
                one = self._fitted(settings, parent) if setting.fitted else self._scored(settings, parent)
                # A fault that changes nothing here explains nothing.
                if one is not None and one.score < parent.score - _LEAST_GAIN:
                    made.setdefault(self.with_settings(one.settings), one)
        ranked = sorted(made.values(), key=lambda one: one.score)
        leading = [self._fitted_again(one) for one in ranked[:_TOLD]]
        return sorted([*leading, *ranked[_TOLD:]], key=lambda one: one.score)

    def _scored(self, settings: tuple[Setting, ...], parent: _Scored | None = None) -> _Scored | None:
        """On few examples; None where an observation is clearly further off than with the parent's settings."""
        architecture = self.with_settings(settings)
        scores, worst = [], 0.0
        for number, side in enumerate(self._few):
            found = side.stages(architecture) if side.shows_stages else side.outputs(architecture)
            # Far below the tolerance nothing is to be won; what is no number is as bad as can be.
            ratios = np.clip(np.nan_to_num(list(found.values()), nan=1e12, posinf=1e12), 0.0, 1e12)
            scores.append(float(np.log(ratios + 0.1).sum()))
            worst = max(worst, float(ratios.max(initial=0.0)))
            if parent is not None and scores[-1] > parent.scores[number] + _SLACK * len(ratios):
                return None
        return _Scored(settings, tuple(scores), worst)

    def _fitted_again(self, one: _Scored) -> _Scored:
        """With what came after an ε taken into account."""
        kinds = [setting.fitted for setting in one.settings]
        return self._fitted(one.settings, one) or one if any(kinds[:-1]) else one

    def _fitted(self, settings: tuple[Setting, ...], parent: _Scored) -> _Scored | None:
        """With every ε fitted to the differences by Gauss and Newton's method; None if it is no better than the parent.

        A round number is taken where it does as well.
        """
        places = [number for number, setting in enumerate(settings) if setting.fitted]

        def at(epsilons: NDArray[np.float64]) -> tuple[Setting, ...]:
            changed = list(settings)
            for place, epsilon in zip(places, epsilons, strict=True):
                changed[place] = settings[place].at(float(epsilon))
            return tuple(changed)

        starts = [
            np.array([settings[place].values.get("epsilon", first) for place in places]) for first in _FIRST_EPSILONS
        ]
        values = min(starts, key=lambda start: float(np.linalg.norm(self._differences(at(start)))))
        best, size = values, np.inf
        for _ in range(_STEPS):
            start = self._differences(at(values))
            if np.linalg.norm(start) > _GAIN * size:
                break
            best, size = values, float(np.linalg.norm(start))
            values = self._stepped(at, values, start)
        fitted = self._scored(at(best))
        if fitted is None or fitted.score >= parent.score:
            return None
        for digits in (0, 1, 2):
            rounded = self._scored(at(np.array([float(f"{value:.{digits}e}") for value in best])))
            if (
                rounded is not None
                and rounded.worst <= max(1.0, AS_GOOD * fitted.worst)
                and rounded.score < parent.score
            ):
                return rounded
        return fitted

    def _stepped(
        self,
        at: Callable[[NDArray[np.float64]], tuple[Setting, ...]],
        values: NDArray[np.float64],
        start: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """One step of all ε. Differences are near linear in an ε that is small beside the variance."""
        slopes = []
        for number, value in enumerate(values):
            nudged = values.copy()
            nudged[number] = value * (1.0 + _NUDGE)
            slopes.append((self._differences(at(nudged)) - start) / (value * _NUDGE))
        moved = values - np.linalg.lstsq(np.stack(slopes, axis=1), start)[0]
        moved = np.where(moved > 0.0, moved, values * 1e-3)
        return np.clip(np.minimum(moved, values * 100.0), _SMALLEST, _LARGEST)

    def _differences(self, settings: tuple[Setting, ...]) -> NDArray[np.float64]:
        architecture = self.with_settings(settings)
        return np.concatenate([side.differences(architecture) for side in self._few])

    def _confirmed(self, settings: tuple[Setting, ...]) -> Trial:
        """On all examples; where it just fails, in units of the rounding of a model that has these settings."""
        architecture = self.with_settings(settings)
        residual = max((max(side.outputs(architecture).values()) for side in self._whole), default=0.0)
        if 1.0 < residual < _RESCUED:
            residual = min(residual, self._against_own_rounding(architecture))
        inside = max(
            (max(side.stages(architecture).values(), default=0.0) for side in self._whole if side.shows_stages),
            default=0.0,
        )
        return Trial(settings=settings, residual=residual, inside=inside)

    def _against_own_rounding(self, architecture: Architecture) -> float:
        """Worst deviation in units of the tolerance of these settings; infinite if the untouched model is within it."""
        worst, untouched = 0.0, 0.0
        comparisons = sum(len(side.observation.answers()) for side in self._whole)
        for side in self._whole:
            own = Tolerances.measured(side.observation, architecture, self._precision, comparisons)
            worst = max(worst, *side.outputs(architecture, own).values())
            untouched = max(untouched, *side.outputs(self._base, own).values())
        return worst if untouched > 1.0 else np.inf


def _touches_encoder(setting: Setting) -> bool:
    return not set(setting.changes) <= _HEAD_FIELDS


_HEAD_FIELDS = {"head_activation"} | {
    field for stage in ("pooled", "mlm_hidden", "mlm", "sop") for field in STAGE_FIELDS[stage]
} - {"norm"}


def values_of(settings: Sequence[Setting]) -> Mapping[str, Any]:
    """What was fitted, in one dict; a key that two faults share is told apart by their names."""
    result: dict[str, Any] = {}
    for setting in settings:
        for key, value in setting.values.items():
            others = [other.values[key] for other in settings if other is not setting and key in other.values]
            result[key if all(other == value for other in others) else f"{setting.slug}.{key}"] = value
    return result
