"""The signer: keys and their states, denial chain, signatures, the key plan of a zone."""
