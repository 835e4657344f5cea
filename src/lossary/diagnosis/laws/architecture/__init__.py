"""Which forward function does a side compute? Its logits, held against the arbiter's with each known fault put in.

    observation = Observation(parameters=probe, feed=feed, mlm=mlm, sop=sop, noise={"mlm": 3e-7})
    fit = identify_architecture([observation], Architecture.of(shape))
    fit.best.names, fit.best.values          # ("heads",), {"heads": 32}
    fit.architecture                         # the reference with it put in

Nothing here knows a fault by a detector of its own: `settings` are points of a space, `search` moves in it, `evidence`
says how near is near enough, `precision` looks at what rounding does. Ask with probe weights (`diagnosis.probes`), in
which every setting matters; weights of small variance show ε.
"""

from lossary.diagnosis.laws.architecture.evidence import Observation
from lossary.diagnosis.laws.architecture.identify import ArchitectureFit, identify_architecture, stage_distances
from lossary.diagnosis.laws.architecture.settings import Setting, settings_of

__all__ = [
    "ArchitectureFit",
    "Observation",
    "Setting",
    "identify_architecture",
    "settings_of",
    "stage_distances",
]
