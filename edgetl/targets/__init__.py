"""The devices that models are built for, and the files that ship on them."""
