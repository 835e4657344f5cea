"""Which update law a side follows: its steps from known gradients, fitted to a space of laws.

    fit = identify_update(observation, law, rates=rates)
    fit.equal                        # the declared law, within rounding
    fit.best.names, fit.best.values  # ("epsilon-placement", "epsilon-value"), {"placement": "hat", "epsilon": 1e-07, …}

The search starts from the declared law and changes single settings, then pairs of them, then more, until a law
reproduces the side; continuous settings (ε, β, decay, bounds, rate) are fitted by Gauss-Newton steps that are robust
against what another fault spoils. It runs on small parameters, in full, because LAMB's ratio needs a whole one; what
reproduces them is held against all.

Read directly, without search: parameters that never move, weights on a coarser grid than float32's.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lossary.diagnosis.fit import Candidate, Fit
from lossary.diagnosis.laws.update_arrays import on_grid
from lossary.diagnosis.laws.update_evidence import Evidence, UpdateObservation
from lossary.diagnosis.laws.update_moves import continuous, known_laws, trials
from lossary.diagnosis.laws.update_names import candidate_of
from lossary.diagnosis.laws.update_same import is_usual, same_laws
from lossary.diagnosis.laws.update_search import Search, with_step_factors
from lossary.diagnosis.laws.update_space import Grid, LawSettings, preset
from lossary.models.update_laws import UpdateLaw

__all__ = ["identify_update"]

_WIDTH = 6  # laws from which the next level starts
_SINGLES = 8  # choices from which all continuous settings are fitted together
_ALIKE = 2  # of these, that change the same settings
_CONFIRMED_AT_MOST = 16  # of a level, held against all parameters
_REFINED_AT_MOST = 2  # of these, fitted to all parameters where a sample is not enough
_SHOWN = 8  # candidates that did not reproduce the side
_COARSE: tuple[Grid, ...] = ("bfloat16", "float16")
_SAME = ("gradient_scale", "bound", "epsilon", "decay", "rate_scale")  # what laws of the same steps may differ in


@dataclass(frozen=True, kw_only=True)
class _Node:
    settings: LawSettings
    changed: frozenset[str] = frozenset()  # groups of settings
    fitted: tuple[str, ...] = ()
    other: str | None = None


def identify_update(
    observation: UpdateObservation,
    law: UpdateLaw | LawSettings,
    *,
    rates: Sequence[float],
    declared: Mapping[str, Any] | None = None,
    max_faults: int = 3,
) -> Fit:
    """The law that a side follows, as changes of the declared one.

    `rates` are those of the steps, `declared` what the side means to do otherwise (see `LawSettings.of`). Up to
    `max_faults` settings are changed together. ValueError if the observation does not fit together.
    """
    settings = law if isinstance(law, LawSettings) else LawSettings.of(law, declared)
    evidence = Evidence.of(observation, rates).measured(settings)
    roots = _roots(evidence, settings)
    distance = min(evidence.distance(root) for root in roots)
    how = _how(evidence, observation)
    if distance <= 1:
        return Fit(distance=distance, tried=(), how=how)
    identification = _Identification(evidence, settings, roots)
    return Fit(distance=distance, tried=identification.run(max_faults), how=how)


def _roots(evidence: Evidence, settings: LawSettings) -> list[LawSettings]:
    """The declared law; of a late first step twice, since t of the corrections may be the step's number or not."""
    if evidence.first == 0 or not (settings.correct_m or settings.correct_v):
        return [settings]
    return [settings, replace(settings, counts="steps")]


def _how(evidence: Evidence, observation: UpdateObservation) -> str:
    parts = ["1 ulp of each weight", f"rounding of a step measured in float32 ({evidence.roundings:.1f} half ulps)"]
    if observation.rerun is not None:
        parts.append("the side's own rerun")
    if still := int(np.sum(evidence.rates == 0)):
        parts.append(f"{still} of {len(evidence.rates)} steps have rate 0 and show nothing")
    return "; ".join(parts)


class _Identification:
    """One search over laws."""

    def __init__(self, evidence: Evidence, declared: LawSettings, roots: list[LawSettings]) -> None:
        coarse = self._coarse(evidence, declared)
        if coarse is not None:
            evidence = evidence.kept_in(coarse)
            roots = [replace(root, grid=coarse) for root in roots]
        frozen = self._frozen(evidence, roots[0])
        roots = [replace(root, frozen=frozen) for root in roots]
        self.declared = declared
        self.full = Search.on_all(evidence)
        self.some = Search.on_some(evidence)
        self.roots = [_Node(settings=root) for root in roots]
        self.found: dict[tuple[str | None, LawSettings], Candidate] = {}

    @staticmethod
    def _coarse(evidence: Evidence, declared: LawSettings) -> Grid | None:
        """The lower precision in which all weights after each step are."""
        if declared.grid != "float32" or not np.any(evidence.observed):
            return None
        return next((grid for grid in _COARSE if on_grid(evidence.after, grid)), None)

    @staticmethod
    def _frozen(evidence: Evidence, declared: LawSettings) -> frozenset[str]:
        """Parameters that should have moved and never did, unless none did."""
        still = evidence.sums(np.abs(evidence.observed).sum(axis=0)) == 0
        if still.all():
            return frozenset()
        predicted = np.abs(evidence.predict(declared).change) > 2 * evidence.ulp
        should = evidence.sums(predicted.sum(axis=0).astype(np.float64)) > 0
        return frozenset(name for name, stuck in zip(evidence.names, still & should, strict=True) if stuck)

    def run(self, max_faults: int) -> tuple[Candidate, ...]:
        """Levels of ever more changes, until one has a law that reproduces the side."""
        if any(root.settings != self.declared for root in self.roots):
            self._confirm(self.roots)
        self._confirm(self._picked_in_full())
        beam = self.roots
        # Where the small parameters do what is declared, they say nothing about the large ones.
        levels = 0 if any(self.some.distance(root.settings) <= 1 for root in self.roots) else max_faults
        singles: list[_Node] = []
        for level in range(levels):
            children = [child for node in beam for child in self._children(node)]
            singles = singles or [node for node in children if node.fitted in ((), ("bound",))]
            if level == 1:
                children += self._known()
            beam = self._leading(children)
            self._confirm(beam)
            if self._reproduced():
                break
        if levels and not self._reproduced():
            singles.sort(key=lambda node: self.some.loss(node.settings))
            beam = self._jointly([*self.roots, *singles[:_SINGLES], *beam])
            self._confirm(beam)
        if levels and not self._reproduced():
            self._confirm(self._leading([child for node in beam[:2] for child in self._children(node)]))
        if not self._reproduced():
            self._confirm(self._with_step_factors([*self.roots, *beam]))
        return self._ordered()

    def _children(self, node: _Node) -> Iterable[_Node]:
        for trial in trials(node.settings, node.changed, self.some.seen_by(node.settings)):
            settings = self.some.best(trial)
            if settings != node.settings:
                yield _Node(
                    settings=settings,
                    changed=node.changed.union(trial.groups),
                    fitted=node.fitted + trial.fitted,
                    other=trial.other or node.other,
                )

    def _picked_in_full(self) -> Iterable[_Node]:
        """Which parameters decay or are adapted: of large ones, too."""
        for node in self.roots:
            for kind in ("decayed", "adapted"):
                if (kind == "decayed" and node.settings.decay) or (
                    kind == "adapted" and node.settings.family == "lamb"
                ):
                    settings = self.full.picked(node.settings, kind)
                    if settings != node.settings:
                        yield _Node(settings=settings, changed=frozenset([kind]))

    def _known(self) -> Iterable[_Node]:
        for other, law in known_laws(self.declared):
            yield _Node(settings=replace(law, grid=self.roots[0].settings.grid), other=other)

    def _leading(self, nodes: list[_Node]) -> list[_Node]:
        """The laws that fit best, their continuous settings fitted together."""
        loss = self.some.loss
        ordered = sorted({(n.other, n.settings): n for n in nodes}.values(), key=lambda n: loss(n.settings))
        joint = [self._polished(node) if len(node.fitted) > 1 else node for node in ordered[: 3 * _WIDTH]]
        rest = [node for node in ordered[3 * _WIDTH :] if self.some.distance(node.settings) <= 1]
        unique = sorted({(n.other, n.settings): n for n in joint}.values(), key=lambda n: loss(n.settings))
        alike: Counter[frozenset[str]] = Counter()
        beam = []
        for node in unique:
            alike[node.changed] += 1
            if alike[node.changed] <= _ALIKE:
                beam.append(node)
        return [*beam[:_WIDTH], *rest]

    def _polished(self, node: _Node) -> _Node:
        return replace(node, settings=self.some.polish(node.settings, node.fitted))

    def _confirm(self, nodes: Iterable[_Node]) -> None:
        """Holds laws against all parameters."""
        for position, node in enumerate(list(nodes)[:_CONFIRMED_AT_MOST]):
            settings, residual = self._in_full(node, refined=position < _REFINED_AT_MOST)
            self._keep(node.other, settings, residual)
            if residual <= 1:
                for same in self._as_few(node.other, settings):
                    self._keep(node.other, same, self.full.distance(same))

    def _keep(self, other: str | None, settings: LawSettings, residual: float) -> None:
        if residual < self.found.get((other, settings), _WORST).residual:
            candidate = candidate_of(self.declared, settings, other=other, residual=residual)
            if candidate.names:
                self.found[(other, settings)] = candidate

    def _in_full(self, node: _Node, *, refined: bool) -> tuple[LawSettings, float]:
        """The law of a node and its distance, refined where large parameters say more than small ones."""
        exact, distance = node.settings, self.full.distance
        if node.fitted:
            exact = self.some.simplest(self.some.polish(exact, node.fitted), node.fitted, self.declared)
        if "clip" in node.changed and exact.clip != "none":
            # A bound that nothing reaches is none.
            without = replace(exact, clip="none", bound=1.0, clip_replicas=False)
            exact = without if self.some.distance(without) <= 1 else exact
        exact = self._fewest(node.other, exact)
        fitted = tuple(name for name in _SAME if getattr(exact, name) != getattr(self._plain(node.other), name))
        fitted = tuple(dict.fromkeys((*node.fitted, *fitted)))
        residual = distance(exact)
        if residual > 1 and refined and self.some.distance(exact) <= 1:
            for kind in ("decayed", "adapted"):
                if kind in node.changed:
                    exact = self.full.picked(exact, kind)
            exact = self.full.polish(exact, node.fitted, rounds=2) if node.fitted else exact
            residual = distance(exact)
        if residual <= 1 and fitted:
            exact = self.full.rounded(exact, fitted, self.declared)
            residual = distance(exact)
        if exact.decay == 0:
            # Where and of what nothing decays is no question.
            plain = self._plain(node.other)
            exact = replace(exact, decay_at=plain.decay_at, decayed=plain.decayed, decay_flips=plain.decay_flips)
        return exact, residual

    def _plain(self, other: str | None) -> LawSettings:
        return self.declared if other is None else preset(other, self.declared)

    def _fewest(self, other: str | None, settings: LawSettings) -> LawSettings:
        """Of the laws that take the same steps, the one with the fewest faults."""
        same = [settings, *same_laws(settings, self._plain(other), self.some.whole)]
        near = max(1.0, self.some.distance(settings))
        return min(
            (law for law in same if law is settings or self.some.distance(law) <= near),
            key=lambda law: self._count(other, law),
        )

    def _as_few(self, other: str | None, settings: LawSettings) -> Iterable[LawSettings]:
        """Laws that take the same steps and have no more faults: what this evidence does not tell apart."""
        fewest, replicas = self._count(other, settings), self.full.whole.gradients.shape[1]
        for law in same_laws(settings, self._plain(other), self.some.whole):
            factor = law.gradient_scale / self.declared.gradient_scale
            if self._count(other, law) <= fewest and (factor == 1 or is_usual(factor, replicas)):
                yield law

    def _count(self, other: str | None, settings: LawSettings) -> int:
        return len(candidate_of(self.declared, settings, other=other, residual=0.0).names)

    def _jointly(self, nodes: Iterable[_Node]) -> list[_Node]:
        """All continuous settings of some laws fitted together: faults that no path of single changes leads to."""
        made = []
        for node in nodes:
            fields = [name for name in continuous(node.settings) if name not in node.fitted]
            settings = self.some.all_fitted(node.settings, fields, together=(*fields, *node.fitted))
            made.append(replace(node, settings=settings, fitted=(*node.fitted, *fields)))
        return sorted(made, key=lambda node: self.some.loss(node.settings))[:_REFINED_AT_MOST]

    def _with_step_factors(self, nodes: Iterable[_Node]) -> Iterable[_Node]:
        for node in nodes:
            settings = with_step_factors(self.full.whole, node.settings)
            if settings is not None and "rate" not in node.changed:
                yield replace(node, settings=settings, fitted=())

    def _reproduced(self) -> bool:
        return any(candidate.reproduces for candidate in self.found.values())

    def _ordered(self) -> tuple[Candidate, ...]:
        """Fewest faults that reproduce first, then the closest."""
        ordered = sorted(
            self.found.values(),
            key=lambda c: (c.rank[:2], c.reproduces and _listed(c), c.residual),
        )
        reproducing = [c for c in ordered if c.reproduces]
        return (*reproducing, *[c for c in ordered if not c.reproduces][:_SHOWN])


def _listed(candidate: Candidate) -> int:
    """How many parameters a candidate tells apart: a rule before a list."""
    changes = candidate.values["changes"]
    return sum(len(changes.get(name, ())) for name in ("decay_flips", "adapt_flips"))


_WORST = Candidate(names=(), says="", residual=np.inf)
