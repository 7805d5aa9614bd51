"""An extension outside the package: one hypercall in Cython, one in C."""

from Cython.Build import cythonize
from setuptools import Extension, setup

import hvmx

extension = Extension("embedder", ["embedder.pyx", "checksum.c"], include_dirs=[hvmx.include_path()])

setup(name="embedder", ext_modules=cythonize([extension], language_level=3))
