"""The devices that models are built for, and which files ship on them."""
