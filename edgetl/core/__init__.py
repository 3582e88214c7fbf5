"""What every room may use: errors, the store, this machine, statistics, words, child processes."""
