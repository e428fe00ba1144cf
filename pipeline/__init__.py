"""How the line is run: stages in order, the shell around them, the acts at its ends, the adapters to runners."""
