"""Models small enough to be trained here, and the repositories that the fake hub offers."""
