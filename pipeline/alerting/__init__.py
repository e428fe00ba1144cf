"""From what watching found to people: incidents that open, go on and end; messages that wait on disk until they are taken.

objective  how fast the budget on quality burns: what pages
alert      one alert in the words that all receivers share
state      incidents, window after window; pure
book       the folder that keeps them
receivers  who is told, and each in its own words
outbox     delivery: at least once, the same key
guard      what drift does to training: wakes it, or blocks it
textfile   metrics for Prometheus, the dead-man's switch among them
warning    the act itself
"""
