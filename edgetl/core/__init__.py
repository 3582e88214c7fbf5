"""What every room may import: errors, the store, this machine, statistics, words, child processes."""
