"""Logit -> score: a calibrator fitted on the calibrate split; stands between the ranker and the scorer. No torch here.

params      which map, how it is chosen, and how the scorer runs
calibrator  the map, as part of an artifact: the exact correction of negative downsampling, then one of four
fitting     the fits
choosing    the choice among them, by cross-fitted log loss over blocks of time
"""

from components.calibrating.calibrator import CalibrationFacts, Calibrator, Floats, correct_downsampling, sigmoid
from components.calibrating.choosing import choose, cross_fit, fit_calibrator
from components.calibrating.fitting import fit_isotonic, fit_platt, fit_spline
from components.calibrating.params import METHODS, CalibrateParams, Method

__all__ = [
    "METHODS",
    "CalibrateParams",
    "CalibrationFacts",
    "Calibrator",
    "Floats",
    "Method",
    "choose",
    "correct_downsampling",
    "cross_fit",
    "fit_calibrator",
    "fit_isotonic",
    "fit_platt",
    "fit_spline",
    "sigmoid",
]
