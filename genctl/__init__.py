"""genctl: every family of generative image model, trained and sampled by the same few commands."""

__version__ = "0.1.0"
