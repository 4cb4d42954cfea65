"""Where a sample's arrays lie in its tar blocks: found once by `tarfile`, then compared with each further sample.

All samples of a bucket are laid out alike. Parsing a tar takes longer than reading one from the page cache, and holds
the interpreter's lock; comparing names, sizes and array headers at known places takes microseconds.
"""

from __future__ import annotations

import io
import tarfile
from dataclasses import dataclass

import numpy as np
import torch

# Of a tar header (POSIX ustar): the name from its first byte on, and the size as octal digits.
_SIZE_FIELD = slice(124, 136)


@dataclass(frozen=True)
class _Array:
    """One .npy file of a sample."""

    name: str
    """`latents` or `audio.NAME`"""
    header: int
    """offset of its tar header"""
    size_field: bytes
    npy_header: bytes
    """from the first byte after the tar header"""
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]

    @property
    def _content(self) -> int:
        return self.header + tarfile.BLOCKSIZE

    def lies_in(self, data: bytearray, key: str) -> bool:
        """Whether the sample `key` has an array of this name, size, shape and type here."""
        name = f"{key}.{self.name}.npy".encode() + b"\0"
        header, npy = data[self.header : self._content], len(self.npy_header)
        return (
            header.startswith(name)
            and header[_SIZE_FIELD] == self.size_field
            and data[self._content : self._content + npy] == self.npy_header
        )

    def tensor(self, data: bytearray) -> torch.Tensor:
        """The array as float32."""
        start = self._content + len(self.npy_header)
        count = int(np.prod(self.shape, dtype=np.int64))
        # torch widens float16 several times faster than numpy does.
        return torch.from_numpy(np.frombuffer(data, self.dtype, count, start).reshape(self.shape)).float()


@dataclass(frozen=True)
class SampleLayout:
    """Places of the arrays of a sample, for all samples that are laid out like it."""

    arrays: tuple[_Array, ...]
    size: int

    def fits(self, data: bytearray, key: str) -> bool:
        """Whether the arrays of the sample `key` lie where this says."""
        return len(data) == self.size and all(array.lies_in(data, key) for array in self.arrays)

    def tensors(self, data: bytearray) -> dict[str, torch.Tensor]:
        """`latents` and each `audio.NAME`, float32."""
        return {array.name: array.tensor(data) for array in self.arrays}


def layout_of(data: bytearray, key: str) -> SampleLayout:
    """The layout of the sample `key` from its tar blocks."""
    arrays = []
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
        for member in archive:
            if member.name.endswith(".npy"):
                stream = io.BytesIO(data[member.offset_data :][: member.size])
                np.lib.format.read_magic(stream)
                shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
                arrays.append(
                    _Array(
                        name=member.name.removeprefix(f"{key}.").removesuffix(".npy"),
                        header=member.offset_data - tarfile.BLOCKSIZE,
                        size_field=bytes(data[member.offset_data - tarfile.BLOCKSIZE :][_SIZE_FIELD]),
                        npy_header=stream.getvalue()[: stream.tell()],
                        shape=shape,
                        dtype=dtype,
                    )
                )
    return SampleLayout(tuple(arrays), len(data))
