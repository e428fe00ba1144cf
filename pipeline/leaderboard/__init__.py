"""Any set of rankers under one protocol: trained, calibrated and measured on the same encoded splits, as one table.

params     what the board draws and tries
bench      what every task reads, and the identity that its result is kept by
searches   the search that a seed of a searched row begins with
autorec    the searches of AutoRec's space
work       one (ranker, seed): its identity, its training, its figures; a process of its own
results    what such a process leaves behind, kept by identity
running    the processes: several at once, resumed, one failing without the others
tuning     a few trials a ranker, on tune alone
planted    yardsticks of a simulated log: the oracle, and logistic regression that is given the planted terms
comparing  means over seeds, and which differences are beyond noise
table      the board as Markdown, CSV and JSON
page       the board as one HTML page with drawings
asked      which rows and seeds a board is asked for
board      all of it together, and the files it leaves
"""
