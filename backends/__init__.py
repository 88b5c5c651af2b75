"""The array libraries nnx runs on, one small module each and no mathematics in any of them.

The folder is published as the package `nnx_backends`; nnx finds its classes by name through the
entry-point group `nnx.backends`, the same door that a third party's backend uses.
"""
