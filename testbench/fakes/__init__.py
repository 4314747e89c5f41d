"""Stand-ins for services that one machine cannot run: Google's APIs, a node's metadata, the model hub.

They answer the protocol that the real clients speak and keep the rules that the services keep; what they
cannot show is listed in docs/fidelity.md.
"""
