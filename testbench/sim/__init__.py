"""A stand-in for vLLM; the files here go alone into an image."""
