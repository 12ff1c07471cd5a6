"""When drift is an alarm: three windows in a row that nothing but drift explains."""

from dataclasses import dataclass

WINDOWS_IN_A_ROW = 3


@dataclass(frozen=True)
class AlarmState:
    """`windows_above`: how many windows in a row, up to the last one, were above the threshold;
    `alarms`: how often that has reached three since the start.
    """

    windows_above: int = 0
    alarms: int = 0

    @property
    def is_on(self) -> bool:
        """Whether there is cause for alarm now."""
        return self.windows_above >= WINDOWS_IN_A_ROW

    def after(self, kl_bits: float, threshold: float) -> "AlarmState":
        """The state once another window has come to this."""
        above = self.windows_above + 1 if kl_bits > threshold else 0
        return AlarmState(above, self.alarms + (above == WINDOWS_IN_A_ROW))
