"""The array libraries that nnx runs on: one small module each, without mathematics.

The folder is published as the package `nnx_backends`. nnx finds its classes through the entry-point
group `nnx.backends`, as it finds the backends of third parties.
"""
