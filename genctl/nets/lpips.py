import torch
import torch.nn.functional as F
from torch import Tensor, nn
class Lin(nn.Module):
    def __init__(s,c):
        super().__init__(); s.weight=nn.Parameter(torch.zeros(c))
class LPIPS(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1=nn.Conv2d(3,64,11,4,2);self.conv2=nn.Conv2d(64,192,5,padding=2);self.conv3=nn.Conv2d(192,384,3,padding=1)
        self.conv4=nn.Conv2d(384,256,3,padding=1);self.conv5=nn.Conv2d(256,256,3,padding=1)
        for i,c in enumerate((64,192,384,256,256),1): setattr(self,f'lin{i}',Lin(c))
        self.register_buffer('s',torch.tensor([-.030,-.088,-.188])[:,None,None],persistent=False);self.register_buffer('d',torch.tensor([.458,.448,.450])[:,None,None],persistent=False)
    def features(self,x):
        if min(x.shape[-2:])<64: x=F.interpolate(x,size=(64,64),mode='bilinear')
        x=(x-self.s)/self.d; out=[]
        for i in range(1,6):
            if i in (2,3): x=F.max_pool2d(x,3,2)
            x=F.relu(getattr(self,f'conv{i}')(x)); out.append(x)
        return out
    def forward(self,a,b):
        with torch.no_grad(): fb=self.features(b)
        r=0
        for i,(f,g) in enumerate(zip(self.features(a),fb),1):
            f,g=f.float(),g.float()
            f=f/(f.square().sum(1,keepdim=True).sqrt()+1e-10);g=g/(g.square().sum(1,keepdim=True).sqrt()+1e-10)
            r=r+((f-g).square()*getattr(self,f'lin{i}').weight[:,None,None]).sum(1).mean((1,2))
        return r
