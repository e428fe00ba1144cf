"""What a row is: the schema that people write, and the raw, clean and served logs that hold the rows.

Inside the system every row carries, beside its fields under their own names, the columns

    _row         Int64   the row's number in the clean log (after sorting by time), from 0
    _time        Int64   microseconds since 1970 UTC; the source's row number where the log has no time
    _click       Int8    0 or 1
    _impression  String  the impression's key; null where the schema declares none

Categorical fields are String, numeric ones Float64; a missing value is null in both.

columns  the names of these four, and moments as microseconds
schema   what a log's own columns mean
request  what a run asks of the world: a log and a window of it
raw      the artifact raw_log: the files as they were fetched
clean    the artifact clean_log: the rows that keep every promise, and the account of the others
served   the artifact served_log: rows with the scores that the world was given
"""

from components.log.clean import CheckReport, CheckResult, CleanLog
from components.log.columns import CLICK, IMPRESSION, MICROSECONDS_AN_HOUR, PART, ROW, TIME, microseconds, moment_of
from components.log.raw import Partition, RawLog
from components.log.request import LogRequest, SourceParams, Window
from components.log.schema import Field, LogSchema, TimeColumn
from components.log.served import SERVED_BUNDLE, SERVED_SCORE, UNREADABLE, ServedLog, Unreadable

__all__ = [
    "CLICK",
    "IMPRESSION",
    "MICROSECONDS_AN_HOUR",
    "PART",
    "ROW",
    "SERVED_BUNDLE",
    "SERVED_SCORE",
    "TIME",
    "UNREADABLE",
    "CheckReport",
    "CheckResult",
    "CleanLog",
    "Field",
    "LogRequest",
    "LogSchema",
    "Partition",
    "RawLog",
    "ServedLog",
    "SourceParams",
    "TimeColumn",
    "Unreadable",
    "Window",
    "microseconds",
    "moment_of",
]
