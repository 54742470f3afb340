import io
from PIL import Image, ImageOps
import torch
def picture_files(p): return sorted(x for x in p.rglob('*') if x.suffix.lower() in ('.png','.webp','.jpg','.jpeg','.gif') and not x.name.startswith('.'))
def read_picture(data,name):
    return Image.open(io.BytesIO(data)).convert('RGB')
def to_tensor(im): return torch.frombuffer(bytearray(im.tobytes()),dtype=torch.uint8).view(im.height,im.width,3).permute(2,0,1).contiguous()
def fit(im,size,how): return im if im.size==(size,size) else ImageOps.fit(im,(size,size),Image.LANCZOS)
