"""Numbers as somebody printed them: known to half a unit of their last digit.

Printed.of("51.52", "mlm_accuracy")          # 0.5152 ± 0.00005: percent
Printed.of("4.04").fits(4.0449)              # True
"""

import re
from dataclasses import dataclass
from typing import Self

__all__ = ["Printed"]

_NUMBER = re.compile(r"[+-]?(\d*)(?:\.(\d*))?(?:[eE]([+-]?\d+))?")


@dataclass(frozen=True, kw_only=True)
class Printed:
    """A value, and what rounding may have taken from it."""

    value: float
    rounding: float  # half a unit of the last digit
    digits: int  # significant ones

    @classmethod
    def of(cls, given: "Printed | str | float", metric: str = "") -> Self:
        """From text as "4.04" or "51.5 %"; from a float all digits that it shows. ValueError if it is no number.

        An accuracy above 1 is taken for percent.
        """
        if isinstance(given, Printed):
            return cls(value=given.value, rounding=given.rounding, digits=given.digits)
        text = str(given).strip().replace(",", "").replace("−", "-")
        percent = text.endswith("%")
        text = text.removesuffix("%").strip()
        found = _NUMBER.fullmatch(text)
        if found is None or not (found[1] or found[2]):
            raise ValueError(f"{given!r} is no number")
        value, exponent = float(text), int(found[3] or 0)
        decimals = found[2] or ""
        rounding = 0.5 * 10.0 ** (exponent - len(decimals))
        digits = len((found[1] + decimals).lstrip("0")) or 1
        if percent or (metric.endswith("accuracy") and value > 1):
            value, rounding = value / 100, rounding / 100
        return cls(value=value, rounding=rounding, digits=digits)

    def fits(self, value: float) -> bool:
        """Whether a number may have been printed so; a last place of float64 is given."""
        return abs(value - self.value) <= self.rounding * (1 + 1e-9) + 1e-12
