"""The other methods of the field, each in a file with its source, on any trunk of :mod:`geodtr_lib.models.backbones`.

Which trunk a method stands on is an argument like any other, so that methods can be compared as methods.

Not reproduced: CDE (Toker et al., "Coming Down to Earth: Satellite-to-Street View Synthesis for Geo-Localization", CVPR 2021). It learns
retrieval together with the synthesis of street views by a generative adversarial network; no code of it is public, and the paper alone
does not settle how generator and discriminator are built and trained. A network of our own making under its name would show nothing about
it.
"""
