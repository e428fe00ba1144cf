"""Fit a ranker's weights on train, stop on tune: encoded rows (and an architecture) -> TrainedRanker."""

from __future__ import annotations

from components.training.course import Course, EpochRecord
from components.training.members import train_ranker
from components.training.params import TrainParams
from components.training.trained import AUTOPI, Member, TrainedRanker, build_ranker

__all__ = ["AUTOPI", "Course", "EpochRecord", "Member", "TrainParams", "TrainedRanker", "build_ranker", "train_ranker"]
