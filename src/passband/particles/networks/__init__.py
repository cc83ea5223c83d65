"""The invariant classifier, the autoencoders, and what they are trained with."""
