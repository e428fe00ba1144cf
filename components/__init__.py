"""What is computed: pure code in the order of the data's way, free of network, environment and runner."""
