import torch
from torch import Tensor
def psnr(a: Tensor, b: Tensor) -> Tensor:
    return 10*torch.log10(4/((a-b).square().mean((1,2,3))+1e-12))
