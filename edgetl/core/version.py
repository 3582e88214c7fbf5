"""The version: of the package, of bundles, and of the wheel that boards are sent."""

__version__ = "0.1.0"
