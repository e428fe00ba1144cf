"""What can go wrong, sorted by who can mend it; stands before everything else in the data's way.

    CtrError
      DataError       the data is not what was promised: a person must look      exit  3, never retried
      ConfigError     params or the environment are wrong: a person must edit    exit  2, never retried
      IntegrityError  bytes are not what was signed or recorded                  exit  6, never retried
      RaceError       another promotion came first: evaluate again               exit  7, the run is started anew
      OutsideError    something outside did not answer: waiting may help         exit 75, retried
      Stopped         asked to stop; a checkpoint was written first              exit 128 + signal, retried

A message says what, where, what was expected and what to do, with the numbers.
"""

from __future__ import annotations


class CtrError(Exception):
    """The root of every error this system raises on purpose."""

    exit_code: int = 1


class DataError(CtrError):
    """The data is not what was promised: a person must look."""

    exit_code: int = 3


class ConfigError(CtrError):
    """Params, command line or environment are wrong: a person must edit."""

    exit_code: int = 2


class IntegrityError(CtrError):
    """Bytes are not what was signed or recorded."""

    exit_code: int = 6


class RaceError(CtrError):
    """Another promotion came first: evaluate against the new champion."""

    exit_code: int = 7


class OutsideError(CtrError):
    """Something outside did not answer: waiting may help."""

    exit_code: int = 75


class Stopped(CtrError):  # noqa: N818 - a request that was granted, not an error of ours
    """A signal asked the work to stop, and it did, after a whole checkpoint."""

    def __init__(self, signal_number: int, where: str) -> None:
        super().__init__(f"stopped by signal {signal_number} {where}; run the same command again to go on from there")
        self.exit_code = 128 + signal_number


def shortened(text: str, num_characters: int) -> str:
    """A message's share of a text that may be long: at most so many characters, the last three of them dots where it is cut."""
    return text if len(text) <= num_characters else f"{text[: num_characters - 3]}..."
