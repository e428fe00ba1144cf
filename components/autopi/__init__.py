"""AutoPI: search for a network of interactions (Meng et al., SIGIR 2021); import the modules, nothing stands here."""
