"""What the rows behind a bundle looked like when it was packed: the reference that served rows are held against later.

Stands between the scorer and the champion in the data's way and is torch-free. A profile is a few hundred KB: counts by
hour of the day, so that later like can be compared with like, and a small folded sample for people to look at.
"""

from components.profiling.binning import Binning, FieldBins
from components.profiling.profile import ProfileParams, ReferenceProfile, build_profile
from components.profiling.tally import Tally, count_rows

__all__ = [
    "Binning",
    "FieldBins",
    "ProfileParams",
    "ReferenceProfile",
    "Tally",
    "build_profile",
    "count_rows",
]
