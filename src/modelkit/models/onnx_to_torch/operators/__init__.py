"""The translations, one file per family of operators. Importing this package registers them all."""

from . import (  # noqa: F401
    activation,
    arithmetic,
    attention,
    convolution,
    generator,
    indexing,
    integer_arithmetic,
    linear_algebra,
    normalization,
    padding,
    pooling,
    quantization,
    recurrent,
    reduction,
    resize,
    sequence,
    shape,
    shape_arithmetic,
    unary,
)
